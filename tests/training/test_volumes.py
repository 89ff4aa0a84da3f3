"""Eviction: test volumes first, then the oldest hospital, and runs on a disk smaller than their data."""

import numpy as np
import pytest
from hospitals import Heard, options, stream

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.bricks import pack
from lifelong_ct.data.ingest import source_key
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.training import planner
from lifelong_ct.training.options import DataOptions, Requires
from lifelong_ct.training.run import Run
from lifelong_ct.training.volumes import ExperiencePatches, Volumes


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
    every = [case for h in made.hospitals for case in (*h.train, *h.test)]
    return {case.id for case in every if source_key(case, None) in store._sizes}


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


def test_test_volumes_that_do_not_all_fit_leave_no_part_behind(tmp_path):
    made = stream({"name": "a", "train": [16], "test": [16] * 3}, {"name": "b", "train": [16] * 2})
    a, b = made.hospitals
    one = size(made)
    volumes, store, _ = opened(made, tmp_path, quota=int(2.5 * one))
    volumes.train([a])
    volumes.native(a, a.test[2])
    assert there(made, store) == {"a-train-0"}
    volumes.train([b])
    assert there(made, store) == {"b-train-0", "b-train-1"}


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
