from collections.abc import Sequence
from dataclasses import replace

import blosc2
import numpy as np
import pytest
import torch
import xxhash

from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory import rows
from lifelong_ct.memory.exemplars import OVERHEAD, Exemplar, ExemplarMemory, Origin
from lifelong_ct.memory.pool import Pool
from lifelong_ct.memory.selection import Description, Descriptor
from lifelong_ct.memory.selection.reservoir import Reservoir

SHARING = dict.fromkeys(("a", "b", "c"), "patches")


def patch(seed: int, side: int = 6, noise: float = 50.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, noise, (1, side, side, side)).astype(np.int16)
    y = rng.integers(0, 3, (1, side, side, side), dtype=np.uint8)
    return torch.from_numpy(x), torch.from_numpy(y)


def memory(budget: int = 100_000, ledger: Ledger | None = None, seed: int = 0) -> ExemplarMemory:
    return ExemplarMemory(budget, Reservoir(), ledger or Ledger(), seed, SHARING)


def offer(held: ExemplarMemory, x: torch.Tensor, y: torch.Tensor, hospital: str, case: str) -> bool:
    return held.offer({"x": x, "y": y}, Origin(hospital, case, f"patient of {case}", (0, 8, -1)))


def contents(held: ExemplarMemory) -> set[tuple[str, str]]:
    return {(row["hospital"], row["case"]) for row in held.state_dict()["rows"]}


def test_patches_come_back_bit_equal() -> None:
    held = memory()
    x, y = patch(0)
    offer(held, x, y, "a", "case")
    back_x, back_y = held.sample(2, np.random.default_rng(0)).values()
    assert torch.equal(back_x, torch.stack([x, x]))
    assert torch.equal(back_y, torch.stack([y, y]))
    assert (back_x.dtype, back_y.dtype) == (torch.int16, torch.uint8)


def test_extreme_voxels_and_wide_codes_come_back() -> None:
    held = memory()
    x = torch.tensor([-32768, 32767, -1024, 0], dtype=torch.int16).reshape(1, 1, 2, 2)
    y = torch.from_numpy(np.array([0, 255, 256, 65535], np.uint16).reshape(1, 1, 2, 2))
    offer(held, x, y, "a", "wide")
    narrow = torch.ones(1, 1, 2, 2, dtype=torch.uint8)
    offer(held, torch.zeros_like(x), narrow, "a", "narrow")
    back_x, back_y = held.sample(20, np.random.default_rng(0)).values()
    assert back_y.dtype == torch.uint16
    wide = next(i for i in range(20) if torch.equal(back_x[i], x))
    assert torch.equal(back_y[wide].long(), y.long())


def test_float_voxels_are_refused() -> None:
    x, y = patch(0)
    with pytest.raises(TypeError, match="int16"):
        offer(memory(), x.float(), y, "a", "case")


def test_bytes_are_those_stored_and_never_pass_the_budget() -> None:
    ledger = Ledger()
    held = memory(6000, ledger)
    for seed in range(60):
        side, noise = 2 + seed % 6, 10.0 * (seed % 4)
        offer(held, *patch(seed, side, noise), "a", f"case {seed}")
        blobs = held.state_dict()["blobs"]
        stored = sum(blob.numel() for blob in blobs)
        assert held.nbytes == stored + OVERHEAD * len(held) <= 6000
    assert ledger.held("exemplars") == ledger.held("ram") == 6000
    assert ledger.peak_used("exemplars") <= 6000
    assert len(held) > 1


def test_a_patch_larger_than_the_budget_is_told() -> None:
    with pytest.raises(LimitExceeded) as error:
        offer(memory(300), *patch(0), "a", "case")
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
            offer(held, *offers[i])
        outcomes.add(frozenset(contents(held)))
    assert len(outcomes) == 1


def test_what_is_offered_twice_is_kept_once() -> None:
    held = memory()
    for _ in range(3):
        offer(held, *patch(1), "a", "case")
    assert len(held) == 1


def test_samples_leave_out_a_hospital_and_are_uniform_over_the_rest() -> None:
    held = memory(1 << 20)
    for seed in range(8):
        offer(held, *patch(seed), "a" if seed < 4 else "b", str(seed))
    known = [patch(seed)[0] for seed in range(8)]
    x = held.sample(800, np.random.default_rng(0), without="a")["x"]
    counts = np.array([int((x == one).flatten(1).all(1).sum()) for one in known])
    assert counts[:4].sum() == 0
    assert ((counts[4:] - 200) ** 2 / 200).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001
    assert memory().sample(3, np.random.default_rng(0)) == {}
    assert held.sample(3, np.random.default_rng(0), without="c")["x"].shape[0] == 3


def test_remove_forgets_a_patient_and_frees_its_bytes() -> None:
    ledger = Ledger()
    held = memory(1 << 20, ledger)
    for seed in range(6):
        offer(held, *patch(seed), "a", f"case {seed % 2}")
    before = held.nbytes
    assert held.remove("patient of case 1") == 3
    assert contents(held) == {("a", "case 0")}
    assert held.nbytes < before
    assert held.remove("patient of case 1") == 0
    x = held.sample(50, np.random.default_rng(0))["x"]
    assert not any(torch.equal(one, patch(seed)[0]) for one in x for seed in (1, 3, 5))


def test_state_there_and_back_goes_on_as_before() -> None:
    whole, halves = memory(2500), memory(2500)
    for seed in range(8):
        offer(whole, *patch(seed, 5, 5.0 ** (seed % 4)), "a", f"case {seed}")
        offer(halves, *patch(seed, 5, 5.0 ** (seed % 4)), "a", f"case {seed}")
    fresh = memory(2500)
    fresh.load_state_dict(halves.state_dict())
    for seed in range(8, 16):
        offer(whole, *patch(seed, 5, 5.0 ** (seed % 4)), "b", f"case {seed}")
        offer(fresh, *patch(seed, 5, 5.0 ** (seed % 4)), "b", f"case {seed}")
    assert contents(fresh) == contents(whole)
    assert fresh.nbytes == whole.nbytes
    one, two = (m.sample(5, np.random.default_rng(3))["x"] for m in (whole, fresh))
    assert torch.equal(one, two)


def test_a_state_that_is_larger_than_the_budget_is_refused() -> None:
    large, small = memory(), memory(500)
    for seed in range(5):
        offer(large, *patch(seed), "a", "case")
    with pytest.raises(CheckpointError, match="500"):
        small.load_state_dict(large.state_dict())
    assert len(small) == 0


def test_the_id_is_the_hash_of_the_packed_image_and_the_packed_label() -> None:
    held = memory()
    x, y = patch(0)
    offer(held, x, y, "a", "case")
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
    image = blosc2.compress2(x.numpy().tobytes(), cparams=blosc2.CParams(typesize=2, **settings))
    label = blosc2.compress2(y.numpy().tobytes(), cparams=blosc2.CParams(typesize=1, **settings))
    ((exemplar, _),) = held.held()
    assert exemplar.id == xxhash.xxh3_128_hexdigest(image + label)
    assert exemplar.nbytes == len(image) + len(label) + 256


def test_parts_of_any_name_and_type_come_back_bit_equal() -> None:
    held = memory()
    x, y = patch(0)
    logits = torch.randn(3, 6, 6, 6).half()
    held.offer({"logits": logits, "y": y, "x": x}, Origin("a", "case"))
    ((exemplar, parts),) = held.held()
    assert list(parts) == list(exemplar.parts) == ["x", "y", "logits"]
    assert all(torch.equal(parts[name], t) for name, t in (("x", x), ("y", y), ("logits", logits)))
    features = memory()
    features.offer({"z": logits, "y": y}, Origin("a", "case"))
    drawn = features.sample(2, np.random.default_rng(0))
    assert torch.equal(drawn["z"], torch.stack([logits, logits]))
    assert set(drawn) == {"y", "z"}


def test_an_exemplar_knows_where_it_comes_from_also_after_a_checkpoint() -> None:
    held, fresh = memory(), memory()
    offer(held, *patch(0), "a", "case")
    held.offer(dict(zip("xy", patch(1))), Origin("b", "other"))
    fresh.load_state_dict(held.state_dict())
    expected = [Origin("a", "case", "patient of case", (0, 8, -1)), Origin("b", "other", "", None)]
    assert [e.origin for e, _ in held.held()] == [e.origin for e, _ in fresh.held()] == expected


class Listens:
    """Keeps the first item that was ever offered, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Descriptor]] = []

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        self.asked.append(list(descriptors))
        return [i == 0 or d.gone or i == len(descriptors) - 1 for i, d in enumerate(descriptors)]


def described(seed: int) -> Description:
    vector = np.random.default_rng(seed).normal(size=5).astype(np.float32)
    return Description({"liver": 7 + seed}, {"loss": seed / 3}, {"embedding": vector})


def same(one: Description, two: Description) -> bool:
    vectors = one.vectors.keys() == two.vectors.keys() and all(
        v.dtype == np.float32 and np.array_equal(v, two.vectors[name]) for name, v in one.vectors.items()
    )
    return one.organs == two.organs and one.scores == two.scores and vectors


def test_descriptions_reach_the_policy_count_as_bytes_and_outlive_a_checkpoint() -> None:
    listens, plain = Listens(), memory()
    held, fresh = (ExemplarMemory(10_000, listens, Ledger(), 0, SHARING) for _ in range(2))
    for seed in range(2):
        held.offer(dict(zip("xy", patch(seed))), Origin("a", str(seed)), described(seed))
        offer(plain, *patch(seed), "a", str(seed))
    of_description = len("liver") + 8 + len("loss") + 8 + len("embedding") + 5 * 4
    assert held.nbytes == plain.nbytes + 2 * of_description
    fresh.load_state_dict(held.state_dict())
    fresh.offer(dict(zip("xy", patch(2))), Origin("a", "2"), described(2))
    assert all(same(d.description, described(i)) for i, d in enumerate(listens.asked[-1]))
    assert sum(d.nbytes for d in listens.asked[1]) == held.nbytes


def test_of_what_is_gone_only_small_things_are_remembered() -> None:
    listens = Listens()
    held, fresh = (ExemplarMemory(10_000, listens, Ledger(), 0, SHARING) for _ in range(2))
    offers = [(dict(zip("xy", patch(i))), Origin("a", str(i)), described(i)) for i in range(3)]
    assert held.offer_all(offers) == 3
    fresh.load_state_dict(held.state_dict())
    for each in (held, fresh):
        each.offer(*offers[0])
        (gone,) = [d for d in listens.asked[-1] if d.gone]
        assert same(gone.description, Description({"liver": 8}, {"loss": 1 / 3}, {}))


def test_of_what_a_patient_left_behind_only_hash_and_size_stay() -> None:
    listens = Listens()
    held, fresh = (ExemplarMemory(10_000, listens, Ledger(), 0, SHARING) for _ in range(2))
    offers = [(dict(zip("xy", patch(i))), Origin("a", str(i), f"p{i}"), described(i)) for i in range(4)]
    held.offer_all(offers)
    state = held.state_dict()
    assert rows.without(state, {"p2"}) == (0, True)
    assert rows.without(state, {"p2"}) == (0, False)
    fresh.load_state_dict(state)
    held.remove("p2")
    for each in (held, fresh):
        each.offer(*offers[0])
        one, two = (d for d in listens.asked[-1] if d.gone)
        assert same(one.description, replace(described(1), vectors={}))
        assert same(two.description, Description())
        assert two.nbytes == listens.asked[0][2].nbytes


def test_deciding_once_or_after_each_is_the_same_for_the_reservoir() -> None:
    for seed in range(20):
        single, together = memory(4000, seed=seed), memory(4000, seed=seed)
        for start in range(0, 12, 4):
            offers = [
                (dict(zip("xy", patch(i, 3 + i % 4))), Origin("a", str(i)), Description())
                for i in range(start, start + 4)
            ]
            assert together.offer_all(offers) == sum(single.offer(*each) for each in offers) == 4
        assert single.state_dict()["rows"] == together.state_dict()["rows"]


@pytest.mark.parametrize(
    ("sharing", "taken"),
    [("forbid", []), ("features", ["yz"]), ("patches", ["xy", "x", "y", "xyz", "yz", "logits"]), (None, [])],
)
def test_the_memory_itself_refuses_what_a_hospital_does_not_share(
    sharing: str | None, taken: list[str]
) -> None:
    x, y = patch(0)
    arrays = {"x": x, "y": y, "z": x.half(), "logits": x.half()}
    given = {} if sharing is None else {"a": sharing}
    for names in ("xy", "x", "y", "xyz", "yz", "logits"):
        held = ExemplarMemory(100_000, Reservoir(), Ledger(), 0, {"b": "patches", **given})
        parts = {name: arrays[name] for name in ([names] if names in arrays else names)}
        assert held.offer(parts, Origin("a", "case")) == (names in taken) == held.allows("a", tuple(parts))
        assert len(held) == (names in taken)


@pytest.mark.parametrize("without", [None, "a", "b", "c"])
def test_the_index_finds_what_a_list_of_all_others_has(without: str | None) -> None:
    hospitals = [str(h) for h in np.random.default_rng(1).choice(["a", "b"], 30)]
    kept = [Exemplar(str(i), {}, Origin(hospital, "")) for i, hospital in enumerate(hospitals)]
    pool = Pool(kept)
    others = [exemplar for exemplar in kept if exemplar.origin.hospital != without]
    assert pool.size(without) == len(others)
    assert [pool.at(i, without) for i in range(len(others))] == others


class OneByOne(tuple):
    """May be indexed, and not gone through."""

    def __iter__(self):
        raise AssertionError("gone through")


def test_a_draw_goes_through_no_list_of_all() -> None:
    held = memory(1 << 20)
    for seed in range(30):
        offer(held, *patch(seed, 3), "ab"[seed % 2], str(seed))
    held._pool.kept = OneByOne(held._pool.kept)
    for without in (None, "a"):
        assert len(held.draw(5, np.random.default_rng(0), without)) == 5
    with pytest.raises(AssertionError):
        held.state_dict()
