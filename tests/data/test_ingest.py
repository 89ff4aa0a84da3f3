"""From cases to stored volumes: each once per content, again where it changed, the same with any number of threads."""

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lifelong_ct.core.errors import DataError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data.ingest import Ingest, ingest, prepare
from lifelong_ct.data.layouts.manifest import ManifestLayout
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
OBLIQUE = np.array([[0, -1.5, 0, 30], [2.0, 0, 0, -7], [0, 0, 5.0, 11], [0, 0, 0, 1]])


def raw(shape=(12, 10, 6), seed=0) -> RawCase:
    rng = np.random.default_rng(seed)
    image = rng.integers(-1000, 1000, shape).astype(np.int16)
    return RawCase(
        image, rng.integers(0, 4, shape).astype(np.uint8), OBLIQUE, ("liver", "spleen", "pancreas")
    )


class Counting:
    """Cases in memory; remembers what is loaded and fails at some."""

    def __init__(self, cases: int, *bad: int) -> None:
        self.listed = [
            Case("h", f"c{i}", f"p{i}", "train", ("liver",), params={"shape": [12, 10, 6], "i": i})
            for i in range(cases)
        ]
        self.bad, self.loads = bad, []

    def cases(self):
        return iter(self.listed)

    def load(self, case: Case) -> RawCase:
        self.loads.append(case.id)
        if case.params["i"] in self.bad:
            raise DataError("it is broken", case.id, "mend it")
        return replace(raw(seed=case.params["i"]), organs=case.organs)


def write(folder: Path, seed: int = 0, names=("ct.nii.gz", "seg.nii.gz")) -> None:
    """A scan and its labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    voxels, label = rng.integers(-1000, 1000, (12, 10, 8)).astype(np.int16), np.zeros((12, 10, 8), np.uint8)
    label[6:9, 2:6, 2:6], label[1:4, 2:6, 2:6] = 1, 2
    for data, name in zip((voxels, label), names, strict=True):
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 3.0, 1.0])), folder / name)


def hospital(
    root: Path, count: int = 1, name: str = "north", names=("ct.nii.gz", "seg.nii.gz"), **options
) -> ManifestLayout:
    """A layout of scans that `write` made in folders c0, c1, …"""
    rows = [
        {
            "id": f"smith-{i}",
            "patient": f"mueller-{i}",
            "split": "train",
            "organs": ["liver", "spleen"],
            "image": f"c{i}/{names[0]}",
            "label": f"c{i}/{names[1]}",
        }
        for i in range(count)
    ]
    manifest = {"labels": {"liver": 1, "spleen": 2}, "cases": rows}
    layout = ManifestLayout(name, manifest=manifest, root=str(root), **options)
    layout.loads = []
    load = layout.load
    layout.load = lambda case: [layout.loads.append(case.id), load(case)][1]
    return layout


def store(root: Path, ledger: Ledger | None = None, **more) -> VolumeStore:
    return VolumeStore(root, ledger or Ledger(), 0, **more)


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.lctvol"))


def everything(volume):
    return volume.read((0, 0, 0), volume.shape)


def into(layout, kept, spacing=None, **more):
    """Volumes and notes."""
    notes = []
    volumes = Ingest(layout, kept, spacing, note=notes.append, **more).every(list(layout.cases()))
    return volumes, notes


# --- once -----------------------------------------------------------------------------------------------


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


def test_nothing_in_the_store_shows_an_identifier(tmp_path):
    write(tmp_path / "schmidt_1953" / "c0")
    layout = hospital(tmp_path / "schmidt_1953")
    into(layout, store(tmp_path / "store"))
    for path in (tmp_path / "store").rglob("*"):
        for word in ("north", "smith", "mueller", "schmidt", "1953"):
            assert word not in str(path.relative_to(tmp_path))
            assert path.is_dir() or word.encode() not in path.read_bytes()


# --- by content -----------------------------------------------------------------------------------------


def test_a_moved_folder_finds_its_volumes(tmp_path):
    write(tmp_path / "a" / "c0")
    first, _ = into(hospital(tmp_path / "a"), store(tmp_path / "s"))
    (tmp_path / "a").rename(tmp_path / "b")
    layout = hospital(tmp_path / "b", name="south")
    second, notes = into(layout, store(tmp_path / "s"))
    assert layout.loads == notes == []
    assert second[0].key == first[0].key


def test_equal_cases_share_a_volume(tmp_path):
    for i in range(2):
        write(tmp_path / f"c{i}")
    layout, kept = hospital(tmp_path, 2), store(tmp_path / "s")
    volumes, _ = into(layout, kept)
    assert volumes[0].key == volumes[1].key
    assert layout.loads == ["smith-0"]
    assert len(files(tmp_path)) == 1
    assert kept.nbytes == files(tmp_path)[0].stat().st_size


@pytest.mark.parametrize("name", ["ct.nii.gz", "seg.nii.gz"])
def test_a_changed_file_is_ingested_again_and_said_so(tmp_path, name):
    write(tmp_path / "c0")
    layout = hospital(tmp_path)
    before, _ = into(layout, store(tmp_path / "s"))
    image = nib.load(tmp_path / "c0" / name)
    voxels = np.asarray(image.dataobj).copy()
    voxels[7, 7, 7] = 2
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "c0" / name)
    after, notes = into(layout, store(tmp_path / "s"), name=lambda case: "pseudonym")
    assert after[0].digest != before[0].digest
    found = everything(after[0])[name.startswith("seg")].reshape(12, 10, 8)
    assert found[7, 7, 7] == 2
    assert notes == ["case pseudonym: its source has changed; it is ingested as it is now"]
    assert into(layout, store(tmp_path / "s"))[1] == []
    assert len(layout.loads) == 2


def test_a_touched_file_is_found_again(tmp_path):
    write(tmp_path / "c0")
    layout = hospital(tmp_path)
    into(layout, store(tmp_path / "s"))
    os.utime(tmp_path / "c0" / "ct.nii.gz", (1, 1))
    assert into(layout, store(tmp_path / "s"))[1] == []
    assert len(layout.loads) == 1


def test_rehash_finds_what_size_time_and_inode_do_not_show(tmp_path):
    plain = ("ct.nii", "seg.nii")
    write(tmp_path / "c0", names=plain)
    for name in plain:
        os.utime(tmp_path / "c0" / name, (10**9, 10**9))
    layout = hospital(tmp_path, names=plain)
    into(layout, store(tmp_path / "s"))
    with open(tmp_path / "c0" / "ct.nii", "r+b") as file:
        file.seek(352)
        file.write(np.int16(77).tobytes())
    os.utime(tmp_path / "c0" / "ct.nii", (10**9, 10**9))
    assert into(layout, store(tmp_path / "s"))[1] == []
    volumes, notes = into(layout, store(tmp_path / "s"), rehash=True)
    assert len(notes) == 1
    assert everything(volumes[0])[0][0, 0, 0, 0] == 77


def test_a_source_that_changes_while_it_is_read_is_read_again(tmp_path):
    write(tmp_path / "c0", seed=0)
    layout = hospital(tmp_path)
    load, changes = layout.load, [1]

    def load_and_change(case):
        found = load(case)
        if changes:
            write(tmp_path / "c0", seed=changes.pop())
        return found

    layout.load = load_and_change
    volumes, _ = into(layout, store(tmp_path / "s"))
    write(tmp_path / "other" / "c0", seed=1)
    fresh, _ = into(hospital(tmp_path / "other"), store(tmp_path / "t"))
    assert volumes[0].digest == fresh[0].digest
    assert len(files(tmp_path / "s")) == 1


def test_a_source_that_changes_all_the_time_is_an_error(tmp_path):
    write(tmp_path / "c0")
    layout = hospital(tmp_path)
    load, seeds = layout.load, iter(range(1, 99))
    layout.load = lambda case: [load(case), write(tmp_path / "c0", seed=next(seeds))][0]
    with pytest.raises(DataError, match="change while they are read") as error:
        into(layout, store(tmp_path / "s"))
    assert "smith-0" in error.value.where
    assert not files(tmp_path / "s")


def test_rules_of_the_hospital_make_other_volumes(tmp_path):
    write(tmp_path / "c0")
    kept = store(tmp_path / "s")
    into(hospital(tmp_path), kept)
    into(hospital(tmp_path, other_labels="ignore"), kept)
    assert len(files(tmp_path)) == 2


def test_a_folder_is_a_source(tmp_path):
    """Of DICOM, say: what counts is what is in it."""
    slices = tmp_path / "series"
    slices.mkdir()
    for i in range(3):
        (slices / f"{i}.dcm").write_bytes(b"%d" % i)
    layout = Counting(1)
    layout.listed = [Case("h", "c0", "p", "train", ("liver",), (slices,), params={"i": 0})]
    first, _ = into(layout, store(tmp_path / "s"))
    shutil.move(slices, tmp_path / "moved")
    layout.listed = [replace(layout.listed[0], images=(tmp_path / "moved",))]
    assert into(layout, store(tmp_path / "s"))[0][0].key == first[0].key
    (tmp_path / "moved" / "1.dcm").write_bytes(b"x")
    assert into(layout, store(tmp_path / "s"))[0][0].key != first[0].key
    assert layout.loads == ["c0", "c0"]


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_a_problem_leaves_the_cases_before_it_stored(tmp_path, workers):
    layout, kept = Counting(5, 2, 4), store(tmp_path)
    with pytest.raises(DataError, match="broken") as error:
        ingest(layout, layout.listed, kept, None, workers=workers)
    assert error.value.where == "c2"
    layout.bad = ()
    layout.loads.clear()
    ingest(layout, layout.listed, kept, None)
    assert {"c0", "c1"}.isdisjoint(layout.loads)
    assert {"c2", "c4"} <= set(layout.loads)


def test_a_limit_leaves_the_cases_before_it_stored(tmp_path):
    layout = Counting(3)
    whole = store(tmp_path / "whole")
    ingest(layout, layout.listed[:2], whole, None)
    kept = store(tmp_path / "kept", Ledger({"disk": whole.nbytes + 10}))
    with pytest.raises(LimitExceeded):
        ingest(layout, layout.listed, kept, None)
    assert len(files(tmp_path / "kept")) == 2


def test_what_does_not_fit_is_left_out_where_it_may(tmp_path):
    layout = Counting(3)
    whole = store(tmp_path / "whole")
    ingest(layout, layout.listed[:2], whole, None)
    kept = store(tmp_path / "kept", Ledger({"disk": whole.nbytes + 10}))
    found = Ingest(layout, kept, None).what_fits(layout.listed)
    assert [volume is None for volume in found] == [False, False, True]


def test_room_is_made_without_reading_again_and_never_of_what_is_taken(tmp_path):
    layout = Counting(4)
    whole = store(tmp_path / "whole")
    ingest(layout, layout.listed, whole, None)
    old = Counting(1)
    kept = store(tmp_path / "kept", Ledger({"disk": whole.nbytes + 10}))
    key = ingest(old, [replace(old.listed[0], id="old")], kept, None)[0].key
    layout.loads.clear()
    asked = []

    def make_room(taken):
        asked.append(set(taken))
        kept.evict(key)
        return len(asked) == 1

    volumes = ingest(layout, layout.listed, kept, None, make_room=make_room)
    assert layout.loads == ["c0", "c1", "c2", "c3"]
    assert len(asked) == 1
    assert asked[0] >= {volume.key for volume in volumes[:3]}
    assert key not in asked[0]
    assert sorted(path.stem for path in files(tmp_path / "kept")) == sorted(v.key for v in volumes)


def test_a_missing_file_names_the_case(tmp_path):
    write(tmp_path / "c0")
    layout = hospital(tmp_path)
    cases = list(layout.cases())
    (tmp_path / "c0" / "ct.nii.gz").unlink()
    with pytest.raises(DataError) as error:
        ingest(layout, cases, store(tmp_path / "s"), None)
    assert error.value.where == f"case smith-0, {tmp_path / 'c0' / 'ct.nii.gz'}"
    assert error.value.code == "missing"


def test_a_case_that_needs_more_memory_than_there_is_is_told_before_it_is_read(tmp_path):
    write(tmp_path / "c0")
    layout = hospital(tmp_path)
    with pytest.raises(LimitExceeded, match=r"case pseudonym needs .* of ram to be ingested"):
        into(layout, store(tmp_path / "s", Ledger({"ram": 1000})), name=lambda case: "pseudonym")
    assert layout.loads == []


# --- in parallel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_any_number_of_threads_stores_and_returns_the_same(tmp_path, spacing):
    results = []
    for workers in (1, 2, 5):
        layout, told = Counting(7), []
        kept = store(tmp_path / str(workers))
        found = Ingest(
            layout, kept, spacing, lambda *done, told=told: told.append(done), workers=workers
        ).every(layout.listed)
        assert told == [(i, 7) for i in range(1, 8)]
        assert sorted(layout.loads) == sorted(case.id for case in layout.listed)
        names = [(path.name, path.read_bytes()) for path in files(tmp_path / str(workers))]
        results.append(([(v.key, v.digest) for v in found], names))
    assert results[0] == results[1] == results[2]


def test_threads_work_at_the_same_time(tmp_path):
    layout, meeting = Counting(2), threading.Barrier(2)
    load = layout.load
    layout.load = lambda case: [meeting.wait(60), load(case)][1]
    assert len(ingest(layout, layout.listed, store(tmp_path), None, workers=2)) == 2


def test_the_memory_limit_holds_and_is_used(tmp_path):
    """Room for two cases: five threads have two at work."""
    layout = Counting(6)
    one = store(tmp_path / "one", Ledger({"ram": 10**9}))
    ingest(layout, layout.listed[:1], one, None)
    need = one.ledger.peak("ram")
    kept = store(tmp_path / "five", Ledger({"ram": int(2.5 * need)}))
    ingest(layout, layout.listed, kept, None, workers=5)
    assert need < kept.ledger.peak("ram") <= int(2.5 * need)
    assert kept.ledger.held("ram") == 0


def test_equal_cases_in_threads_share_a_volume(tmp_path):
    for i in range(4):
        write(tmp_path / f"c{i}")
    layout = hospital(tmp_path, 4)
    volumes, _ = into(layout, store(tmp_path / "s"), workers=4)
    assert len({volume.key for volume in volumes}) == len(files(tmp_path)) == len(layout.loads) == 1


# --- real scans -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "ts_ct_img.nii.gz").exists(), reason="no shared data")
def test_a_real_scan_keeps_its_place_and_the_volume_of_its_organs(tmp_path):
    names = {"image": "ts_ct_img.nii.gz", "label": "ts_ct_seg.nii.gz"}
    row = {"id": "c", "patient": "p", "split": "train", "organs": ["liver", "spleen"], **names}
    manifest = {"labels": {"liver": 5, "spleen": 1}, "cases": [row]}
    layout = ManifestLayout("real", manifest=manifest, root=str(SHARED), other_labels="ignore")
    cases = list(layout.cases())
    source = layout.load(cases[0])
    stored = ingest(layout, cases, store(tmp_path), (4.5, 4.5, 6.0))[0]

    def edges(affine, shape):
        """`[2, 3]`, mm of the outer corners of the first and the last voxel."""
        return np.array([[-0.5] * 3, np.array(shape) - 0.5]) @ affine[:3, :3].T + affine[:3, 3]

    np.testing.assert_allclose(
        edges(stored.affine, stored.shape), edges(source.affine, source.image.shape), atol=1e-6
    )
    label = everything(stored)[1]
    for value, organ in enumerate(source.organs, start=1):
        before = (source.label == value).sum() * np.prod(source.spacing)
        after = (label == value).sum() * np.prod(stored.spacing)
        assert before > 2e5, organ  # mm³
        assert after == pytest.approx(before, rel=0.05), organ
