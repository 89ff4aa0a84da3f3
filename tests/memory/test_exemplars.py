import numpy as np
import pytest
import torch

from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.exemplars import OVERHEAD, ExemplarMemory
from lifelong_ct.memory.selection.reservoir import Reservoir


def patch(seed: int, side: int = 6, noise: float = 50.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, noise, (1, side, side, side)).astype(np.int16)
    y = rng.integers(0, 3, (1, side, side, side), dtype=np.uint8)
    return torch.from_numpy(x), torch.from_numpy(y)


def memory(budget: int = 100_000, ledger: Ledger | None = None, seed: int = 0) -> ExemplarMemory:
    return ExemplarMemory(budget, Reservoir(), ledger or Ledger(), seed)


def contents(held: ExemplarMemory) -> set[tuple[str, str]]:
    return {(row["hospital"], row["case"]) for row in held.state_dict()["rows"]}


def test_patches_come_back_bit_equal() -> None:
    held = memory()
    x, y = patch(0)
    held.offer(x, y, "a", "case")
    back_x, back_y = held.sample(2, np.random.default_rng(0))
    assert back_x is not None
    assert back_y is not None
    assert torch.equal(back_x, torch.stack([x, x]))
    assert torch.equal(back_y, torch.stack([y, y]))
    assert (back_x.dtype, back_y.dtype) == (torch.int16, torch.uint8)


def test_extreme_voxels_and_wide_codes_come_back() -> None:
    held = memory()
    x = torch.tensor([-32768, 32767, -1024, 0], dtype=torch.int16).reshape(1, 1, 2, 2)
    y = torch.from_numpy(np.array([0, 255, 256, 65535], np.uint16).reshape(1, 1, 2, 2))
    held.offer(x, y, "a", "wide")
    narrow = torch.ones(1, 1, 2, 2, dtype=torch.uint8)
    held.offer(torch.zeros_like(x), narrow, "a", "narrow")
    back_x, back_y = held.sample(20, np.random.default_rng(0))
    assert back_x is not None
    assert back_y is not None
    assert back_y.dtype == torch.uint16
    wide = next(i for i in range(20) if torch.equal(back_x[i], x))
    assert torch.equal(back_y[wide].long(), y.long())


def test_float_voxels_are_refused() -> None:
    x, y = patch(0)
    with pytest.raises(TypeError, match="int16"):
        memory().offer(x.float(), y, "a", "case")


def test_bytes_are_those_stored_and_never_pass_the_budget() -> None:
    ledger = Ledger()
    held = memory(6000, ledger)
    for seed in range(60):
        side, noise = 2 + seed % 6, 10.0 * (seed % 4)
        held.offer(*patch(seed, side, noise), "a", f"case {seed}")
        blobs = held.state_dict()["blobs"]
        stored = sum(image.numel() + label.numel() for image, label in blobs)
        assert held.nbytes == stored + OVERHEAD * len(held) <= 6000
    assert ledger.held("exemplars") == ledger.held("ram") == 6000
    assert ledger.peak_used("exemplars") <= 6000
    assert len(held) > 1


def test_a_patch_larger_than_the_budget_is_told() -> None:
    with pytest.raises(LimitExceeded) as error:
        memory(300).offer(*patch(0), "a", "case")
    assert error.value.where == "memory.exemplars"


def test_the_budget_is_admitted_before_anything_is_stored() -> None:
    ledger = Ledger({"exemplars": 999})
    with pytest.raises(LimitExceeded):
        memory(1000, ledger)
    assert ledger.held("ram") == 0


def test_the_order_of_offers_does_not_matter() -> None:
    offers = [(*patch(seed, 3 + seed % 4), "a", f"case {seed}") for seed in range(12)]
    outcomes = set()
    for order in range(10):
        held = memory(3000)
        for i in np.random.default_rng(order).permutation(12):
            held.offer(*offers[i])
        outcomes.add(frozenset(contents(held)))
    assert len(outcomes) == 1


def test_what_is_offered_twice_is_kept_once() -> None:
    held = memory()
    for _ in range(3):
        held.offer(*patch(1), "a", "case")
    assert len(held) == 1


def test_samples_leave_out_a_hospital_and_are_uniform_over_the_rest() -> None:
    held = memory(1 << 20)
    for seed in range(8):
        held.offer(*patch(seed), "a" if seed < 4 else "b", str(seed))
    known = [patch(seed)[0] for seed in range(8)]
    x, _ = held.sample(800, np.random.default_rng(0), without="a")
    assert x is not None
    counts = np.array([int((x == one).flatten(1).all(1).sum()) for one in known])
    assert counts[:4].sum() == 0
    assert ((counts[4:] - 200) ** 2 / 200).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001
    assert memory().sample(3, np.random.default_rng(0)) == (None, None)


def test_remove_forgets_a_case_and_frees_its_bytes() -> None:
    ledger = Ledger()
    held = memory(1 << 20, ledger)
    for seed in range(6):
        held.offer(*patch(seed), "a", f"case {seed % 2}")
    before = held.nbytes
    assert held.remove("case 1") == 3
    assert contents(held) == {("a", "case 0")}
    assert held.nbytes < before
    assert held.remove("case 1") == 0
    x, _ = held.sample(50, np.random.default_rng(0))
    assert x is not None
    assert not any(torch.equal(one, patch(seed)[0]) for one in x for seed in (1, 3, 5))


def test_state_there_and_back_goes_on_as_before() -> None:
    whole, halves = memory(2500), memory(2500)
    for seed in range(8):
        whole.offer(*patch(seed, 5, 5.0 ** (seed % 4)), "a", f"case {seed}")
        halves.offer(*patch(seed, 5, 5.0 ** (seed % 4)), "a", f"case {seed}")
    fresh = memory(2500)
    fresh.load_state_dict(halves.state_dict())
    for seed in range(8, 16):
        whole.offer(*patch(seed, 5, 5.0 ** (seed % 4)), "b", f"case {seed}")
        fresh.offer(*patch(seed, 5, 5.0 ** (seed % 4)), "b", f"case {seed}")
    assert contents(fresh) == contents(whole)
    assert fresh.nbytes == whole.nbytes
    one, two = (m.sample(5, np.random.default_rng(3))[0] for m in (whole, fresh))
    assert one is not None
    assert two is not None
    assert torch.equal(one, two)


def test_a_state_that_is_larger_than_the_budget_is_refused() -> None:
    large, small = memory(), memory(500)
    for seed in range(5):
        large.offer(*patch(seed), "a", "case")
    with pytest.raises(CheckpointError, match="500"):
        small.load_state_dict(large.state_dict())
    assert len(small) == 0
