"""Grids from headers, and the spacing that fits many scans, against nnU-Net's own."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.grids import case_affine, case_grid, spacing_of, usual_spacing
from lifelong_ct.data.images import read_image
from lifelong_ct.data.layouts.phantom import PhantomLayout


def case(path: Path) -> Case:
    return Case("north", "c", "p", "train", ("liver",), (path,))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_the_grid_of_a_header_is_that_of_the_voxels(tmp_path, axes, signs):
    shape, mm, affine = (4, 5, 6), (0.7, 1.5, 5.0), np.zeros((4, 4))
    for i, axis in enumerate(axes):
        affine[axis, i] = signs[i] * mm[i]
    affine[3, 3] = 1
    voxels = np.linspace(-1000, 1000, 120).reshape(shape).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii")
    found, spacing = case_grid(None, case(tmp_path / "a.nii"))
    read = read_image(tmp_path / "a.nii")
    assert found == read.shape
    assert spacing == pytest.approx(read.spacing, rel=1e-6)
    np.testing.assert_allclose(case_affine(case(tmp_path / "a.nii"))[1], read.affine, atol=1e-5)


def test_a_phantom_tells_its_grid_without_being_drawn():
    layout = PhantomLayout("north", train=1, test=0, shape=(24, 20, 16), scanner={"spacing": [5.0, 6.0, 7.0]})
    one = next(layout.cases())
    raw = layout.load(one)
    assert case_grid(layout, one) == (raw.shape, raw.spacing)


def test_the_median_by_hand():
    spacings = [(0.8, 0.8, 5.0), (0.7, 0.9, 2.5), (1.0, 0.7, 1.0)]
    assert usual_spacing([(512, 512, 200)] * 3, spacings) == (0.8, 0.8, 2.5)


def test_thick_slices_by_hand():
    """Median (1, 1, 10), 20 slices of 256²: the 10th percentile of 4, 6, 10, 10, 10 is 4.8."""
    z = [10.0, 4.0, 10.0, 6.0, 10.0]
    assert usual_spacing([(256, 256, 20)] * 5, [(1, 1, s) for s in z]) == pytest.approx((1, 1, 4.8))
    assert usual_spacing([(256, 256, 90)] * 5, [(1, 1, s) for s in z]) == (1, 1, 10)


def test_thin_slices_of_few_scans_are_no_finer_than_the_other_axes():
    z = [10.0, 0.2, 10.0, 0.2, 10.0]
    assert usual_spacing([(256, 256, 20)] * 5, [(1, 1, s) for s in z]) == pytest.approx((1, 1, 1 + 1e-5))


def test_it_is_that_of_nnunet():
    planner = pytest.importorskip(
        "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner", reason="no nnunetv2"
    ).ExperimentPlanner
    rng, thick = np.random.default_rng(0), 0
    for _ in range(300):
        count = int(rng.integers(1, 12))
        spacings = rng.uniform(0.5, 1.5, (count, 3))
        spacings[:, rng.integers(3)] *= rng.choice([1, 4, 9], count)
        shapes = rng.integers(60, 512, (count, 3))
        shapes[:, rng.integers(3)] //= rng.integers(1, 12)
        peer = planner.__new__(planner)
        peer.dataset_fingerprint = {"spacings": spacings.tolist(), "shapes_after_crop": shapes.tolist()}
        peer.anisotropy_threshold, peer.overwrite_target_spacing = 3, None
        expected = peer.determine_fullres_target_spacing()
        thick += (expected != np.percentile(spacings, 50, 0)).any()
        assert usual_spacing(shapes, spacings) == pytest.approx(expected, rel=1e-12)
    assert thick > 20


def test_a_header_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"no header")
    with pytest.raises(DataError) as error:
        spacing_of([(None, case(tmp_path / "a.nii"))])
    assert error.value.where == f"case c, {tmp_path / 'a.nii'}"


def test_a_layout_that_draws_must_tell():
    drawn = Case("north", "c", "p", "train", ("liver",), params={"shape": [2, 2, 2]})
    with pytest.raises(LifelongCTError, match="does not tell the spacing"):
        spacing_of([(object(), drawn)])
