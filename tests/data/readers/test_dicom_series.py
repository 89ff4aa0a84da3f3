"""DICOM series against SimpleITK's reader, and every series that is no volume against its reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import MPEG2MPML, RLELossless, RTStructureSetStorage, SegmentationStorage
from slices import AXIAL, CORONAL, FEET_FIRST, SAGITTAL, tilted, write

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.images import read_image
from lifelong_ct.data.readers import dicom, grid, read_volume

SHAPE = (5, 6, 7)


def stored(shape=SHAPE, dtype=np.uint16, seed=0) -> np.ndarray:
    """12 bits, as a scanner stores them: `[slices, rows, columns]`."""
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(dtype)


def peer(folder: Path) -> nib.Nifti1Image:
    """The series by SimpleITK, in RAS+."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1, -1, 1, 1]) @ affine
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float32), affine))


def refused(folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_volume(folder)
    assert folder.name in caught.value.where
    assert caught.value.fix
    return caught.value


OBLIQUE = tuple(map(tuple, np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0].T[:2]))


@pytest.mark.parametrize(
    "directions", [AXIAL, CORONAL, SAGITTAL, FEET_FIRST, tilted(12), OBLIQUE],
    ids=["axial", "coronal", "sagittal", "feet first", "leaning", "oblique"],
)  # fmt: skip
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_every_orientation_lies_where_simpleitk_puts_it(directions, step, tmp_path):
    write(tmp_path / "ct", stored(), directions, step=step)
    ours, theirs = read_volume(tmp_path / "ct"), peer(tmp_path / "ct")
    np.testing.assert_array_equal(ours.voxels, np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    assert ours.original_shape == (7, 6, 5)
    shape, affine = grid(tmp_path / "ct")
    assert shape == (7, 6, 5)
    np.testing.assert_array_equal(affine, ours.original_affine)


def test_a_voxel_is_where_the_standard_says(tmp_path):
    """PS3.3 C.7.6.2.1.1 by hand: axial, head first; LPS (-100, -120, 40) is RAS (100, 120, 40)."""
    pixels = np.zeros(SHAPE, np.uint16)
    pixels[3, 4, 2] = 2000
    write(tmp_path / "ct", pixels)
    volume = read_volume(tmp_path / "ct")
    (at,) = np.argwhere(volume.voxels == 2000 - 1024)
    x, y, z = (volume.affine @ [*at, 1])[:3]
    assert (x, y, z) == pytest.approx((100 - 2 * 0.7, 120 - 4 * 0.8, 40 + 3 * 2.5))


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -1000), (0.5, -10.25)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_numbers_are_hu(slope, intercept, dtype, tmp_path):
    pixels = stored(dtype=dtype) - (500 if dtype == np.int16 else 0)
    write(tmp_path / "ct", pixels, RescaleSlope=slope, RescaleIntercept=intercept)
    image = read_volume(tmp_path / "ct").voxels
    np.testing.assert_array_equal(image, np.asarray(peer(tmp_path / "ct").dataobj))
    assert image.min() == int(pixels.min()) * slope + intercept


def test_padding_becomes_air_in_ct_and_nothing_in_mr(tmp_path):
    pixels = stored()
    pixels[:, 0] = 63536  # -2000 read without its sign
    write(tmp_path / "ct", pixels, PixelPaddingValue=63536)
    write(tmp_path / "mr", pixels, PixelPaddingValue=63000, PixelPaddingRangeLimit=64000, Modality="MR")
    ct, mr = read_volume(tmp_path / "ct").voxels, read_volume(tmp_path / "mr").voxels
    assert ct.max() < 3000
    assert (ct == -1024).sum() >= 35
    assert (mr == 0).sum() >= 35


def test_compression_makes_no_difference(tmp_path):
    paths = write(tmp_path / "ct", stored())
    plain = read_volume(tmp_path / "ct").voxels
    for path in paths:
        found = pydicom.dcmread(path)
        found.compress(RLELossless)
        found.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").voxels, plain)


def test_lossless_jpeg_of_archives_is_decoded(tmp_path):
    gdcm = pytest.importorskip("gdcm")
    paths = write(tmp_path / "ct", stored())
    plain = read_volume(tmp_path / "ct").voxels
    for path in paths:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").voxels, plain)


def test_what_is_no_slice_lies_beside_in_peace(tmp_path):
    write(tmp_path / "ct", stored())
    plain = read_volume(tmp_path / "ct").voxels
    (tmp_path / "ct" / "LICENSE").write_text("as you like")
    (tmp_path / "ct" / "seg.nii.gz").write_bytes(b"x" * 200)
    (tmp_path / "ct" / "._0001.dcm").write_bytes(b"Mac OS X")
    write(tmp_path / "ct" / "below", stored(seed=1))
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").voxels, plain)


# --- series that are no volume --------------------------------------------------------------------------


def change(path: Path, **values) -> None:
    found = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    found.save_as(path)


def test_a_missing_slice_is_named_by_its_place(tmp_path):
    paths = write(tmp_path / "ct", stored((9, 6, 7)))
    paths[3].unlink()
    paths[6].unlink()
    error = refused(tmp_path / "ct")
    assert error.code == "missing-slices"
    assert "47.5, 55 mm" in error.what  # 40 + 3 × 2.5, 40 + 6 × 2.5


def test_a_step_that_differs_is_named(tmp_path):
    paths = write(tmp_path / "ct", stored())
    change(paths[2], ImagePositionPatient=[-100, -120, 46.0])
    error = refused(tmp_path / "ct")
    assert error.code == "uneven-slices"
    assert "2.50 mm apart" in error.what
    assert "3.50 mm between those at 42.50 and 46.00 mm" in error.what


def test_positions_rounded_by_the_scanner_pass(tmp_path):
    paths = write(tmp_path / "ct", stored((9, 6, 7)), step=0.625)
    for k, path in enumerate(paths):
        change(path, ImagePositionPatient=[-100, -120, round(40 + k * 0.625, 2)])
    assert read_volume(tmp_path / "ct").affine[2, 2] == pytest.approx(0.625)


def test_a_slice_that_slipped_sideways_is_found(tmp_path):
    paths = write(tmp_path / "ct", stored())
    change(paths[2], ImagePositionPatient=[-99, -120, 45.0])
    error = refused(tmp_path / "ct")
    assert error.code == "uneven-slices"
    assert "at 45.00 mm lies 1.00 mm beside" in error.what


def test_gantry_tilt_is_measured(tmp_path):
    write(tmp_path / "ct", stored(), tilted(15), step=(0, 0, 2.5), GantryDetectorTilt=15)
    error = refused(tmp_path / "ct")
    assert error.code == "sheared"
    assert "15.0°" in error.what


def test_a_tilt_that_the_orientation_denies_is_a_conflict(tmp_path):
    write(tmp_path / "ct", stored(), GantryDetectorTilt=15)
    assert refused(tmp_path / "ct").code == "geometry-conflict"


def test_copies_and_phases_are_told_apart(tmp_path):
    paths = write(tmp_path / "copies", stored())
    shutil.copy(paths[1], tmp_path / "copies" / "again.dcm")
    error = refused(tmp_path / "copies")
    assert (error.code, "42.5 mm" in error.what) == ("duplicate-slices", True)
    series = {"SeriesInstanceUID": "1.2.5"}
    for phase in range(3):
        for path in write(tmp_path / f"{phase}", stored(seed=phase), **series):
            (tmp_path / "phases").mkdir(exist_ok=True)
            shutil.move(path, tmp_path / "phases" / f"{phase}-{path.name}")
    error = refused(tmp_path / "phases")
    assert error.code == "not-3d"
    assert "5 positions occurs 3 times" in error.what


def test_two_series_in_a_folder_are_counted(tmp_path):
    write(tmp_path / "ct", stored((4, 6, 7)))
    for path in write(tmp_path / "b", stored((2, 6, 7)), origin=(0, 0, 0)):
        shutil.move(path, tmp_path / "ct" / f"b{path.name}")
    error = refused(tmp_path / "ct")
    assert error.code == "several-series"
    assert "2 series, of 4, 2 files" in error.what


@pytest.mark.parametrize(
    ("values", "code", "word"),
    [
        ({"PixelSpacing": [0.9, 0.7]}, "slice-mismatch", "pixel spacing is 0.9, 0.7"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "slice-mismatch", "orientation"),
        ({"RescaleIntercept": -1000}, "slice-mismatch", "rescale"),
        ({"RescaleSlope": None}, "rescale", "no rescale slope"),
        ({"RescaleIntercept": None}, "rescale", "no rescale intercept"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "rescale", "no rescale slope and no rescale inter"),
        ({"RescaleSlope": 0}, "rescale", "0 and -1024"),
        ({"RescaleType": "Z_EFF"}, "rescale", "Z_EFF"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer", "scout"),
        ({"ImagePositionPatient": None}, "no-geometry", "missing"),
        ({"PixelSpacing": None}, "no-geometry", "missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no-geometry", "impossible"),
        ({"PixelSpacing": [0, 0.7]}, "no-geometry", "impossible"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not-scalar", "RGB"),
        ({"BitsAllocated": 32}, "not-scalar", "32 bits"),
        ({"NumberOfFrames": 8}, "multi-frame", "8 frames"),
        ({"SOPClassUID": SegmentationStorage}, "not-an-image", "Segmentation Storage"),
        ({"SOPClassUID": RTStructureSetStorage, "Rows": None}, "not-an-image", "RT Structure Set"),
    ],
)  # fmt: skip
def test_one_bad_slice_is_named(values, code, word, tmp_path):
    path = write(tmp_path / "ct", stored())[2]
    change(path, **values)
    with pytest.raises(DataError, match=word) as caught:
        read_volume(tmp_path / "ct")
    assert caught.value.code == code
    assert path.name in caught.value.where


def test_slices_of_another_size_are_refused(tmp_path):
    write(tmp_path / "ct", stored(), SeriesInstanceUID="1.2.6")
    (path,) = write(tmp_path / "b", stored((1, 6, 8)), origin=(-100, -120, 52.5), SeriesInstanceUID="1.2.6")
    shutil.move(path, tmp_path / "ct" / "b.dcm")
    error = refused(tmp_path / "ct")
    assert error.code == "slice-mismatch"
    assert "size is 6, 8, that of the other slices 6, 7" in error.what


@pytest.mark.parametrize("padding", [{}, {"PixelPaddingValue": 0}])
def test_stored_numbers_that_nobody_rescaled_are_no_hu(padding, tmp_path):
    pixels = stored()
    pixels[:, 0, 0] = 0
    write(tmp_path / "ct", pixels, RescaleIntercept=0, **padding)
    error = refused(tmp_path / "ct")
    assert error.code == "rescale"
    assert "air has -1000" in error.what


def test_the_modality_of_the_header_is_that_of_the_case(tmp_path):
    write(tmp_path / "mr", stored(), Modality="MR")
    with pytest.raises(DataError, match="header says MR, the case CT") as caught:
        read_image(tmp_path / "mr")
    assert caught.value.code == "modality"
    assert read_image(tmp_path / "mr", "MR").image.dtype == np.int16


def test_mr_needs_no_rescale(tmp_path):
    write(tmp_path / "mr", stored(), Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(np.sort(read_volume(tmp_path / "mr").voxels, None), np.sort(stored(), None))
    raw = read_image(tmp_path / "mr", "MR")
    assert len(raw.scales) == 1


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-20]), "corrupt"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "corrupt"),
        (lambda p: p.write_bytes(b""), "corrupt"),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "corrupt"),
        (lambda p: change(p, Rows=60000, Columns=60000), "slice-mismatch"),
    ],
)
def test_damaged_files_are_refused(how, code, tmp_path):
    paths = write(tmp_path / "ct", stored())
    how(paths[1])
    error = refused(tmp_path / "ct")
    assert (error.code, paths[1].name in error.where) == (code, True)


def test_a_header_that_announces_too_much_allocates_nothing(tmp_path, monkeypatch):
    for path in write(tmp_path / "ct", stored()):
        change(path, Rows=20000, Columns=20000)
    monkeypatch.setattr(dicom.np, "empty", lambda *args: pytest.fail("memory was asked for"))
    assert refused(tmp_path / "ct").code == "corrupt"


def test_pixels_that_nothing_decodes_name_their_compression(tmp_path):
    paths = write(tmp_path / "ct", stored())
    found = pydicom.dcmread(paths[0])
    found.compress(RLELossless)
    found.file_meta.TransferSyntaxUID = MPEG2MPML
    found.save_as(paths[0])
    error = refused(tmp_path / "ct")
    assert error.code == "compressed"
    assert "MPEG2" in error.what


def test_folders_without_a_series(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").code == "empty-series"
    write(tmp_path / "single", stored((1, 6, 7)))
    assert refused(tmp_path / "single").code == "too-thin"
    with pytest.raises(DataError, match="no reader") as caught:
        read_volume(tmp_path / "gone")
    assert caught.value.code == "not-nifti"


def test_random_damage_is_an_error_or_makes_no_difference(tmp_path):
    """Bytes flipped anywhere in the headers: never a crash."""
    write(tmp_path / "ct", stored())
    plain = {path: path.read_bytes() for path in (tmp_path / "ct").iterdir()}
    rng = np.random.default_rng(0)
    codes = set()
    for _ in range(150):
        path = sorted(plain)[rng.integers(len(plain))]
        data = bytearray(plain[path])
        for at in rng.integers(132, len(data), 3):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read_volume(tmp_path / "ct").voxels.size == stored().size
        except DataError as error:
            codes.add(error.code)
        path.write_bytes(plain[path])
    assert "corrupt" in codes


@pytest.mark.filterwarnings("default")
def test_no_value_of_a_header_is_quoted(tmp_path, recwarn, caplog):
    path = write(tmp_path / "ct", stored())[0]
    data = path.read_bytes()
    uid = pydicom.dcmread(path).SeriesInstanceUID.encode()
    path.write_bytes(data.replace(uid, b"Doe^Jane".ljust(len(uid))))
    with pytest.raises(ValueError, match="Doe"), pydicom.config.strict_reading():
        assert pydicom.dcmread(path).SeriesInstanceUID
    recwarn.clear()
    caplog.clear()
    assert "Doe" not in str(refused(tmp_path / "ct"))
    assert not recwarn.list
    assert not caplog.records
