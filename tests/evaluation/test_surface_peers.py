"""Surface metrics beside DeepMind's surface-distance and MONAI."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import shapes
import surface_distance
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from lifelong_ct.evaluation import surfels
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.nearest import undecided
from lifelong_ct.evaluation.surface import Surface

DATA = Path(__file__).parents[2].parent / "shared" / "data"
COUNT, STEP = 200, 4  # no divisor of the number of kinds
Scores = dict[str, float | None]


def deepmind(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> Scores:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by old names
        found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    to_prediction, to_reference = surface_distance.compute_average_surface_distance(found)
    sums = [
        (found[f"distances_{way}"] @ found[f"surfel_areas_{of}"], found[f"surfel_areas_{of}"].sum())
        for way, of in (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
    ]
    return {
        "nsd": surface_distance.compute_surface_dice_at_tolerance(found, tolerance),
        "hd95": surface_distance.compute_robust_hausdorff(found, 95),
        "asd": (sums[0][0] + sums[1][0]) / (sums[0][1] + sums[1][1]),
        "asd_to_reference": to_reference,
        "asd_to_prediction": to_prediction,
    }


def monai(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> Scores:
    one, two = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, reference))
    given = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return {
            "nsd": float(compute_surface_dice(one, two, [tolerance], use_subvoxels=True, **given)),
            "hd95": float(compute_hausdorff_distance(one, two, percentile=95, **given)),
            "asd": float(compute_average_surface_distance(one, two, symmetric=True, **given)),
            "asd_to_reference": float(compute_average_surface_distance(one, two, **given)),
            "asd_to_prediction": float(compute_average_surface_distance(two, one, **given)),
        }


def seeds() -> list[object]:
    """Every fourth of the pairs in each run, all of them with the slow tests."""
    return [s if s % STEP == 0 else pytest.param(s, marks=pytest.mark.slow) for s in range(COUNT)]


@pytest.mark.parametrize("seed", seeds())
def test_drawn_shapes(seed: int) -> None:
    drawn = shapes.draw(seed)
    given = (drawn.prediction, drawn.reference, drawn.spacing)
    ours = Surface(drawn.tolerance)(*given)
    theirs = deepmind(*given, drawn.tolerance)
    assert ours == pytest.approx(theirs, abs=1e-9, rel=0)
    theirs = monai(*given, drawn.tolerance)
    found = Surface(drawn.tolerance, definition="monai")(*given)
    if found["nsd"] != pytest.approx(theirs["nsd"], abs=1e-4):
        # MONAI compares in single precision: it counts what lies past the tolerance by a rounding error
        theirs["nsd"] = deepmind(*given, drawn.tolerance)["nsd"]
        assert deepmind(*given, drawn.tolerance * (1 + 1e-6))["nsd"] == pytest.approx(
            monai(*given, drawn.tolerance)["nsd"], abs=1e-4
        )
    assert found == pytest.approx(theirs, abs=1e-4, rel=0)


@pytest.mark.parametrize("mm", [0.6, 0.95, 1.2])
def test_where_rounding_decides_what_is_within_it_decides_alike(mm: float) -> None:
    """(3, 0, 0) and (2, 2, 1) are as long as the tolerance, one of them but for the last bit."""
    spacing, tolerance = (mm, mm, mm), 3 * mm
    assert undecided(tolerance, spacing)
    rng = np.random.default_rng(0)
    for _ in range(3):
        one = shapes.blob(rng, (22, 22, 22), 0.25)
        given = (np.roll(one | shapes.blob(rng, one.shape, 0.1), 3, int(rng.integers(3))), one, spacing)
        assert Surface(tolerance)(*given) == pytest.approx(deepmind(*given, tolerance), abs=1e-9, rel=0)


@pytest.mark.parametrize(("limit", "mm"), [(3.0, 1.0), (2.5, 1.0), (0.0, 0.7), (2.4, 0.8)])
def test_elsewhere_nothing_is_left_to_it(limit: float, mm: float) -> None:
    assert not undecided(limit, (mm, mm, mm))


def test_every_kind_is_drawn() -> None:
    assert {shapes.draw(seed).kind for seed in range(0, COUNT, STEP)} == set(shapes.KINDS)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.8, 5.0), (1.1, 0.3, 0.9)])
def test_areas_are_those_of_surface_distance_to_the_last_bit(spacing: tuple[float, float, float]) -> None:
    table = surface_distance.lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    assert np.array_equal(surfels.areas(spacing), table)


@dataclass
class Labelled:
    label: np.ndarray
    organs: tuple[str, ...]
    overlaps: tuple[tuple[int, ...], ...] = ()


def real() -> list[object]:
    found = sorted([*DATA.glob("*_seg.nii.gz"), *DATA.glob("anatomy_only/*_seg.nii.gz")])
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"there are no real label maps in {DATA}"))]
    return [pytest.param(path, id=path.name, marks=pytest.mark.slow) for path in found]


@pytest.mark.parametrize("path", real())
def test_real_label_maps(path: Path) -> None:
    """Every organ, shifted or eroded, scored with all the others in one case."""
    image = nib.load(path)
    ids, label = np.unique(np.asanyarray(image.dataobj).astype(np.int64), return_inverse=True)
    label = label.reshape(image.shape).astype(np.uint8 if len(ids) < 256 else np.uint16)
    spacing = tuple(float(mm) for mm in image.header.get_zooms()[:3])
    names = tuple(f"organ {i}" for i in ids[ids != 0])
    boxes = [
        tuple(slice(max(0, s.start - 3), s.stop + 3) for s in found) for found in ndimage.find_objects(label)
    ]
    prediction = np.zeros_like(label)
    for k, box in enumerate(boxes, start=1):
        mask = label[box] == k
        prediction[box][np.roll(mask, (1, -2, 1), (0, 1, 2)) if k % 2 else ndimage.binary_erosion(mask)] = k
    channels = {name: k for k, name in enumerate(names, start=1)}
    metrics = [Surface(2.0), Surface(2.0, definition="monai")]
    rows = score_case(prediction, Labelled(label, names), channels, spacing, metrics, parent={})
    for k, (name, box) in enumerate(zip(names, boxes), start=1):
        masks = (prediction[box] == k, label[box] == k)
        values = [value for organ, _, value in rows if organ == name]
        if not masks[0].any():
            assert values == [0.0, None, None, None, None] * 2
            continue
        assert values[:5] == pytest.approx(list(deepmind(*masks, spacing, 2.0).values()), abs=1e-4, rel=0)
        assert values[5:] == pytest.approx(list(monai(*masks, spacing, 2.0).values()), abs=1e-4, rel=0)
