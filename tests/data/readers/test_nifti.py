"""Reading NIfTI: every orientation and type that is a scan, and nothing else."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.annotations import read_label
from lifelong_ct.data.images import read_image, same_grid
from lifelong_ct.data.readers.nifti import read_volume

SHAPE = (5, 6, 7)
AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, 20], [0, 0, 4.0, -30], [0, 0, 0, 1]])


def voxels(dtype=np.int16):
    return np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(dtype)


def saved(path: Path, array, affine=AFFINE, kind=nib.Nifti1Image, sform=1, qform=1, **header):
    image = kind(array, None)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def refused(read, path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert path.name in caught.value.where
    assert caught.value.fix
    return caught.value.code


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_orientation_becomes_ras_as_nibabel_turns_it(axes, signs, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = AFFINE[:3, :3][:, axes] * np.array(signs)
    affine[:3, 3] = (5, -7, 11)
    path = saved(tmp_path / "a.nii.gz", voxels(), affine)
    ours, theirs = read_image(path), nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(ours.image, np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    assert ours.original_shape == SHAPE
    np.testing.assert_allclose(ours.original_affine, affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_types_versions_and_compression_give_the_same_hu(dtype, kind, name, tmp_path):
    path = saved(tmp_path / name, voxels(dtype), kind=kind)
    np.testing.assert_array_equal(read_image(path).image, voxels())


def test_big_endian_and_a_singleton_fourth_axis(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    image = nib.Nifti1Image(voxels()[..., None], AFFINE, header)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").image, voxels())


def test_slope_and_intercept_make_hu_and_padding_becomes_air(tmp_path):
    stored = np.full(SHAPE, 500, np.int16)
    stored[0, 0, :4] = (0, 1000, -500, 100)
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(2.0, -1024)
    nib.save(image, tmp_path / "a.nii.gz")
    raw = nib.load(tmp_path / "a.nii.gz")
    assert (raw.dataobj.slope, raw.dataobj.inter) == (2.0, -1024)
    got = read_image(tmp_path / "a.nii.gz").image
    np.testing.assert_array_equal(got[0, 0, :4], [-1024, 976, -1024, -824])  # -2024 is below air


def test_a_float_is_rounded_to_the_nearest_hu(tmp_path):
    array = voxels(np.float32)
    array[0, 0, :3] = (10.4, 10.6, -10.6)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.nii", array)).image[0, 0, :3], [10, 11, -11])


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (voxels(np.float32) / 4000 + 0.5, "implausible-hu"),
        (np.where(voxels() > 1400, np.nan, voxels()).astype(np.float32), "non-finite"),
        (np.where(voxels() > 1400, np.inf, voxels()).astype(np.float32), "non-finite"),
        (np.zeros((5, 6), np.int16), "not-3d"),
        (np.zeros((5, 6, 7, 2), np.int16), "not-3d"),
        (np.zeros((5, 6, 1), np.int16), "too-thin"),
        (np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "not-scalar"),
    ],
)
def test_what_is_no_scan_is_refused(array, code, tmp_path):
    assert refused(read_image, saved(tmp_path / "a.nii.gz", array)) == code


def sheared():
    affine = AFFINE.copy()
    affine[1, 2] = 1.5
    return affine


def test_geometry_that_cannot_be_trusted_is_refused(tmp_path):
    no_forms = saved(tmp_path / "none.nii", voxels(), sform=0, qform=0)
    assert refused(read_image, no_forms) == "no-geometry"
    tilted = nib.Nifti1Image(voxels(), None)
    tilted.set_sform(sheared(), 1)
    nib.save(tilted, tmp_path / "tilt.nii")
    assert refused(read_image, tmp_path / "tilt.nii") == "sheared"
    two = nib.Nifti1Image(voxels(), None)
    two.set_sform(AFFINE, 1)
    two.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), 1)
    nib.save(two, tmp_path / "two.nii")
    assert refused(read_image, tmp_path / "two.nii") == "geometry-conflict"


def test_damaged_files_are_refused(tmp_path):
    plain = saved(tmp_path / "a.nii", voxels()).read_bytes()
    (tmp_path / "cut.nii").write_bytes(plain[:-1])
    (tmp_path / "head.nii").write_bytes(plain[:100])
    packed = bytearray(gzip.compress(plain))
    (tmp_path / "cut.nii.gz").write_bytes(packed[:-20])
    packed[-8] ^= 1  # of the CRC
    (tmp_path / "crc.nii.gz").write_bytes(packed)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no scan"))
    for name in ("cut.nii", "head.nii", "cut.nii.gz", "crc.nii.gz", "text.nii.gz"):
        assert refused(read_image, tmp_path / name) == "corrupt"
    assert refused(read_image, tmp_path / "gone.nii") == "missing"
    assert refused(read_image, tmp_path / "scan.dcm") == "not-nifti"


def test_a_stream_much_longer_than_its_header_says_is_not_unpacked(tmp_path):
    header = saved(tmp_path / "a.nii", voxels()).read_bytes()
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(header)
        for _ in range(300):
            file.write(bytes(1 << 20))
    before = _peak()
    assert refused(read_image, tmp_path / "bomb.nii.gz") == "corrupt"
    assert _peak() - before < 100 << 20


def test_a_header_that_announces_too_much_allocates_nothing(tmp_path):
    data = bytearray(saved(tmp_path / "a.nii", voxels()).read_bytes())
    data[42:48] = np.array([2000, 2000, 2000], "<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(data)
    assert refused(read_image, tmp_path / "huge.nii") == "corrupt"


def test_labels_are_whole_and_not_negative(tmp_path):
    ids = np.zeros(SHAPE, np.float32)
    ids[1:3] = 104
    got = read_label(saved(tmp_path / "a.nii.gz", ids))
    assert got.voxels.dtype == np.uint8
    assert set(np.unique(got.voxels)) == {0, 104}
    assert refused(read_label, saved(tmp_path / "half.nii", ids + 0.5)) == "fractional-label"
    assert refused(read_label, saved(tmp_path / "minus.nii", ids - 1)) == "unknown-label"


def test_labels_lie_on_the_grid_of_their_image(tmp_path):
    image = read_image(saved(tmp_path / "image.nii", voxels()))
    flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = (AFFINE @ [SHAPE[0] - 1, 0, 0, 1])[:3]
    same = saved(tmp_path / "same.nii", np.zeros(SHAPE, np.uint8), flipped)
    same_grid(same, read_volume(same), image)
    moved = AFFINE.copy()
    moved[0, 3] += 1.0
    for array, affine, code in (
        (np.zeros(SHAPE, np.uint8), moved, "geometry-mismatch"),
        (np.zeros((5, 6, 8), np.uint8), AFFINE, "shape-mismatch"),
    ):
        path = saved(tmp_path / f"{code}.nii", array, affine)
        assert refused(lambda p: same_grid(p, read_volume(p), image), path) == code


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_whose_offset_is_no_number_is_corrupt(offset, name, tmp_path):
    """Bytes 108 to 111 of the header are where the voxels begin, a float."""
    data = bytearray(saved(tmp_path / "whole.nii", voxels()).read_bytes())
    data[108:112] = np.float32(offset).tobytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(data)) if name.endswith("gz") else bytes(data))
    assert refused(read_image, path) == "corrupt"
    assert refused(read_label, path) == "corrupt"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_that_lacks_its_end_is_corrupt_wherever_it_was_cut(name, tmp_path):
    whole = saved(tmp_path / name, voxels()).read_bytes()
    for length in (0, 1, 2, 10, 100, 347, 348, 352, len(whole) // 2, *range(len(whole) - 9, len(whole))):
        (tmp_path / name).write_bytes(whole[:length])
        assert refused(read_image, tmp_path / name) == "corrupt"
