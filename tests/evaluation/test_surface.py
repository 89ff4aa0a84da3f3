from math import sqrt

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import default_vocabulary
from lifelong_ct.evaluation.surface import Surface
from lifelong_ct.evaluation.surfels import areas, neighbour_codes, on_surface
from lifelong_ct.evaluation.tolerances import default_tolerances

MM = (1.0, 1.0, 1.0)
NOTHING = dict.fromkeys(Surface.names)


def box(start: tuple[int, int, int], side: int = 8, shape: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(s, s + side) for s in start)] = True
    return mask


def sphere(radius: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) <= radius**2


def surface_of(mask: np.ndarray, spacing: tuple[float, float, float]) -> float:
    codes = neighbour_codes(mask, (0, 0, 0))
    return float(areas(spacing)[codes[on_surface(codes)]].sum())


@pytest.mark.parametrize(
    ("side", "spacing", "mm2"),
    [
        (1, MM, sqrt(3)),  # 8 corners of |(1,1,1)| / 8
        (1, (2.0, 3.0, 5.0), sqrt(15**2 + 10**2 + 6**2)),
        (4, MM, 6 * 9 + 12 * 3 * sqrt(2) / 2 + sqrt(3)),  # 3×3 points per face, 3 per edge, the corners
        (4, (2.0, 2.0, 2.0), 4 * (6 * 9 + 12 * 3 * sqrt(2) / 2 + sqrt(3))),
    ],
)
def test_area_of_boxes(side: int, spacing: tuple[float, float, float], mm2: float) -> None:
    assert surface_of(box((3, 3, 3), side, (8, 8, 8)), spacing) == pytest.approx(mm2)
    assert surface_of(np.ones((side,) * 3, bool), spacing) == pytest.approx(mm2)


OUTER = 24 + 12 * sqrt(2) + sqrt(3)
"""Of a box of 3: 4 points per face at 1 mm of the single voxel in it, 2 per edge at √2 mm, corners at √3 mm."""


@pytest.mark.parametrize(
    ("spacing", "tolerance", "expected"),
    [
        # Two voxels, two steps apart along W: half of the corners 1 step from the other's, half 2 steps
        (MM, 0.5, {"nsd": 0.0, "hd95": 2.0, "asd": 1.5}),
        (MM, 1.0, {"nsd": 0.5}),
        (MM, 2.0, {"nsd": 1.0}),
        ((4.0, 3.0, 0.7), 0.8, {"nsd": 0.5, "hd95": 1.4, "asd": 1.05, "asd_to_reference": 1.05}),
        ((4.0, 3.0, 5.0), 0.0, {"nsd": 0.0, "hd95": 10.0, "asd": 7.5, "asd_to_prediction": 7.5}),
    ],
)
def test_two_voxels(
    spacing: tuple[float, float, float], tolerance: float, expected: dict[str, float]
) -> None:
    one, two = box((2, 2, 1), 1, (6, 6, 6)), box((2, 2, 3), 1, (6, 6, 6))
    scores = Surface(tolerance)(one, two, spacing)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("tolerance", "nsd"), [(0.0, 1 / 4), (1.0, 3 / 4), (1.5, 1.0)])
def test_two_voxels_that_share_an_edge(tolerance: float, nsd: float) -> None:
    scores = Surface(tolerance)(box((2, 2, 2), 1, (6, 6, 6)), box((2, 3, 3), 1, (6, 6, 6)), MM)
    asd = (2 * 0 + 4 * 1 + 2 * sqrt(2)) / 8
    expected = {"nsd": nsd, "hd95": sqrt(2), "asd": asd, "asd_to_reference": asd, "asd_to_prediction": asd}
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tolerance", "area"), [(0.9, 0.0), (1.0, sqrt(3) + 24), (1.5, OUTER), (1.8, OUTER + sqrt(3))]
)
def test_a_voxel_in_a_box(tolerance: float, area: float) -> None:
    scores = Surface(tolerance)(box((2, 2, 2), 3, (7, 7, 7)), box((3, 3, 3), 1, (7, 7, 7)), MM)
    assert scores == pytest.approx(
        {
            "nsd": area / (OUTER + sqrt(3)),
            "hd95": sqrt(2),  # corners are 4 % of the area
            "asd": (24 + 24 + 3 + sqrt(3)) / (OUTER + sqrt(3)),
            "asd_to_reference": (24 + 12 * sqrt(2) * sqrt(2) + sqrt(3) * sqrt(3)) / OUTER,
            "asd_to_prediction": 1.0,
        }
    )


def test_a_voxel_in_a_box_as_monai_has_it() -> None:
    """26 voxels around it: 6 at 1 mm, 12 at √2, 8 at √3, of which the 95th percentile is one."""
    scores = Surface(definition="monai")(box((2, 2, 2), 3, (7, 7, 7)), box((3, 3, 3), 1, (7, 7, 7)), MM)
    there = 6 + 12 * sqrt(2) + 8 * sqrt(3)
    expected = {
        "hd95": sqrt(3),
        "asd": (there + 1) / 27,
        "asd_to_reference": there / 26,
        "asd_to_prediction": 1.0,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_monai_interpolates_between_voxels() -> None:
    """Distances 0 (common), 1, 2, … 9 of a line: the 95th percentile is at 0.95 × 9."""
    line, point = np.zeros((2, 1, 1, 10), bool)
    line[0, 0], point[0, 0, 0] = True, True
    scores = Surface(definition="monai")(line, point, (1.0, 1.0, 2.0))
    assert scores["hd95"] == pytest.approx(2 * 0.95 * 9)
    assert scores["asd"] == pytest.approx(2 * 45 / 11)


@pytest.mark.parametrize("definition", ["deepmind", "monai"])
@pytest.mark.parametrize("spacing", [MM, (2.0, 1.0, 1.0), (0.7, 0.7, 3.0)])
def test_equal_masks(spacing: tuple[float, float, float], definition: str) -> None:
    scores = Surface(definition=definition)(box((4, 4, 4)), box((4, 4, 4)), spacing)
    assert scores == {**dict.fromkeys(Surface.names, 0.0), "nsd": 1.0}


@pytest.mark.parametrize("definition", ["deepmind", "monai"])
@pytest.mark.parametrize(("offset", "axis"), [(3, 0), (3, 1), (5, 2)])
def test_hd95_of_two_offset_boxes_is_the_offset_in_mm(offset: int, axis: int, definition: str) -> None:
    spacing, start = (2.0, 1.5, 0.5), [4, 4, 4]
    start[axis] += offset
    scores = Surface(definition=definition)(box(tuple(start)), box((4, 4, 4)), spacing)
    # the far faces are more than 5 % of either surface, at exactly the offset
    assert scores["hd95"] == pytest.approx(offset * spacing[axis])


@pytest.mark.parametrize(("tolerance", "nsd"), [(1.2, 0.0), (2.6, 1.0)])
def test_nsd_of_concentric_spheres_is_a_step_at_their_distance(tolerance: float, nsd: float) -> None:
    spacing, shape = (0.5, 0.5, 0.5), (64, 64, 64)
    large, small = sphere(14.0, spacing, shape), sphere(12.0, spacing, shape)
    score = Surface(tolerance)(small, large, spacing)["nsd"]
    assert score == pytest.approx(nsd, abs=0.01)  # 2 mm, give or take a voxel's 0.5 mm


def test_distances_by_distance_maps() -> None:
    one, two = np.random.default_rng(0).random((2, 9, 8, 7)) > 0.5
    spacing = (1.0, 2.0, 3.0)
    edges = [m & ~binary_erosion(m, border_value=0) for m in (one, two)]
    there, back = (distance_transform_edt(~b, sampling=spacing)[a] for a, b in (edges, reversed(edges)))
    scores = Surface(definition="monai")(one, two, spacing)
    assert scores["hd95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert scores["asd"] == pytest.approx(np.concatenate([there, back]).mean())
    assert scores["asd_to_reference"] == pytest.approx(there.mean())


def test_surfaces_far_from_each_other() -> None:
    """Beyond what is looked at step by step."""
    one, two = box((0, 0, 0), 2, (60, 9, 9)), box((58, 0, 0), 2, (60, 9, 9))
    scores = Surface(57.0)(one, two, MM)
    assert scores["hd95"] == 58.0
    assert 0 < scores["nsd"] < 1
    assert scores["asd"] == pytest.approx(
        57.0
    )  # of three layers of corners at 56, 57, 58, the outer two alike


@pytest.mark.parametrize("definition", ["deepmind", "monai"])
def test_where_the_field_of_view_cuts_an_organ_there_is_surface(definition: str) -> None:
    whole = np.ones((12, 12, 12), bool)
    short = whole.copy()
    short[:3] = False
    # the cut face is a tenth of the surface or more, three slices of 2 mm away
    assert Surface(definition=definition)(short, whole, (2.0, 1.0, 1.0))["hd95"] == 6.0


@pytest.mark.parametrize("definition", ["deepmind", "monai"])
def test_conventions_for_empty_masks(definition: str) -> None:
    empty, full = np.zeros((6, 6, 6), bool), np.ones((6, 6, 6), bool)
    metric = Surface(definition=definition)
    assert metric(empty, empty, MM) == NOTHING
    assert metric(full, empty, MM) == metric(empty, full, MM) == {**NOTHING, "nsd": 0.0}


def test_masks_are_read_where_they_lie() -> None:
    """Views of a volume in any order, as they come from a box of it."""
    rng = np.random.default_rng(1)
    one, two = rng.random((2, 12, 14, 16)) > 0.7
    wide = [np.asfortranarray(np.pad(mask, 5))[5:-5, 5:-5, 5:-5] for mask in (one, two)]
    for definition in ("deepmind", "monai"):
        metric = Surface(1.0, definition)
        assert metric(*wide, (1.0, 2.0, 0.5)) == metric(one, two, (1.0, 2.0, 0.5))


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), "2", True, {"liver": -1}])
def test_a_tolerance_is_a_distance(tolerance: object) -> None:
    with pytest.raises(LifelongCTError, match="distance"):
        Surface(tolerance)


def test_names_that_mean_nothing_are_told() -> None:
    with pytest.raises(LifelongCTError, match="livr"):
        Surface({"livr": 2.0})
    with pytest.raises(LifelongCTError, match="deepmind or monai"):
        Surface(definition="nikolov")


def test_tolerances_of_organs() -> None:
    table = Surface()
    assert [table.for_organ(o).tolerance for o in ("liver", "aorta", "liver_tumor", "sacrum")] == [5, 2, 2, 3]
    changed = Surface({"gallbladder": 1.5, "default": 4})
    assert [changed.for_organ(o).tolerance for o in ("gall_bladder", "liver", "sacrum")] == [1.5, 5, 4]
    assert {Surface(2.0).for_organ(o).tolerance for o in ("liver", "sacrum")} == {2.0}
    assert Surface(2.0, "monai").for_organ("liver").definition == "monai"


def test_the_table_has_both_sides_and_every_lesion() -> None:
    table, vocabulary = default_tolerances(), default_vocabulary()
    assert all(table[vocabulary.mirror[o]] == mm for o, mm in table.items() if o in vocabulary.mirror)
    assert vocabulary.lesions <= set(table)
