"""Eviction: test volumes first, then the oldest hospital, and runs on a disk smaller than their data."""

from dataclasses import replace

import numpy as np
import pytest
from hospitals import Heard, options, stream
from listed import entry, given

from lifelong_ct.avalanche_bridge.copying import attributed
from lifelong_ct.core.errors import DataError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import admission
from lifelong_ct.data.bricks import pack
from lifelong_ct.data.keys import volume_key
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.streams.class_overlap import ClassOverlap
from lifelong_ct.training import planner
from lifelong_ct.training.experience_patches import ExperiencePatches
from lifelong_ct.training.options import DataOptions, Requires
from lifelong_ct.training.run import Run
from lifelong_ct.training.volumes import Volumes


def size(made, hospital=0, split="train") -> int:
    """Bytes of all volumes of a split."""
    one = made.hospitals[hospital]
    found = [one.layout.load(case) for case in getattr(one, split)]
    one.layout.loads.clear()
    return sum(len(pack(raw)) for raw in found)


def opened(made, root, quota=None, keep_all=False):
    told = []
    store = VolumeStore(root, Ledger(), 0, quota)
    return Volumes(made, store, keep_all, lambda *args: told.append(args)), store, told


def there(made, store) -> set[str]:
    """Ids of the cases whose volumes this store uses."""
    every = [(h.layout, case) for h in made.hospitals for case in (*h.train, *h.test)]
    return {case.id for layout, case in every if volume_key(case, None, None, layout) in store._sizes}


def four(**more):
    return stream(*({"name": name, "train": [16, 16], "test": [16]} for name in "abcd"), **more)


def test_test_volumes_leave_first_and_then_the_oldest_hospital(tmp_path):
    made = four()
    a, b, c, d = made.hospitals
    volumes, store, _ = opened(made, tmp_path, quota=int(3.1 * size(made)))
    volumes.train([a])
    volumes.native(a, a.test[0])
    volumes.train([b])
    assert there(made, store) == {"a-train-0", "a-train-1", "a-test-0", "b-train-0", "b-train-1"}
    volumes.train([c])
    trained = {f"{name}-train-{i}" for name in "abc" for i in range(2)}
    assert there(made, store) == trained
    volumes.train([d])
    assert there(made, store) == {f"{name}-train-{i}" for name in "bcd" for i in range(2)}
    assert len(list(tmp_path.rglob("*.lctvol"))) == 6
    volumes.native(a, a.test[0])
    assert there(made, store) == {"c-train-0", "c-train-1", "d-train-0", "d-train-1", "a-test-0"}
    for name in "bcd":
        volumes.native(*((h, h.test[0]) for h in made.hospitals if h.name == name).__next__())
    assert there(made, store) == {"d-train-0", "d-train-1", *(f"{name}-test-0" for name in "abcd")}


def test_with_keep_all_no_training_volume_leaves(tmp_path):
    made = four()
    a, b, c, _ = made.hospitals
    volumes, store, _ = opened(made, tmp_path, quota=int(2.6 * size(made)), keep_all=True)
    volumes.train([a])
    volumes.native(a, a.test[0])
    volumes.train([b])
    with pytest.raises(LimitExceeded):
        volumes.train([c])
    assert {"a-train-0", "a-train-1", "b-train-0", "b-train-1"} <= there(made, store)
    assert "a-test-0" not in there(made, store)


def test_what_is_trained_on_now_never_leaves(tmp_path):
    made = four()
    a, b, *_ = made.hospitals
    volumes, store, _ = opened(made, tmp_path, quota=int(1.2 * size(made)))
    volumes.train([a])
    raw = volumes.native(b, b.test[0])
    np.testing.assert_array_equal(raw.image[-16:].reshape(16, 16, 16), b.layout.load(b.test[0]).image)
    assert there(made, store) == {"a-train-0", "a-train-1"}
    with pytest.raises(LimitExceeded):
        volumes.train([a, b])


def test_the_same_hospitals_stay_open(tmp_path):
    made = four()
    a, b, *_ = made.hospitals
    volumes, _, told = opened(made, tmp_path)
    first = volumes.train([a])
    assert volumes.train([a]) is first
    assert told == [("reading a", 1, 2), ("reading a", 2, 2)]
    both = volumes.train([a, b])
    assert [v.digest for v in both[:2]] == [v.digest for v in first]
    assert len(both) == 4
    assert a.layout.loads == ["a-train-0", "a-train-1"]


@pytest.mark.parametrize("fits", [True, False])
def test_a_test_case_is_the_same_from_the_store_and_from_its_source(tmp_path, fits):
    made = stream({"name": "a", "test": [16, 20]}, spacing=(2.0, 2.0, 2.0))
    a = made.hospitals[0]
    volumes, _, _ = opened(made, tmp_path, quota=None if fits else 10)
    for case in a.test:
        raw, source = volumes.native(a, case), a.layout.load(case)
        np.testing.assert_array_equal(raw.image.reshape(source.image.shape), source.image)
        np.testing.assert_array_equal(raw.label, source.label)
        np.testing.assert_array_equal(raw.affine, source.affine)
        assert raw.organs == source.organs
    before = len(a.layout.loads)
    volumes.native(a, a.test[0])
    assert len(a.layout.loads) == before + (not fits)


def test_test_volumes_that_do_not_all_fit_are_read_from_their_source(tmp_path):
    """One of three fits beside the training volume, and stays: nothing is written at the next evaluation."""
    made = stream({"name": "a", "train": [16], "test": [16] * 3}, {"name": "b", "train": [16] * 2})
    a, b = made.hospitals
    one = size(made)
    volumes, store, _ = opened(made, tmp_path, quota=int(2.5 * one))
    volumes.train([a])
    volumes.native(a, a.test[2])
    assert there(made, store) == {"a-train-0", "a-test-0"}
    before = store.written
    a.layout.loads.clear()
    for case in a.test:
        volumes.native(a, case)
    assert a.layout.loads == ["a-test-1", "a-test-2"]
    assert store.written == before
    volumes.train([b])
    assert there(made, store) == {"b-train-0", "b-train-1"}


def test_windows_of_test_cases_do_not_push_each_other_out(tmp_path):
    made = stream(*({"name": name, "train": [16], "test": [16]} for name in "abcd"))
    volumes, store, _ = opened(made, tmp_path, quota=int(3.5 * size(made)), keep_all=True)
    volumes.train(made.hospitals[:1])
    for _ in range(3):
        for hospital in made.hospitals:
            volumes.native(hospital, hospital.test[0])
    assert there(made, store) == {"a-train-0", "a-test-0", "b-test-0"}
    assert [len(h.layout.loads) for h in made.hospitals] == [2, 1, 4, 4]


def test_reading_a_test_case_leaves_the_cache_to_training(tmp_path):
    made = four()
    a = made.hospitals[0]
    store = VolumeStore(tmp_path, Ledger(), 1 << 20)
    volumes = Volumes(made, store, False, lambda *args: None)
    train = volumes.train([a])
    train[0].read((0, 0, 0), train[0].shape)
    held = store.cache.nbytes
    volumes.native(a, a.test[0])
    assert store.cache.nbytes == held > 0


def test_while_a_hospital_is_ingested_the_memory_of_the_cache_is_lent(tmp_path):
    made = four()
    a, b, *_ = made.hospitals
    need = admission.need(a.layout, a.train[0], None)
    ledger = Ledger({"ram": need + 100})
    store = VolumeStore(tmp_path, ledger, need)
    volumes = Volumes(made, store, False, lambda *args: None, workers=2)
    for hospital in (a, b):
        volumes.train([hospital])
        assert ledger.holders("ram") == {"brick cache": need}
    assert ledger.peak("ram") <= need + 100


def test_a_volume_that_two_hospitals_share_stays_while_one_has_it(tmp_path):
    """The scan of a-train-0 is the scan of c-train-0 as well."""
    made = four()
    a, b, c, d = made.hospitals
    twin = replace(c.train[0], hospital="a", id="a-train-0")
    c = replace(c, layout=a.layout, train=(twin, c.train[1]))
    volumes, store, _ = opened(made, tmp_path, quota=int(2.2 * size(made)))
    shared = volumes.train([a])[0].key
    volumes.train([b])
    opened_c = volumes.train([c])  # a leaves, its first volume does not
    assert opened_c[0].key == shared
    assert there(made, store) == {"a-train-0", "c-train-1"} | {f"b-train-{i}" for i in range(2)}
    opened_c[0].read((0, 0, 0), (16, 16, 16))
    volumes.train([d])
    volumes.train([b])  # now c leaves too
    assert shared not in store._sizes
    assert not store.has(shared)


def test_what_is_damaged_between_two_evaluations_is_mended_and_said(tmp_path):
    made = four()
    a = made.hospitals[0]
    volumes, _, _ = opened(made, tmp_path)
    first = volumes.native(a, a.test[0])
    assert list(volumes.told()) == []
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-5]), lambda path: path.unlink()):
        damage(next(tmp_path.rglob("*.lctvol")))
        again = volumes.native(a, a.test[0])
        np.testing.assert_array_equal(again.image, first.image)
        (note,) = volumes.told()
        assert "case a-test-0 was damaged; it was made again" in note


def test_a_source_that_is_gone_is_told_at_the_start(tmp_path):
    """Only of what the run will read: training cases of the rounds to come, and all test cases."""
    made = stream(*({"name": name, "train": [16], "test": [16]} for name in "ab"))
    a, b = made.hospitals
    (tmp_path / "there.nii").write_bytes(b"")
    with_files = [
        replace(
            h,
            train=tuple(replace(c, images=(tmp_path / gone,)) for c in h.train),
            test=tuple(replace(c, images=(tmp_path / "there.nii",)) for c in h.test),
        )
        for h, gone in ((a, "gone.nii"), (b, "there.nii"))
    ]
    made.hospitals = with_files
    volumes, _, _ = opened(made, tmp_path / "s")
    volumes.check_sources(with_files[1:])
    with pytest.raises(DataError, match="a source that the run will need is gone") as error:
        volumes.check_sources(with_files)
    assert "case a-train-0" in error.value.where
    assert "gone.nii" in error.value.where
    (tmp_path / "there.nii").unlink()
    with pytest.raises(DataError, match="is gone"):
        volumes.check_sources([])


@pytest.mark.parametrize("tests", [[16], [16, 16, 16]])
def test_a_run_on_a_disk_smaller_than_its_data_completes(tmp_path, tests):
    made = stream(*({"name": name, "train": [24, 24], "test": tests} for name in "abc"))
    opts = options(made, tmp_path)
    need = {row.owner: row.nbytes for row in Run(opts, Heard()).demands()}
    quota = int(1.3 * size(made))
    limit = need["checkpoints"] + quota
    run = Run(options(made, tmp_path, limits={"disk": limit}), Heard())
    assert run.execute()["status"] == "finished"
    assert sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.lctvol")) <= quota
    report = run.ledger.report()["disk"]
    assert report["used"] <= report["peak"] <= limit
    unlimited = Run(options(made, tmp_path / "u"), Heard()).execute()
    assert unlimited["scores"] == run.results.document("finished")["scores"]


@pytest.mark.parametrize(
    "changes", [{"data": DataOptions(keep="all")}, {"requires": Requires(past_data=True)}]
)
def test_a_run_that_keeps_everything_on_such_a_disk_is_refused_before_it_reads(tmp_path, changes):
    made = stream(*({"name": name, "train": [64]} for name in "abc"))
    need = {row.owner: row.nbytes for row in Run(options(made, tmp_path), Heard()).demands()}
    limit = need["checkpoints"] + 2 * need["volume store"]
    with pytest.raises(LimitExceeded, match=planner.CHECKPOINTS):
        Run(options(made, tmp_path, limits={"disk": limit}, **changes), Heard()).execute()
    assert not any(hospital.layout.loads for hospital in made.hospitals)


def test_patches_of_an_experience_are_opened_when_they_are_asked_for(tmp_path):
    made = four()
    a = made.hospitals[0]
    volumes, _, _ = opened(made, tmp_path)
    data = ExperiencePatches(2, lambda: volumes.train([a]), LabelSpace(["liver", "spleen"]), (8, 8, 8), (0,))
    assert len(data) == 2
    for index in (2, -1):
        with pytest.raises(IndexError):
            data[index]
    assert not a.layout.loads
    x, y = data[1]
    assert x.shape == y.shape == (1, 8, 8, 8)
    assert a.layout.loads == ["a-train-0", "a-train-1"]


def overlapping(*shown):
    """Every case annotates both organs, and shows those of `shown`."""
    return ClassOverlap(
        hospitals=[entry("a", train=[("liver", "spleen")] * len(shown), shown=list(shown))],
        classes={"one": ["liver"], "two": ["spleen"]},
        **given(organs=["liver", "spleen"]),
    )


def test_a_case_without_a_voxel_of_the_step_s_organs_is_left_out(tmp_path):
    made = overlapping(["liver", "spleen"], ["spleen"], ["liver"])
    volumes, _, _ = opened(made, tmp_path)
    found = [volumes.train(experience.hospitals) for experience in made.experiences]
    assert [case.id for case in volumes.cases] == ["a-train-0", "a-train-1"]
    assert [[volume.voxels for volume in step] for step in found] == [
        [{"liver": 7 * 7}] * 2,
        [{"spleen": 7 * 7}] * 2,
    ]
    assert found[0][0].digest != found[0][1].digest
    told = ["first patient", "second patient"].__getitem__
    data = ExperiencePatches(3, lambda: found[0], LabelSpace(["liver", "spleen"]), (8, 8, 8), (0,), told)
    assert all(np.array_equal(a, b) for a, b in zip(data[2], data[0], strict=True)), "the first comes again"
    assert data.patients is not None
    assert list(attributed(data).patients) == ["first patient", "second patient", "first patient"]


def test_a_step_that_no_case_shows_is_named(tmp_path):
    made = overlapping(["liver"], ["liver"])
    volumes, _, _ = opened(made, tmp_path)
    assert len(volumes.train(made.experiences[0].hospitals)) == 2
    with pytest.raises(DataError, match="no training case has a voxel") as error:
        volumes.train(made.experiences[1].hospitals)
    assert "a/two" in error.value.where


def test_parts_of_one_hospital_are_opened_one_after_the_other_and_the_older_leaves_first(tmp_path):
    made = overlapping(["liver", "spleen"], ["liver", "spleen"])
    one, two = (experience.hospitals for experience in made.experiences)
    free, _, _ = opened(made, tmp_path / "free")
    sizes = [sum(volume.path.stat().st_size for volume in free.train(part)) for part in (one, two)]
    volumes, store, _ = opened(made, tmp_path / "full", quota=max(sizes) + min(sizes) // 2)
    first = [volume.key for volume in volumes.train(one)]
    second = [volume.key for volume in volumes.train(two)]
    assert not set(first) & set(second)
    assert all(map(store.has, second))
    assert not all(map(store.has, first))
    assert [volume.key for volume in volumes.train(one)] == first
