"""From cases to stored volumes: resampling in mm, keys, and what is read again."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lifelong_ct.core.errors import DataError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data.bricks import read_header
from lifelong_ct.data.ingest import ingest, prepare, source_key
from lifelong_ct.data.layouts.manifest import ManifestLayout
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
OBLIQUE = np.array([[0, -1.5, 0, 30], [2.0, 0, 0, -7], [0, 0, 5.0, 11], [0, 0, 0, 1]])
NEW_SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.5, 4.0), (2.0, 0.7, 20.0), (5.0, 6.0, 2.5)]


def raw(shape=(12, 10, 6), channels=None, seed=0) -> RawCase:
    rng = np.random.default_rng(seed)
    image = rng.integers(-1000, 1000, shape if channels is None else (channels, *shape)).astype(np.int16)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    return RawCase(image, label, OBLIQUE, ("liver", "spleen", "pancreas"))


def in_mm(affine, shape) -> np.ndarray:
    """`[3, D, H, W]`, mm of every voxel centre."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return np.einsum("ij,jdhw->idhw", affine[:3, :3], index) + affine[:3, 3, None, None, None]


def edges(affine, shape) -> np.ndarray:
    """`[2, 3]`, mm of the outer corners of the first and the last voxel."""
    ends = np.array([[-0.5] * 3, np.array(shape) - 0.5])
    return ends @ affine[:3, :3].T + affine[:3, 3]


class Counting:
    """Cases in memory; counts what is loaded and fails at one."""

    def __init__(self, cases: int, bad: int | None = None) -> None:
        self.listed = [
            Case("h", f"c{i}", f"p{i}", "train", ("liver",), params={"shape": [12, 10, 6], "i": i})
            for i in range(cases)
        ]
        self.bad, self.loads = bad, []

    def cases(self):
        return iter(self.listed)

    def load(self, case: Case) -> RawCase:
        self.loads.append(case.id)
        if case.params["i"] == self.bad:
            raise DataError("it is broken", case.id, "mend it")
        return replace(raw(seed=case.params["i"]), organs=case.organs)


def store(root: Path, ledger: Ledger | None = None) -> VolumeStore:
    return VolumeStore(root, ledger or Ledger(), 0)


def everything(volume):
    return volume.read((0, 0, 0), volume.shape)


# --- resampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [None, (2.0, 1.5, 5.0)])
def test_the_same_spacing_changes_nothing(spacing):
    case = raw()
    assert prepare(case, spacing) is case


@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_the_spacing_is_met_and_the_corners_stay(spacing):
    case = raw()
    ready = prepare(case, spacing)
    wanted = np.array(case.image.shape) * case.spacing / np.array(spacing)
    assert np.abs(ready.image.shape - wanted).max() <= 0.5
    assert ready.label.shape == ready.image.shape
    np.testing.assert_allclose(edges(ready.affine, ready.image.shape), edges(OBLIQUE, case.image.shape))
    turn = ready.affine[:3, :3] / np.linalg.norm(ready.affine[:3, :3], axis=0)
    np.testing.assert_allclose(turn, OBLIQUE[:3, :3] / np.linalg.norm(OBLIQUE[:3, :3], axis=0), atol=1e-12)


@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_a_linear_image_keeps_its_values_in_mm(spacing):
    slope = np.array([7.0, -5.0, 9.0])

    def ramp(affine, shape):
        return np.tensordot(slope, in_mm(affine, shape), 1)

    image = ramp(OBLIQUE, (12, 10, 6)).round().astype(np.int16)
    ready = prepare(replace(raw(), image=image), spacing)
    expected = ramp(ready.affine, ready.image.shape)
    index = np.linalg.inv(OBLIQUE) @ np.vstack(
        [in_mm(ready.affine, ready.image.shape).reshape(3, -1), np.ones(ready.image.size)]
    )
    last = np.array(image.shape)[:, None] - 1
    inside = ((index[:3] >= -1e-9) & (index[:3] <= last + 1e-9)).all(0).reshape(ready.image.shape)
    assert inside.sum() >= 8
    # rounding to whole HU, before and after
    assert np.abs(ready.image - expected)[inside].max() <= 1.0 + 1e-3


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("spacing", NEW_SPACINGS)
def test_the_image_is_linear_and_the_label_nearest_as_of_scipy(spacing, channels):
    case = raw(channels=channels)
    ready = prepare(case, spacing)
    grid = np.linalg.inv(case.affine) @ ready.affine
    shape = ready.image.shape[-3:]
    for mine, source in zip(
        ready.image.reshape(-1, *shape), case.image.reshape(-1, *case.image.shape[-3:]), strict=True
    ):
        peer = ndimage.affine_transform(
            source.astype(float), grid[:3, :3], grid[:3, 3], shape, order=1, mode="nearest"
        )
        assert np.abs(mine - peer).max() <= 0.5 + 1e-2
    centres = np.linalg.inv(case.affine) @ np.vstack(
        [in_mm(ready.affine, shape).reshape(3, -1), np.ones(np.prod(shape))]
    )
    apart = np.abs(centres[:3] - np.round(centres[:3]))
    nearest = np.round(centres[:3]).astype(int).clip(0, np.array(case.label.shape)[:, None] - 1)
    unique = (apart < 0.5 - 1e-6).all(0)
    np.testing.assert_array_equal(
        ready.label.reshape(-1)[unique], case.label[tuple(nearest)][unique], strict=True
    )
    assert ready.label.dtype == case.label.dtype


def test_a_thin_axis_keeps_a_voxel_and_no_label_stays_none():
    ready = prepare(replace(raw((12, 10, 1)), label=None), (2.0, 1.5, 100.0))
    assert ready.image.shape == (12, 10, 1)
    ready = prepare(replace(raw((12, 10, 1)), label=None), (4.0, 1.5, 100.0))
    assert ready.image.shape == (6, 10, 1)
    assert ready.label is None


def test_what_else_a_case_holds_stays():
    case = replace(raw(), original_affine=np.eye(4), original_shape=(6, 10, 12))
    ready = prepare(case, (1.0, 1.0, 1.0))
    assert ready.organs == case.organs
    assert ready.original_shape == case.original_shape
    np.testing.assert_array_equal(ready.original_affine, np.eye(4))


# --- keys -----------------------------------------------------------------------------------------------


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for name in ("image.nii", "label.nii"):
        (tmp_path / name).write_bytes(b"12345678")
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    return Case(
        "north_clinic",
        "smith_1953",
        "mueller",
        "train",
        ("liver", "spleen"),
        (tmp_path / "image.nii",),
        tmp_path / "label.nii",
        label_ids={"liver": (1,), "spleen": (2,)},
    )


def test_a_key_follows_all_that_makes_the_voxels(case, tmp_path):
    moved = tmp_path / "moved.nii"
    shutil.copy2(case.images[0], moved)
    variants = [
        (case, None),
        (case, (1, 1, 1)),
        (case, (1, 1, 2)),
        (replace(case, images=(moved,)), None),
        (replace(case, label=moved), None),
        (replace(case, label=None), None),
        (replace(case, organs=("liver",)), None),
        (replace(case, organs=("spleen", "liver")), None),
        (replace(case, label_ids={"liver": (2,), "spleen": (1,)}), None),
        (replace(case, params={"index": 3}), None),
        (replace(case, modality="MR"), None),
        (replace(case, hospital="south"), None),
        (replace(case, id="other"), None),
        (replace(case, images=(tmp_path / "missing.nii",)), None),
    ]
    keys = [source_key(*variant) for variant in variants]
    for file in case.files:
        os.utime(file, ns=(10**18, 10**18 + 1))
        keys.append(source_key(case, None))
        file.write_bytes(b"123456789")
        os.utime(file, ns=(10**18, 10**18 + 1))
        keys.append(source_key(case, None))
    assert len(set(keys)) == len(keys)


def test_a_key_follows_nothing_else(case, monkeypatch, tmp_path):
    key = source_key(case, (1, 2, 3))
    assert key == source_key(case, [1.0, 2.0, 3.0])
    for change in ({"patient": "other"}, {"split": "test"}, {"licence": "MIT"}, {"label_kind": "model"}):
        assert source_key(replace(case, **change), (1, 2, 3)) == key
    assert source_key(replace(case, label_ids={"spleen": (2,), "liver": (1,)}), (1, 2, 3)) == key
    case.images[0].read_bytes()
    monkeypatch.chdir(tmp_path)
    assert source_key(replace(case, images=(Path("image.nii"),)), (1, 2, 3)) == key


def test_a_key_and_the_store_show_no_identifier(case, tmp_path):
    key = source_key(case, None)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")
    layout = Counting(1)
    private = replace(case, images=(), label=None, params=layout.listed[0].params)
    kept = store(tmp_path / "store")
    ingest(layout, [private], kept, None)
    for path in (tmp_path / "store").rglob("*"):
        for word in ("north", "smith", "mueller"):
            assert word not in str(path.relative_to(tmp_path))
            assert path.is_dir() or word.encode() not in path.read_bytes()


# --- ingest ---------------------------------------------------------------------------------------------


def test_a_second_ingest_reads_nothing_and_gives_the_same(tmp_path):
    layout, told = Counting(3), []
    first = ingest(layout, layout.listed, store(tmp_path), (1, 1, 1), lambda *done: told.append(done))
    assert layout.loads == ["c0", "c1", "c2"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    second = ingest(layout, layout.listed[::-1], store(tmp_path), (1, 1, 1))
    assert len(layout.loads) == 3
    assert [v.digest for v in second] == [v.digest for v in first][::-1]
    ingest(layout, layout.listed[:1], store(tmp_path), None)
    assert len(layout.loads) == 4


def test_what_is_stored_is_what_was_prepared(tmp_path):
    layout = Counting(1)
    stored = ingest(layout, layout.listed, store(tmp_path), (1, 1, 1))[0]
    ready = prepare(layout.load(layout.listed[0]), (1, 1, 1))
    image, label = everything(stored)
    np.testing.assert_array_equal(image, ready.image[None])
    np.testing.assert_array_equal(label, ready.label)
    np.testing.assert_array_equal(stored.affine, ready.affine)
    assert stored.organs == ("liver",)


def test_a_case_without_labels_is_stored_as_unlabelled(tmp_path):
    layout = Counting(1)
    layout.load = lambda case: replace(raw(), label=None, organs=())
    image, label = everything(ingest(layout, layout.listed, store(tmp_path), None)[0])
    assert image.shape == (1, 12, 10, 6)
    assert label.shape == (12, 10, 6)
    assert not label.any()


def test_a_problem_leaves_the_cases_before_it_stored(tmp_path):
    layout, kept = Counting(4, bad=2), store(tmp_path)
    with pytest.raises(DataError, match="broken"):
        ingest(layout, layout.listed, kept, None)
    assert [kept.has(source_key(case, None)) for case in layout.listed] == [True, True, False, False]
    layout.bad = None
    ingest(layout, layout.listed, kept, None)
    assert layout.loads == ["c0", "c1", "c2", "c2", "c3"]


def test_a_limit_leaves_the_cases_before_it_stored(tmp_path):
    layout = Counting(3)
    whole = store(tmp_path / "whole")
    ingest(layout, layout.listed[:2], whole, None)
    kept = store(tmp_path / "kept", Ledger({"disk": whole.nbytes + 10}))
    with pytest.raises(LimitExceeded):
        ingest(layout, layout.listed, kept, None)
    assert [kept.has(source_key(case, None)) for case in layout.listed] == [True, True, False]


@pytest.mark.parametrize("damage", ["magic", "header", "cut", "empty"])
def test_a_file_that_is_damaged_is_made_again(tmp_path, damage):
    layout, kept = Counting(1), store(tmp_path)
    volume = ingest(layout, layout.listed, kept, None)[0]
    path = next(tmp_path.rglob("*.lctvol"))
    whole = path.read_bytes()
    wrong = {"magic": b"LCTVOL99" + whole[8:], "header": whole[:40] + b"?" + whole[41:]}
    path.write_bytes({**wrong, "cut": whole[:-9], "empty": b""}[damage])
    again = ingest(layout, layout.listed, store(tmp_path), None)[0]
    assert path.read_bytes() == whole
    assert again.digest == volume.digest
    assert layout.loads == ["c0", "c0"]


def test_a_file_that_was_deleted_as_told_is_made_again(tmp_path):
    layout, kept = Counting(1), store(tmp_path)
    volume = ingest(layout, layout.listed, kept, None)[0]
    path = next(tmp_path.rglob("*.lctvol"))
    whole = bytearray(path.read_bytes())
    whole[read_header(path)[1] + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError) as error:
        everything(volume)
    Path(error.value.where).unlink()
    np.testing.assert_array_equal(
        everything(ingest(layout, layout.listed, kept, None)[0])[0], raw().image[None]
    )


@pytest.mark.skipif(not (SHARED / "ts_ct_img.nii.gz").exists(), reason="no shared data")
def test_a_real_scan_keeps_its_place_and_the_volume_of_its_organs(tmp_path):
    files = {"image": "ts_ct_img.nii.gz", "label": "ts_ct_seg.nii.gz"}
    row = {"id": "c", "patient": "p", "split": "train", "organs": ["liver", "spleen"], **files}
    manifest = {"labels": {"liver": 5, "spleen": 1}, "cases": [row]}
    layout = ManifestLayout("real", manifest=manifest, root=str(SHARED), other_labels="ignore")
    cases = list(layout.cases())
    source = layout.load(cases[0])
    stored = ingest(layout, cases, store(tmp_path), (4.5, 4.5, 6.0))[0]
    np.testing.assert_allclose(
        edges(stored.affine, stored.shape), edges(source.affine, source.image.shape), atol=1e-6
    )
    label = everything(stored)[1]
    for value, organ in enumerate(source.organs, start=1):
        before = (source.label == value).sum() * np.prod(source.spacing)
        after = (label == value).sum() * np.prod(stored.spacing)
        assert before > 2e5, organ  # mm³
        assert after == pytest.approx(before, rel=0.05), organ
