import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import default_vocabulary
from lifelong_ct.evaluation.lesions import Lesions

MM = (1.0, 1.0, 1.0)


def line(text: str) -> np.ndarray:
    """A row of voxels, x inside."""
    return np.array([c == "x" for c in text]).reshape(1, 1, -1)


def counts(prediction: np.ndarray, reference: np.ndarray, **options: object) -> tuple[float | None, ...]:
    """Lesions, found, sensitivity, false positives."""
    spacing = options.pop("spacing", MM)
    return tuple(Lesions(**options)(prediction, reference, spacing).values())


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (".xx....xx...", ".xx....xx...", (2, 2, 1.0, 0)),
        (".xx.........", ".xx....xx...", (2, 1, 0.5, 0)),
        ("..xx........", ".xx....xx..x", (3, 1, 1 / 3, 0)),  # one voxel is enough
        ("....xx...x..", ".xx....xx...", (2, 0, 0.0, 2)),
        (".xxxxxxxx...", ".xx....xx...", (2, 2, 1.0, 0)),  # joins both: found, no false alarm
        (".x.x........", ".xxx........", (1, 1, 1.0, 0)),  # found twice is found once
        ("............", ".xx....xx...", (2, 0, 0.0, 0)),
        ("x....xx.....", "............", (0, 0, None, 2)),
        ("............", "............", (0, 0, None, 0)),
    ],
)
def test_by_hand(prediction: str, reference: str, expected: tuple[float | None, ...]) -> None:
    assert counts(line(prediction), line(reference)) == pytest.approx(expected)


@pytest.mark.parametrize(("overlap", "found"), [(0.0, 2), (0.24, 2), (0.25, 1), (0.5, 1), (0.75, 0)])
def test_overlap_is_the_share_of_a_lesion_that_has_to_be_passed(overlap: float, found: int) -> None:
    """A quarter of one, three quarters of the other, by two components together."""
    prediction, reference = line("x.....xx.x."), line("xxxx..xxxx.")
    assert counts(prediction, reference, overlap=overlap)[:2] == (2, found)
    assert counts(prediction, reference, overlap=overlap)[3] == 0


@pytest.mark.parametrize(("connectivity", "lesions"), [(6, 3), (18, 2), (26, 1)])
def test_connectivity(connectivity: int, lesions: int) -> None:
    """Three voxels: the first two share an edge, the last two a corner."""
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 2, 2] = True
    empty = np.zeros_like(mask)
    assert counts(empty, mask, connectivity=connectivity)[0] == lesions
    assert counts(mask, empty, connectivity=connectivity)[3] == lesions


@pytest.mark.parametrize(
    ("min_mm3", "expected"),
    [(0.0, (3, 2, 2 / 3, 2)), (10.0, (3, 2, 2 / 3, 2)), (11.0, (2, 1, 0.5, 1)), (21.0, (1, 1, 1.0, 0))],
)
def test_small_components_do_not_count(min_mm3: float, expected: tuple[float | None, ...]) -> None:
    """Voxels of 10 mm³; lesions of 3, 1 and 2 voxels, the first two touched by one; false ones of 1 and 2."""
    prediction, reference = line("x...x.......x..xx"), line("xxx.x..xx........")
    assert counts(prediction, reference, min_mm3=min_mm3, spacing=(2.0, 2.5, 2.0)) == pytest.approx(expected)


def test_a_lesion_at_the_border_counts_by_what_is_seen() -> None:
    assert counts(line("x........."), line("x.......xx"), min_mm3=2.0) == (1, 0, 0.0, 0)


def test_it_is_for_lesions_only() -> None:
    metric = Lesions()
    assert metric.for_organ("liver_tumor") is metric
    assert metric.for_organ("kidney_cyst_left") is metric
    assert metric.for_organ("liver") is None
    assert Lesions(organs=["gallbladder"]).for_organ("gall_bladder") is not None
    assert all("tumor" in o or "cyst" in o for o in default_vocabulary().lesions)
    assert default_vocabulary().lesions == {
        o for o in default_vocabulary().organs if "tumor" in o or "cyst" in o
    }


@pytest.mark.parametrize(
    "options",
    [{"overlap": 1.0}, {"overlap": -0.1}, {"connectivity": 8}, {"min_mm3": -1.0}, {"organs": ["livr"]}],
)
def test_mistakes_are_told(options: dict[str, object]) -> None:
    with pytest.raises(LifelongCTError):
        Lesions(**options)
