import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.surface import Surface


def box(start: tuple[int, int, int], side: int = 8, shape: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(s, s + side) for s in start)] = True
    return mask


def sphere(radius: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) <= radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (0.7, 0.7, 3.0)])
def test_equal_masks(spacing: tuple[float, float, float]) -> None:
    assert Surface()(box((4, 4, 4)), box((4, 4, 4)), spacing) == {"nsd": 1.0, "hd95": 0.0}


@pytest.mark.parametrize(("offset", "axis"), [(3, 0), (3, 1), (5, 2)])
def test_hd95_of_two_offset_boxes_is_the_offset_in_mm(offset: int, axis: int) -> None:
    spacing, start = (2.0, 1.5, 0.5), [4, 4, 4]
    start[axis] += offset
    scores = Surface()(box(tuple(start)), box((4, 4, 4)), spacing)
    # the far faces are more than 5 % of the voxels of either surface, at exactly the offset
    assert scores["hd95"] == pytest.approx(offset * spacing[axis])


@pytest.mark.parametrize(("tolerance", "nsd"), [(1.2, 0.0), (2.6, 1.0)])
def test_nsd_of_concentric_spheres_is_a_step_at_their_distance(tolerance: float, nsd: float) -> None:
    spacing, shape = (0.5, 0.5, 0.5), (64, 64, 64)
    large, small = sphere(14.0, spacing, shape), sphere(12.0, spacing, shape)
    score = Surface(tolerance)(small, large, spacing)["nsd"]
    assert score == pytest.approx(nsd, abs=0.01)  # 2 mm, give or take a voxel's 0.5 mm


def test_hd95_by_distance_maps() -> None:
    one, two = np.random.default_rng(0).random((2, 9, 8, 7)) > 0.5
    spacing = (1.0, 2.0, 3.0)
    edges = [m & ~binary_erosion(m, border_value=0) for m in (one, two)]
    directed = [
        np.percentile(distance_transform_edt(~b, sampling=spacing)[a], 95)
        for a, b in (edges, reversed(edges))
    ]
    assert Surface()(one, two, spacing)["hd95"] == pytest.approx(max(directed), rel=1e-5)


def test_monai_agrees_on_the_whole_volume() -> None:
    one, two = box((3, 6, 5), side=7), box((5, 5, 5), side=9)
    spacing = [1.5, 0.8, 2.0]
    a, b = (torch.from_numpy(m)[None, None] for m in (one, two))
    scores = Surface(tolerance=1.0)(one, two, spacing)
    nsd = compute_surface_dice(a, b, [1.0], include_background=True, spacing=spacing, use_subvoxels=True)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    assert scores == {"nsd": pytest.approx(float(nsd)), "hd95": pytest.approx(float(hd95))}


def test_where_the_field_of_view_cuts_an_organ_there_is_surface() -> None:
    whole = np.ones((12, 12, 12), bool)
    short = whole.copy()
    short[:3] = False
    # the cut face is 144 of 728 surface voxels, three slices of 2 mm away
    assert Surface()(short, whole, (2.0, 1.0, 1.0))["hd95"] == 6.0


def test_conventions_for_empty_masks() -> None:
    empty, full = np.zeros((6, 6, 6), bool), np.ones((6, 6, 6), bool)
    assert Surface()(empty, empty, (1, 1, 1)) == {"nsd": None, "hd95": None}
    assert (
        Surface()(full, empty, (1, 1, 1)) == Surface()(empty, full, (1, 1, 1)) == {"nsd": 0.0, "hd95": None}
    )


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_distance(tolerance: float) -> None:
    with pytest.raises(LifelongCTError, match="distance"):
        Surface(tolerance)
