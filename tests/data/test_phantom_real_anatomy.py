"""Real label maps in place of drawn organs."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom.real_anatomy import read_map

MAPS = Path(__file__).parents[2].parent / "shared/data/anatomy_only"


def write_map(folder, kidney_right=2):
    """Two kidneys of 30 mm and a liver of 80 mm, 4 mm voxels, stored with x reversed (LAS)."""
    ids = np.zeros((60, 50, 60), np.uint8)
    ids[5:12, 10:18, 20:28] = 3  # voxel index runs to the left once reversed
    ids[45:52, 10:18, 20:28] = kidney_right
    ids[32:52, 20:40, 28:48] = 5
    flipped = nib.Nifti1Image(
        ids[::-1], np.array([[-4, 0, 0, 500], [0, 4, 0, -70], [0, 0, 4, 9], [0, 0, 0, 1.0]])
    )
    nib.save(flipped, folder / "map.nii.gz")


def test_organs_of_the_map_are_drawn_in_the_patient(tmp_path):
    write_map(tmp_path)
    layout = PhantomLayout("h", train=1, test=0, anatomy=str(tmp_path), population={"variation": 0.0})
    raw = layout.load(next(layout.cases()))
    volumes = {o: (raw.label == i).sum() * np.prod(raw.spacing) / 1000 for i, o in enumerate(raw.organs, 1)}
    assert volumes["liver"] == pytest.approx(80**3 / 1000, rel=0.35)  # its size varies by 5 % per axis
    assert volumes["kidney_left"] == pytest.approx(28 * 32 * 32 / 1000, rel=0.35)
    assert volumes["spleen"] == 0
    right = {
        o: np.argwhere(raw.label == 1 + raw.organs.index(o))[:, 0].mean() for o in ("kidney_left", "liver")
    }
    assert right["liver"] > 32 > right["kidney_left"]
    assert np.median(raw.image[raw.label == 1 + raw.organs.index("liver")]) == pytest.approx(116, abs=40)


def test_a_map_without_a_kidney_is_told(tmp_path):
    write_map(tmp_path, kidney_right=0)
    with pytest.raises(LifelongCTError, match="kidney_right"):
        read_map(tmp_path / "map.nii.gz")


def test_a_broken_map_is_told(tmp_path):
    (tmp_path / "map.nii.gz").write_bytes(b"\x1f\x8b nonsense")
    with pytest.raises(LifelongCTError, match="unreadable"):
        read_map(tmp_path / "map.nii.gz")


@pytest.mark.skipif(not MAPS.is_dir(), reason="needs ../shared/data/anatomy_only")
def test_real_maps_keep_their_volumes():
    """mL of the manifest beside the maps; size varies by 5 % per axis, nearest-neighbour sampling by some more."""
    known = {"amos_0013": 1137.9, "ts_s0327": 1290.4, "ts_s0328": 2025.8}
    layout = PhantomLayout("h", train=6, test=0, anatomy=str(MAPS), scanner={"spacing": [6.5, 6.5, 5.5]})
    for case in layout.cases():
        raw = layout.load(case)
        liver = (raw.label == 1 + raw.organs.index("liver")).sum() * np.prod(raw.spacing) / 1000
        assert min(abs(liver / ml - 1) for ml in known.values()) < 0.4
        assert all((raw.label == 1 + raw.organs.index(o)).sum() > 20 for o in raw.organs)
