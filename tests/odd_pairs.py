"""Pairs of a scan and its labels as a sceptic would hand them in, and the verdict that each deserves.

Not here: labels whose slices are in reverse. They still lie on tissue, and nothing in the files tells.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from slices import write_scan

SHAPE = (24, 20, 16)
AFFINE = np.array([[3.0, 0, 0, -30], [0, 3.0, 0, -40], [0, 0, 4.0, 10], [0, 0, 0, 1]])
LIVER, SPLEEN = (slice(13, 19), slice(6, 14), slice(6, 11)), (slice(6, 9), slice(7, 11), slice(8, 12))
OK = "ok"
Pair = tuple[str, Callable[[Path], dict[str, Any] | None]]


def scan() -> np.ndarray:
    """An abdomen in air, int16 HU: fat, organs, a spine; noise of 15 HU; no two planes alike."""
    rng = np.random.default_rng(5)
    hu = np.full(SHAPE, -1000.0)
    hu[3:21, 3:17, 1:15] = -90
    hu[5:19, 5:15, 1:15] = 40
    hu[LIVER], hu[SPLEEN] = 110, 130
    hu[11:14, 5:7, 1:15] = 600
    return np.rint(hu + rng.normal(0, 15, SHAPE)).astype(np.int16)


def ids() -> np.ndarray:
    """1 liver, 2 spleen."""
    label = np.zeros(SHAPE, np.uint8)
    label[LIVER], label[SPLEEN] = 1, 2
    return label


def save(
    path: Path,
    voxels: Any,
    affine: Any = AFFINE,
    forms: str = "sq",
    kind: Any = nib.Nifti1Image,
    **header: Any,
):
    """A NIfTI file; `header` are raw fields, set last."""
    image = kind(voxels, None)
    for form, give in (("s", image.set_sform), ("q", image.set_qform)):
        if form in forms:
            give(affine, 1) if form == "s" else give(affine, 1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    data = bytearray(image.to_bytes())
    head = type(image.header)(bytes(data[: image.header.sizeof_hdr]), check=False)
    for key, value in header.items():
        name, _, at = key.partition("__")
        if at:
            head[name][int(at)] = value
        else:
            head[name] = value
    data[: image.header.sizeof_hdr] = head.binaryblock
    path.write_bytes(gzip.compress(bytes(data), 1) if path.name.endswith(".gz") else data)


def both(image: dict[str, Any] | None = None, label: dict[str, Any] | None = None, **row: Any):
    """Writes scan and labels, of which something is another way; the fields of the manifest that are."""

    def make(root: Path) -> dict[str, Any]:
        save(root / "ct.nii.gz", **{"voxels": scan(), **(image or {})})
        save(root / "seg.nii.gz", **{"voxels": ids(), **(label or {})})
        return row

    return make


def lying(affine: np.ndarray, turn: Callable[[np.ndarray], np.ndarray] = lambda a: a, **header: Any):
    """Both on one other grid."""
    return both(
        {"voxels": turn(scan()), "affine": affine, **header},
        {"voxels": turn(ids()), "affine": affine, **header},
    )


def hu(change: Callable[[np.ndarray], Any], **header: Any):
    """A scan of other numbers."""
    return both({"voxels": change(scan()), **header})


def labelled(change: Callable[[np.ndarray], Any], **more: Any):
    """Other labels."""
    return both(None, {"voxels": change(ids()), **more})


def one(index: tuple[int, ...], value: float, kind: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        out = voxels.astype(kind)
        out[index] = value
        return out

    return change


def bytes_of(change: Callable[[bytes], bytes], name: str = "ct.nii.gz", which: str = "image"):
    """A file of other bytes."""

    def make(root: Path) -> dict[str, Any]:
        both()(root)
        old = root / ("ct.nii.gz" if which == "image" else "seg.nii.gz")
        new = root / name
        data = change(old.read_bytes())
        old.unlink()
        new.write_bytes(data)
        return {which: str(new)}

    return make


def plain(change: Callable[[bytearray], Any]) -> Callable[[bytes], bytes]:
    """A change of what is compressed."""

    def packed(data: bytes) -> bytes:
        inside = bytearray(gzip.decompress(data))
        return gzip.compress(bytes(change(inside) or inside))

    return packed


def put(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytearray) -> None:
        data[offset : offset + len(value)] = value

    return plain(change)


def placed(make: Callable[[Path], Any], which: str = "image"):
    """Something else in place of a file."""

    def made(root: Path) -> dict[str, Any]:
        both()(root)
        path = root / ("ct.nii.gz" if which == "image" else "seg.nii.gz")
        path.unlink()
        make(path)
        return {}

    return made


def series(change: Callable[[Path], Any] = lambda folder: None, **elements: Any):
    """The scan as a folder of DICOM."""

    def make(root: Path) -> dict[str, Any]:
        both()(root)
        write_scan(root / "dicom", scan(), AFFINE, **elements)
        change(root / "dicom")
        return {"image": str(root / "dicom")}

    return make


def turned(degrees: float) -> np.ndarray:
    """The grid turned about the first axis, then a little about the last."""
    out = AFFINE.copy()
    for (a, b), angle in (((1, 2), degrees), ((0, 1), degrees / 3)):
        turn = np.eye(3)
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        out[:3] = turn @ out[:3]
    return out


def moved(axis: int, mm: float) -> np.ndarray:
    out = AFFINE.copy()
    out[axis, 3] += mm
    return out


def mirrored(axis: int) -> np.ndarray:
    """The same voxels counted from the other end."""
    out = AFFINE.copy()
    out[:3, 3] += out[:3, axis] * (SHAPE[axis] - 1)
    out[:3, axis] *= -1
    return out


def scaled(x: float, y: float, z: float) -> np.ndarray:
    return np.diag([x, y, z, 1.0])


SHEARED = AFFINE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
LPS = mirrored(0)[:, :] + (mirrored(1) - AFFINE)
FLAT = np.array([[3.0, 0, 0, -30], [0, 3.0, 0, -40], [0, 0, 0, 10], [0, 0, 0, 1]])
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def big_endian(root: Path) -> dict[str, Any]:
    for name, voxels in (("ct", scan()), ("seg", ids().astype(np.int16))):
        image = nib.Nifti1Image(voxels.astype(">i2"), AFFINE, nib.Nifti1Header(endianness=">"))
        image.header.set_data_dtype(">i2")
        nib.save(image, root / f"{name}.nii.gz")
    return {}


def extended(root: Path) -> dict[str, Any]:
    both()(root)
    image = nib.Nifti1Image(scan(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"from a PACS" * 40))
    nib.save(image, root / "ct.nii.gz")
    return {}


def analyze(root: Path) -> dict[str, Any]:
    both()(root)
    nib.save(nib.AnalyzeImage(scan(), AFFINE), root / "ct.hdr")
    return {"image": str(root / "ct.hdr")}


def pair_of_files(root: Path) -> dict[str, Any]:
    both()(root)
    nib.save(nib.Nifti1Pair(scan(), AFFINE), root / "ct.hdr")
    return {"image": str(root / "ct.img")}


def bomb(path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), AFFINE)
    image.header.set_data_shape((600, 600, 600))
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    data = [squeeze.compress(image.header.binaryblock + bytes(4))]
    data += [squeeze.compress(bytes(1 << 20)) for _ in range(20)]
    path.write_bytes(b"".join([*data, squeeze.flush()]))


GEOMETRY: dict[str, Pair] = {
    "right anterior superior": (OK, both()),
    "left posterior superior": (OK, lying(LPS, lambda a: a[::-1, ::-1])),
    "upside down": (OK, lying(mirrored(2), lambda a: a[..., ::-1])),
    "axes in another order": (OK, lying(AFFINE[:, [2, 0, 1, 3]], lambda a: a.transpose(2, 0, 1))),
    "only the labels in another order": (
        OK,
        both(None, {"voxels": ids().transpose(1, 2, 0)[::-1], "affine": mirrored(1)[:, [1, 2, 0, 3]]}),
    ),
    "oblique, 5 degrees": (OK, lying(turned(5))),
    "oblique, 30 degrees": (OK, lying(turned(30))),
    "sheared": ("sheared", lying(SHEARED, forms="s")),
    "sform and qform disagree": ("geometry-conflict", both({"qoffset_x": 25.0})),
    "sform and qform of other sides": ("geometry-conflict", both({"srow_x__0": -3.0})),
    "qform alone": (OK, lying(turned(5), forms="q")),
    "sform alone": (OK, lying(turned(5), forms="s")),
    "sform in the scan, qform in the labels": (OK, both({"forms": "s"}, {"forms": "q"})),
    "neither form": ("no-geometry", lying(AFFINE, forms="")),
    "labels with neither form": ("no-geometry", both(None, {"forms": ""})),
    "a spacing of 0": ("no-geometry", lying(FLAT, forms="s")),
    "a spacing of 0 in the qform": ("no-geometry", both({"forms": "q", "pixdim__2": 0.0})),
    "a negative pixdim, sform": (OK, both({"forms": "s", "pixdim__2": -3.0})),
    "a negative pixdim, qform": (OK, both({"forms": "q", "pixdim__2": -3.0})),
    "a spacing of NaN": ("no-geometry", both({"pixdim__3": np.nan})),
    "units of metres": ("wrong-units", both({"xyzt_units": 1})),
    "units of micrometres": ("wrong-units", both({"xyzt_units": 3})),
    "unknown units": (OK, both({"xyzt_units": 0})),
    "written in metres": ("wrong-units", lying(scaled(0.003, 0.003, 0.004))),
    "written in micrometres": ("wrong-units", lying(scaled(3000, 3000, 4000))),
    "0.3 x 0.3 x 10 mm": (OK, lying(scaled(0.3, 0.3, 10))),
    "a field of view of 9 mm": (OK, lying(scaled(0.4, 0.4, 0.4))),
    "one slice": ("too-thin", both({"voxels": scan()[..., 8:9]}, {"voxels": ids()[..., 8:9]})),
    "two axes": ("not-3d", both({"voxels": scan()[..., 8]}, {"voxels": ids()[..., 8]})),
    "four axes, one volume": (OK, both({"voxels": scan()[..., None]})),
    "four axes, three volumes": ("not-3d", both({"voxels": np.stack([scan()] * 3, -1)})),
    "a vector per voxel": ("not-3d", both({"voxels": np.stack([scan()] * 3, -1)[..., None, :]})),
    "labels 0.0001 mm away": (OK, both(None, {"affine": moved(0, 1e-4)})),
    "labels 0.01 mm away": (OK, both(None, {"affine": moved(0, 1e-2)})),
    "labels half a voxel away": ("geometry-mismatch", both(None, {"affine": moved(1, 1.5)})),
    "labels of another origin": ("geometry-mismatch", both(None, {"affine": scaled(3, 3, 4)})),
    "labels of another spacing": ("geometry-mismatch", both(None, {"affine": AFFINE @ scaled(1, 1, 1.1)})),
    "labels mirrored by the affine": ("geometry-mismatch", both(None, {"affine": mirrored(0)})),
    "labels mirrored by the voxels": ("geometry-mismatch", labelled(lambda a: a[::-1])),
    "labels on another grid": ("shape-mismatch", both(None, {"voxels": ids()[::2, ::2], "affine": AFFINE @ scaled(2, 2, 1)})),
    "labels without the last slice": ("shape-mismatch", labelled(lambda a: a[..., :-1])),
    "labels transposed": ("shape-mismatch", labelled(lambda a: a.transpose(1, 0, 2))),
}  # fmt: skip
NUMBERS: dict[str, Pair] = {
    "one NaN": ("non-finite", hu(one((1, 1, 1), np.nan, np.float32))),
    "one infinite": ("non-finite", hu(one((1, 1, 1), -np.inf, np.float64))),
    "constant": ("implausible-hu", hu(lambda a: np.full_like(a, 40))),
    "zero": ("implausible-hu", hu(np.zeros_like)),
    "a tenth": ("implausible-hu", hu(lambda a: a / 10)),
    "negated": ("implausible-hu", hu(lambda a: -a)),
    "1024 too many": ("implausible-hu", hu(lambda a: a + 1024)),
    "1000 too many": ("implausible-hu", hu(lambda a: a + 1000)),
    "1024 too few": ("implausible-hu", hu(lambda a: a - 1024)),
    "1000 too few": ("implausible-hu", hu(lambda a: a - 1000)),
    "the intercept twice": ("implausible-hu", hu(lambda a: a - 1024, scl_slope=1.0, scl_inter=-1024.0)),
    "twice the HU": ("implausible-hu", hu(lambda a: 2 * a)),
    "half the HU": ("implausible-hu", hu(lambda a: a // 2)),
    "ten times the HU": ("implausible-hu", hu(lambda a: 10 * a)),
    "one voxel of 2147483647": ("implausible-hu", hu(one((1, 1, 1), 2**31 - 1, np.int32))),
    "one voxel of 1e9": ("implausible-hu", hu(one((1, 1, 1), 1e9, np.float32))),
    "air alone": ("implausible-hu", hu(lambda a: np.where(a > -500, -1000, a))),
    "slope 0": (OK, hu(lambda a: a, scl_slope=0.0)),
    "slope NaN": (OK, hu(lambda a: a, scl_slope=np.nan, scl_inter=np.nan)),
    "slope 2 and halves": (OK, hu(lambda a: (a // 2).astype(np.int16), scl_slope=2.0)),
    "intercept of -1024": (OK, hu(lambda a: (a + 1100).astype(np.uint16), scl_slope=1.0, scl_inter=-1100.0)),
    "unsigned, no intercept": ("implausible-hu", hu(lambda a: (a + 1100).astype(np.uint16))),
    "float64": (OK, hu(np.float64)),
    "int32": (OK, hu(np.int32)),
    "8 bits of a window": ("implausible-hu", hu(lambda a: (np.clip(a + 160, 0, 400) * 0.6375).astype(np.uint8))),
    "RGB": ("not-scalar", hu(lambda a: np.zeros(SHAPE, RGB))),
    "complex": ("not-scalar", hu(np.complex64)),
    "big-endian": (OK, big_endian),
    "true and false": ("implausible-hu", hu(lambda a: (a > 0).astype(np.uint8))),
    "padding of -2000": (OK, hu(one((slice(0, 3),), -2000, np.int16))),
    "padding of -3024": (OK, hu(one((slice(0, 3),), -3024, np.int16))),
    "padding of -32768": (OK, hu(one((slice(0, 3),), -32768, np.int16))),
    "metal of 30000": (OK, hu(one((12, 6, 8), 30000, np.int16))),
    "an MR scan": ("implausible-hu", hu(lambda a: np.maximum(a + 500, 0))),
    "an MR scan that says so": (OK, both({"voxels": np.maximum(scan() + 500, 0)}, modality="MR")),
    "an unknown modality": ("modality", both(modality="PET")),
}  # fmt: skip
LABELS: dict[str, Pair] = {
    "empty": ("empty-label", labelled(np.zeros_like)),
    "all one organ": ("label-in-air", labelled(np.ones_like)),
    "all but the body": ("label-in-air", labelled(lambda a: (scan() < -500).astype(np.uint8))),
    "of a body at another place": ("label-in-air", labelled(lambda a: np.roll(a, 10, 1))),
    "fractions": ("fractional-label", labelled(lambda a: a * np.float32(0.5))),
    "not a number": ("fractional-label", labelled(one((0, 0, 0), np.nan, np.float32))),
    "negative": ("unknown-label", labelled(one((0, 0, 0), -1, np.int16))),
    "out of the map": ("unknown-label", labelled(one((0, 0, 0), 77, np.uint8))),
    "whole numbers as float64": (OK, labelled(np.float64)),
    "an id of 300": (OK, both(None, {"voxels": np.where(ids() == 2, 300, ids().astype(np.uint16))}, labels={"liver": 1, "spleen": 300})),
    "an id of 70000": ("unknown-label", labelled(one((0, 0, 0), 70000, np.int32))),
    "a probability": ("fractional-label", labelled(lambda a: (a > 0) * np.float32(0.98))),
    "a volume per organ": ("not-3d", labelled(lambda a: np.stack([a == 0, a == 1, a == 2], -1).astype(np.uint8))),
    "one voxel of an organ": (OK, labelled(lambda a: np.where(a == 2, 0, a) + 2 * (np.arange(a.size) == 3000).reshape(SHAPE).astype(np.uint8))),
    "255 and a slope of 1/255": (OK, both(None, {"voxels": 255 * ids().astype(np.int16), "scl_slope": 1 / 255, "scl_inter": 0.0})),
    "of a scan": ("unknown-label", labelled(lambda a: scan())),
    "in place of the scan": ("implausible-hu", both({"voxels": ids()})),
    "one organ that is not there": (OK, labelled(lambda a: np.where(a == 2, 0, a))),
    "no file": ("missing", placed(lambda path: None, "label")),
    "an organ of another name": ("configuration", both(organs=["livr"])),
    "an organ without id": ("manifest", both(organs=["liver", "aorta"])),
}  # fmt: skip
FILES: dict[str, Pair] = {
    "gz that is none": ("corrupt", bytes_of(gzip.decompress)),
    "nii that is gz": ("corrupt", bytes_of(lambda data: data, "ct.nii")),
    "plain nii": (OK, bytes_of(gzip.decompress, "ct.nii")),
    "cut gz": ("corrupt", bytes_of(lambda data: data[:-50])),
    "cut nii": ("corrupt", bytes_of(lambda data: gzip.decompress(data)[:-50], "ct.nii")),
    "cut header": ("corrupt", bytes_of(plain(lambda data: data[:200]))),
    "cut labels": ("corrupt", bytes_of(lambda data: data[:-9], "seg.nii.gz", "label")),
    "garbage behind": ("corrupt", bytes_of(lambda data: data + b"garbage")),
    "two members": (OK, bytes_of(lambda data: gzip.compress(gzip.decompress(data)[:999]) + gzip.compress(gzip.decompress(data)[999:]))),
    "a wrong checksum": ("corrupt", bytes_of(lambda data: data[:-8] + bytes(4) + data[-4:])),
    "a bomb": ("too-large corrupt", placed(bomb)),
    "another header size": ("corrupt", bytes_of(put(0, b"\x00\x02\0\0"))),
    "another magic": ("not-nifti", bytes_of(put(344, b"abc\0"))),
    "voxels past the end": ("corrupt", bytes_of(put(108, np.float32(1e6).tobytes()))),
    "axes of 30000": ("too-large", bytes_of(put(42, np.array([30000] * 3, "<i2").tobytes()))),
    "a negative axis": ("corrupt too-thin", bytes_of(put(42, np.array([-24], "<i2").tobytes()))),
    "NIfTI-2": (OK, both({"kind": nib.Nifti2Image}, {"kind": nib.Nifti2Image})),
    "an Analyze pair": ("not-nifti", analyze),
    "a NIfTI pair": ("not-nifti", pair_of_files),
    "an extension": (OK, extended),
    "an empty file": ("corrupt", placed(lambda path: path.touch())),
    "a folder": ("unreadable not-a-file", placed(lambda path: path.mkdir())),
    "a loop of links": ("unreadable missing", placed(lambda path: path.symlink_to(path))),
    "a link to nowhere": ("missing", placed(lambda path: path.symlink_to(path.parent / "gone"))),
    "a name of spaces and umlauts": (OK, bytes_of(lambda data: data, "Müller, 扫描 (1).nii.gz")),
    "text": ("corrupt", placed(lambda path: path.write_text("<html>404</html>"))),
    "a series of DICOM": (OK, series()),
    "a series with a gap": ("missing-slices", series(lambda folder: sorted(folder.iterdir())[3].unlink())),
    "a folder without DICOM": ("empty-series", series(lambda folder: [file.unlink() for file in folder.iterdir()])),
    "a series of MR": ("modality", series(Modality="MR")),
}  # fmt: skip
PAIRS = {
    f"{group}: {name}": pair
    for group, pairs in (("geometry", GEOMETRY), ("numbers", NUMBERS), ("labels", LABELS), ("files", FILES))
    for name, pair in pairs.items()
}
