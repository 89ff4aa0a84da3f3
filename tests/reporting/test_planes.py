"""Pictures decoded again, pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from lifelong_ct.reporting.planes import LIMIT, PIXELS, PLANES, TINTS, Shown, draw, surroundings, tints, where

SHAPE = (8, 10, 12)


def mask(*boxes) -> np.ndarray:
    made = np.zeros(SHAPE, bool)
    for box in boxes:
        made[box] = True
    return made


def shown(predicted=None, reference=None, hu=None, spacing=(2.0, 2.0, 2.0)) -> Shown:
    empty = mask()
    image = np.full(SHAPE, -175, np.int16) if hu is None else hu
    return Shown(
        image,
        {"liver": empty if predicted is None else predicted},
        {"liver": empty if reference is None else reference},
        spacing,
    )


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_planes_go_through_what_is_most_wrong() -> None:
    reference = mask(np.s_[1:7, 1:9, 1:11])
    predicted = reference ^ mask(np.s_[2, 3, 1:5], np.s_[6, 8, 10])  # most lies at d = 2, h = 3; w each once
    assert where(predicted, reference)[:2] == (2, 3)
    assert where(reference, reference) == (1, 1, 1)  # nothing wrong: the first of the largest planes
    assert where(mask(), mask()) == (4, 5, 6)


@pytest.mark.parametrize(
    ("voxel", "plane", "corner"),
    [  # x grows to the right, y to the front, z to the head; as radiologists look, right is left
        ((7, 9, 6), "axial", (0, 0)),
        ((0, 0, 6), "axial", (-1, -1)),
        ((7, 5, 11), "coronal", (0, 0)),
        ((4, 9, 11), "sagittal", (0, 0)),
        ((4, 0, 0), "sagittal", (-1, -1)),
    ],
)
def test_directions(voxel, plane, corner) -> None:
    image = np.full(SHAPE, -175, np.int16)
    image[voxel] = 250
    bright = pixels(draw(shown(hu=image), "liver")[plane])
    assert bright[corner].min() > 200
    assert np.median(bright) == 0


def test_voxels_are_as_long_as_they_are() -> None:
    flat = draw(shown(spacing=(1.0, 1.0, 5.0)), "liver")  # 8 × 10 × 60 mm
    sizes = {plane: Image.open(io.BytesIO(flat[plane])).size for plane in PLANES}
    assert sizes["sagittal"] == (round(PIXELS * 10 / 60), PIXELS)
    assert sizes["coronal"] == (round(PIXELS * 8 / 60), PIXELS)
    assert sizes["axial"] == (round(PIXELS * 8 / 10), PIXELS)


def test_tint_and_outline() -> None:
    box = mask(np.s_[2:6, 2:8, 2:10])
    colour = np.array([int(TINTS[0][i : i + 2], 16) for i in (1, 3, 5)])
    outlined = pixels(draw(shown(reference=box), "liver")["axial"])
    tinted = pixels(draw(shown(predicted=box), "liver")["axial"])
    middle = tuple(size // 2 for size in outlined.shape[:2])
    assert (outlined[middle] == 0).all()  # inside the outline the scan is untouched
    assert np.abs(tinted[middle] - 0.4 * colour).max() <= 2
    drawn = (np.abs(outlined - colour).max(axis=2) <= 2).sum()
    # 4 of 8 and 6 of 10 voxels of a picture of 256 × 320: a line two pixels wide around 128 × 192
    assert drawn == 128 * 192 - 124 * 188
    assert not (np.abs(tinted - colour).max(axis=2) <= 2).any()


def test_noise_does_not_break_the_limit() -> None:
    noise = np.random.default_rng(0).integers(-175, 250, (200, 200, 200)).astype(np.int16)
    empty = np.zeros(noise.shape, bool)
    drawn = draw(Shown(noise, {"liver": empty}, {"liver": empty}, (1.0, 1.0, 1.0)), "liver")
    assert all(len(data) <= LIMIT for data in drawn.values())
    assert all(min(Image.open(io.BytesIO(data)).size) > 100 for data in drawn.values())


def test_the_same_case_is_the_same_picture() -> None:
    assert draw(shown(reference=mask(np.s_[2:6, 2:8, 2:10])), "liver") == draw(
        shown(reference=mask(np.s_[2:6, 2:8, 2:10])), "liver"
    )


def test_surroundings_by_hand() -> None:
    # 15 mm are 8 voxels of 2 mm (rounded), 3 of 5 mm
    assert surroundings(mask(np.s_[4:6, 5, 6:8]), (2.0, 5.0, 5.0)) == np.s_[0:14, 2:9, 3:11]
    assert surroundings(mask(), (1.0, 1.0, 1.0)) == np.s_[:, :, :]


def test_colours_repeat_only_past_the_palette() -> None:
    names = [f"organ {i}" for i in range(len(TINTS) + 1)]
    found = list(tints(names).values())
    assert len(set(found)) == len(TINTS)
    assert found[-1] == found[0]
