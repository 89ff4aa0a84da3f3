"""An organ of tissue that is mostly air is refused; what holds air is not."""

from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.label_in_air import check_air
from lifelong_ct.data.vocabulary import default_vocabulary

HERE = Path("seg.nii.gz")


def check(organ: str, tissue: int, air: int) -> None:
    """Of an organ with so many voxels of tissue and of air; the rest of the scan is air."""
    image = np.full((4, 5, 6), -1000, np.int16)
    image.ravel()[:tissue] = 40
    label = np.zeros(image.shape, np.uint8)
    label.ravel()[: tissue + air] = 1
    counts = np.bincount(label.ravel(), minlength=2)
    check_air(HERE, [organ], [(), (organ,)], counts, label, image, default_vocabulary())


@pytest.mark.parametrize("organ", ["liver", "kidney_left", "aorta", "vertebrae_L1"])
def test_half_an_organ_in_air_passes_and_one_voxel_more_does_not(organ):
    check(organ, 20, 20)
    with pytest.raises(DataError) as caught:
        check(organ, 20, 21)
    assert caught.value.code == "label-in-air"
    assert f"51 % of {organ} (21 of 41 voxels)" in caught.value.what
    assert HERE.name in caught.value.where


@pytest.mark.parametrize(
    "organ",
    ["lung_left", "lung", "lung_upper_lobe_left", "lung_tumor", "colon", "colon_and_rectum", "trachea"],
)
def test_what_holds_air_may_be_air(organ):
    check(organ, 0, 40)


def test_an_organ_that_is_not_there_passes():
    check("liver", 0, 0)


def test_each_organ_of_a_voxel_counts():
    label = np.ones((2, 2, 2), np.uint8)
    image, counts = np.full(label.shape, -900, np.int16), np.array([0, label.size])
    sets = [(), ("colon", "liver")]
    with pytest.raises(DataError, match="liver"):
        check_air(HERE, ["colon", "liver"], sets, counts, label, image, default_vocabulary())
