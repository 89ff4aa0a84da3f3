"""Files that are damaged, odd or made to harm: refused with code, file and fix, or read as nibabel reads them."""

import gzip
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.readers.nifti import read_ids, read_volume
from lifelong_ct.data.types import Volume

SHAPE = (6, 7, 19)  # more than two slabs, the last one short


def raw(affine=None, dtype=np.int16, **header) -> bytearray:
    """A whole file, decompressed."""
    voxels = np.random.default_rng(0).integers(-1000, 1400, SHAPE).astype(dtype)
    image = nib.Nifti1Image(voxels, np.diag([-2.0, 2, 3, 1]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    data = bytearray(image.to_bytes())
    for key, (offset, code) in FIELDS.items():
        if key in header:
            data[offset : offset + struct.calcsize(code)] = struct.pack(f"<{code}", header[key])
    return data


FIELDS = {
    "axes": (40, "h"), "x": (42, "h"), "y": (44, "h"), "type": (70, "h"), "pixdim": (80, "f"),
    "vox_offset": (108, "f"), "slope": (112, "f"), "inter": (116, "f"), "units": (123, "B"),
    "qform": (252, "h"), "sform": (254, "h"), "quatern": (256, "f"), "srow": (280, "f"), "magic": (344, "4s"),
}  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert path.name in caught.value.where
    assert caught.value.fix
    return caught.value.code


def same_as_nibabel(path: Path) -> None:
    ours, theirs = read_volume(path), nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(ours.voxels, np.asarray(theirs.dataobj).reshape(ours.shape))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    assert ours.voxels.flags.c_contiguous
    assert ours.voxels.dtype.isnative


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"axes": 0}, "corrupt"),
        ({"axes": 8}, "corrupt"),
        ({"x": -3}, "too-thin"),
        ({"x": 0}, "too-thin"),
        ({"x": 4000, "y": 4000}, "corrupt"),
        ({"type": 128}, "not-scalar"),
        ({"type": 32}, "not-scalar"),
        ({"type": 9999}, "corrupt"),
        ({"pixdim": float("nan")}, "no-geometry"),
        ({"pixdim": 0.0, "qform": 1}, "no-geometry"),
        ({"vox_offset": float("nan")}, "corrupt"),
        ({"vox_offset": 1e9}, "corrupt"),
        ({"vox_offset": 0}, "corrupt"),
        ({"vox_offset": 352.5}, "corrupt"),
        ({"inter": float("nan"), "slope": 2.0}, "corrupt"),
        ({"units": 1}, "wrong-units"),
        ({"quatern": float("nan"), "qform": 1}, "no-geometry"),
        ({"srow": float("inf"), "sform": 1}, "no-geometry"),
        ({"magic": b"ni1"}, "not-nifti"),
        ({"magic": b"bad"}, "not-nifti"),
    ],
)
def test_a_damaged_header_is_refused(header, code, tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(raw(**header)))
    assert refused(path) == code


@pytest.mark.parametrize(
    "header",
    [
        {"slope": 0.0},
        {"slope": float("nan")},
        {"slope": 2.0, "inter": -24.0},
        {"slope": 0.5, "inter": 0.0},
        {"slope": 0.7324, "inter": -3.1},
        {"slope": 40.0, "inter": 0.0},
        {"qform": 0},
        {"sform": 0, "qform": 1},
        {"pixdim": 0.0, "qform": 0, "sform": 2},
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, ">i2"])
def test_a_legal_oddity_is_read_as_nibabel_reads_it(header, dtype, tmp_path):
    path = tmp_path / "a.nii.gz"
    data = raw(dtype=np.dtype(dtype).newbyteorder("="), **header)
    path.write_bytes(gzip.compress(data))
    if dtype == ">i2":
        image = nib.load(path)
        big = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header.as_byteswapped(">"))
        nib.save(big, path)
    same_as_nibabel(path)


def test_where_it_is_exact_scaled_voxels_stay_small(tmp_path):
    path = tmp_path / "a.nii"
    for slope, inter, kind in ((1.0, -24.0, np.int16), (0.5, 0.0, np.float32), (0.7324, 0.0, np.float64)):
        path.write_bytes(raw(slope=slope, inter=inter))
        assert read_volume(path).voxels.dtype == kind


def test_a_later_slab_may_need_a_wider_type(tmp_path):
    data = raw(slope=3.0, inter=1.0)
    data[-2:] = struct.pack("<h", 32767)
    path = tmp_path / "a.nii"
    path.write_bytes(data)
    same_as_nibabel(path)
    assert read_volume(path).voxels.dtype == np.float32  # 98302 is exact there


@pytest.mark.parametrize("cut", [100, 348, 352, 360, 1000])
def test_several_members_and_zeros_behind_them_pass(cut, tmp_path):
    data = bytes(raw())
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(data[:cut]) + gzip.compress(data[cut:]) + bytes(512))
    voxels = read_volume(path).voxels
    path.write_bytes(gzip.compress(data))
    np.testing.assert_array_equal(voxels, read_volume(path).voxels)


def test_every_flipped_bit_and_every_cut_of_the_stream_is_found(tmp_path):
    whole = gzip.compress(bytes(raw()))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(whole)
    want = read_volume(path).voxels
    for at in range(10, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        refused(path)
        path.write_bytes(whole[:at])
        assert refused(path) == "corrupt"
    path.write_bytes(whole + b"junk")
    assert refused(path) == "corrupt"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_volume(path).voxels, want)


def bomb(path: Path, shape: tuple[int, int, int], zeros: int) -> Path:
    """A header, and many more zeros than it or the file's size let expect."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(np.diag([1.0, 1, 1, 1]), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [squeeze.compress(header.binaryblock + bytes(4))]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(zeros >> 20)]
    path.write_bytes(b"".join([*parts, squeeze.flush()]))
    return path


@pytest.mark.parametrize("shape", [(2000, 2000, 2100), (1000, 1000, 1000), (20, 20, 20)])
def test_a_bomb_fills_no_memory(shape, tmp_path):
    path = bomb(tmp_path / "bomb.nii.gz", shape, 64 << 20)
    tracemalloc.start()
    assert refused(path) == "corrupt"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("shape", "zeros", "code"), [((500, 500, 500), 240, "too-large"), ((512, 512, 200), 300, "corrupt")]
)
def test_what_is_all_but_empty_takes_no_memory_either(shape, zeros, code, tmp_path):
    """240 MiB of zeros as announced; and 100 announced, 300 there, in a file that is long enough for a scan."""
    path = bomb(tmp_path / "bomb.nii.gz", shape, zeros << 20)
    if code == "corrupt":
        path.write_bytes(path.read_bytes() + gzip.compress(np.random.default_rng(0).bytes(1 << 20)))
    tracemalloc.start()
    assert refused(path) == code
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_map_of_labels_may_be_all_but_empty_but_not_larger_than_its_scan(tmp_path):
    path = tmp_path / "seg.nii.gz"
    ids = np.zeros((200, 200, 450), np.int64)  # 137 MiB, of which 140 KiB are left
    ids[100, 100, 100] = 3
    image = nib.Nifti1Image(ids, np.diag([2.0, 2, 2, 1]), dtype=np.int64)
    path.write_bytes(gzip.compress(image.to_bytes(), 1))
    scan = Volume(np.zeros(ids.shape, np.int16), image.affine, image.affine, ids.shape)
    for like in (scan, None):
        np.testing.assert_array_equal(read_ids(path, like, None).voxels, ids)
    assert refused(path) == "too-large"  # as a scan
    small = Volume(np.zeros((50, 200, 200), np.int16), image.affine, image.affine, (50, 200, 200))
    with pytest.raises(DataError) as caught:
        read_ids(path, small, None)
    assert caught.value.code == "shape-mismatch"


def test_ten_gigabytes_that_are_all_zero_are_no_scan(tmp_path):
    path = bomb(tmp_path / "bomb.nii.gz", (1700, 1700, 1730), 1 << 20)
    os.truncate(path, 10_436_320)  # what ten GB of zeros take; refused before it is read
    assert refused(path) == "too-large"


def test_what_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "empty.nii").touch()
    assert refused(tmp_path / "folder.nii.gz") == "unreadable"
    assert refused(tmp_path / "pipe.nii.gz") == "not-a-file"
    assert refused(tmp_path / "loop.nii.gz") == "unreadable"
    assert refused(tmp_path / "empty.nii.gz") == "corrupt"
    assert refused(tmp_path / "empty.nii") == "corrupt"
    assert refused(tmp_path / "gone.nii.gz") == "missing"
