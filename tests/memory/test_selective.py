import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection import Description, Descriptor
from lifelong_ct.memory.selection.selective import Selective


def patch(name: str, unsure: float, *vector: float, nbytes: int = 1) -> Descriptor:
    said = Description(
        scores={"uncertainty": unsure, "offered": 0.0}, vectors={"embedding": np.asarray(vector, np.float32)}
    )
    return Descriptor(name, nbytes, "h", description=said)


def left(descriptors: list[Descriptor], budget: int, unsure: float = 0.25, seed: int = 0) -> set[str]:
    """Who leaves."""
    keep = Selective(unsure).decide(descriptors, seed, budget)
    return {d.id for d, stays in zip(descriptors, keep, strict=True) if not stays}


def test_the_unsure_stay_though_they_are_alike() -> None:
    """Four patches, room for three: a and b are the same, c and d at 60°. A quarter of four is one: a, the most unsure.
    Without it the nearest two are c and d; without any protection a and b."""
    four = [patch("a", 0.9, 1, 0), patch("b", 0.1, 1, 0), patch("c", 0.3, 0, 1), patch("d", 0.2, 0.866, 0.5)]
    assert left(four, 3) <= {"b", "d"}  # 30° apart, nearer than c and d
    assert left(four, 3, unsure=0.0) <= {"a", "b"}
    assert left(four, 3, unsure=0.5) == left(four, 3, unsure=0.5) <= {"b", "d"}, "a and c stay"
    assert left(four, 4) == set()


@pytest.mark.parametrize("seed", range(20))
def test_one_by_one_as_in_the_authors_code(seed: int) -> None:
    """Brute force: of those under the ⌊N / 4⌋ highest entropies one of the nearest pair leaves."""
    rng = np.random.default_rng(seed)
    held = [patch(f"{i}", rng.random(), *rng.standard_normal(3)) for i in range(9)]
    for turn in range(9, 20):
        candidates = [*held, patch(f"{turn}", rng.random(), *rng.standard_normal(3))]
        by_entropy = sorted(candidates, key=lambda d: d.description.scores["uncertainty"], reverse=True)
        rest = by_entropy[len(candidates) // 4 :]
        unit = {d.id: (v := d.description.vectors["embedding"]) / np.linalg.norm(v) for d in rest}
        pairs = [(float(unit[a] @ unit[b]), {a, b}) for a in unit for b in unit if a < b]
        nearest = max(pairs, key=lambda pair: pair[0])[1]
        out = left(candidates, budget=9, seed=seed)
        assert len(out) == 1
        assert out <= nearest
        held = [d for d in candidates if d.id not in out]


def test_where_the_unsure_alone_pass_the_budget_the_surest_of_them_leave() -> None:
    big = [patch("a", 0.9, 1, 0, nbytes=6), patch("b", 0.8, 0, 1, nbytes=6), patch("c", 0.1, 1, 1)]
    assert left(big, budget=7, unsure=1.0) == {"b", "c"}
    assert left(big, budget=7, unsure=0.67) == {"b"}


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "x"])
def test_a_share_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(LifelongCTError, match="unsure"):
        Selective(wrong)  # type: ignore[arg-type]
