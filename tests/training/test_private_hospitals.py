"""Hospitals that do not share their voxels: what the store has of them, and when it is gone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hospitals import Heard, options, stream
from listed import entry, given

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import DataError, Refused
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.streams.class_overlap import ClassOverlap
from lifelong_ct.training.options import DataOptions, Requires
from lifelong_ct.training.rounds import rounds
from lifelong_ct.training.run import Run
from lifelong_ct.training.volumes import Volumes

PRIVATE = pytest.mark.parametrize("sharing", ["forbid", "features"])


def three(sharing: str = "forbid"):
    """The second one is private."""
    return stream(
        {"name": "a", "train": [16, 16]},
        {"name": "b", "train": [16, 16], "sharing": sharing},
        {"name": "c", "train": [16]},
    )


def opened(made, root, keep_all=False, **more):
    store = VolumeStore(root, Ledger(), 1 << 20)
    return Volumes(made, store, keep_all, lambda *args: None, **more), store


def stored(folder: Path) -> int:
    return len(list(folder.rglob("*.lctvol")))


@PRIVATE
@pytest.mark.parametrize("keep_all", [True, False])
def test_volumes_leave_the_store_and_the_cache_after_their_experience(tmp_path, sharing, keep_all):
    made = three(sharing)
    a, b, _ = made.hospitals
    volumes, store = opened(made, tmp_path, keep_all)
    volumes.train([a])
    volumes.leave([a])
    found = volumes.train([b])
    found[0].read((0, 0, 0), found[0].shape)
    assert stored(tmp_path) == 4
    volumes.leave([b])
    assert stored(tmp_path) == 2
    assert not store.cache.entries
    assert not any(store.has(volume.key) for volume in found)
    with pytest.raises(DataError) as error:
        found[0].read((0, 0, 0), found[0].shape)
    assert error.value.code == "closed", "what is still open does not make the file again"
    assert len(volumes.train([b])) == 2, "it may come again with a later experience"


@PRIVATE
def test_its_test_cases_come_from_their_source_every_time(tmp_path, sharing):
    made = three(sharing)
    _, b, c = made.hospitals
    volumes, store = opened(made, tmp_path)
    for _ in range(2):
        raw = volumes.native(b, b.test[0])
    assert b.layout.loads == ["b-test-0"] * 2
    assert store.written == 0
    np.testing.assert_array_equal(raw.image, b.layout.load(b.test[0]).image)
    volumes.native(c, c.test[0])
    assert stored(tmp_path) == 1


def test_a_run_leaves_only_what_is_shared(tmp_path):
    heard = Heard()
    opts = options(three(), tmp_path, data=DataOptions(keep="all"))
    assert Run(opts, heard).execute()["status"] == "finished"
    assert stored(tmp_path) == 2 + 1 + 2 * 1, "training and test cases of the others"


class Breaks(StrategyPlugin):
    """In the middle of the second experience."""

    def after_backward(self, strategy, **kwargs):
        if strategy.clock.train_exp_counter == 1:
            self.breaks()

    def breaks(self):
        raise KeyboardInterrupt


def test_a_run_that_is_broken_off_leaves_nothing_either(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Run(options(three(), tmp_path, new_plugins=lambda: [Breaks()]), Heard()).execute()
    assert stored(tmp_path) == 2 + 2 * 1


def test_an_ingest_that_fails_half_way_leaves_nothing_either(tmp_path):
    made = three()
    b = made.hospitals[1]
    real = b.layout.load

    def second_is_bad(case):
        if case.id == "b-train-1":
            raise DataError("bad", case.id, "mend it", "bad")
        return real(case)

    b.layout.load = second_is_bad
    with pytest.raises(DataError, match="bad"):
        Run(options(made, tmp_path), Heard()).execute()
    assert stored(tmp_path) == 2 + 2 * 1


class LooksBack(StrategyPlugin):
    """Reads what earlier experiences trained on, as stock plugins do."""

    def __init__(self):
        super().__init__()
        self.datasets, self.told = [], []

    def before_training_exp(self, strategy, **kwargs):
        for dataset in self.datasets:
            try:
                dataset[0]
                self.told.append("read")
            except DataError as error:
                self.told.append(f"{error.code}: {error.what}")
        self.datasets.append(strategy.experience.dataset)


def test_who_looks_back_reads_what_is_shared_only(tmp_path):
    plugin = LooksBack()
    Run(options(three(), tmp_path, new_plugins=lambda: [plugin]), Heard()).execute()
    read, again, closed = plugin.told
    assert read == again == "read"
    assert closed.startswith("closed: the cases of b are closed: b shares no patches")
    assert stored(tmp_path) == 2 + 1 + 2 * 1


def test_a_hospital_that_comes_in_parts_leaves_after_each(tmp_path):
    made = ClassOverlap(
        hospitals=[entry("a", train=[("liver", "spleen")] * 2, sharing="forbid")],
        classes={"one": ["liver"], "two": ["spleen"]},
        **given(organs=["liver", "spleen"]),
    )
    volumes, _ = opened(made, tmp_path)
    for experience in made.experiences:
        assert len(volumes.train(experience.hospitals)) == stored(tmp_path) == 2
        volumes.leave(experience.hospitals)
        assert stored(tmp_path) == 0
    assert Run(options(made, tmp_path / "run"), Heard()).execute()["status"] == "finished"
    assert stored(tmp_path / "run") == 0


def test_what_a_hospital_that_shares_has_as_well_stays(tmp_path):
    """The scan of a-train-0 is the scan of b-train-0 as well."""
    made = three()
    a, b, _ = made.hospitals
    b = replace(b, layout=a.layout, train=(a.train[0], b.train[1]))
    volumes, store = opened(made, tmp_path)
    kept = [volume.key for volume in volumes.train([a])]
    volumes.train([b])
    volumes.leave([b])
    assert stored(tmp_path) == 2
    assert all(map(store.has, kept))


def test_two_runs_have_their_own(tmp_path):
    made = three()
    b = made.hospitals[1]
    one, two = (opened(made, tmp_path)[0] for _ in range(2))
    assert one.train([b])[0].path != two.train([b])[0].path
    one.leave([b])
    assert stored(tmp_path) == 2
    two.train([b])[0].read((0, 0, 0), (16, 16, 16))
    two.close()
    assert stored(tmp_path) == 0


def test_what_a_run_uses_that_may_keep_it_stays_and_is_told(tmp_path):
    shares, private = three("patches"), three()
    one, two = opened(shares, tmp_path)[0], opened(private, tmp_path)[0]
    one.train([shares.hospitals[1]])
    two.train([private.hospitals[1]])
    assert stored(tmp_path) == 4
    two.leave([private.hospitals[1]])
    assert stored(tmp_path) == 2
    assert list(two.told()) == ["b: 2 of its volumes stay until another run is done with them"]
    one.train([shares.hospitals[1]])[0].read((0, 0, 0), (16, 16, 16))


KILLED = """
import os, sys
from pathlib import Path
from hospitals import Heard, options
from test_private_hospitals import Breaks, three
from lifelong_ct.training.run import Run
Breaks.breaks = lambda self: os._exit(9)
Run(options(three(), Path(sys.argv[1]), new_plugins=lambda: [Breaks()]), Heard()).execute()
"""


def test_what_a_killed_run_leaves_goes_when_anybody_opens_the_store(tmp_path):
    here = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": here}
    )
    assert done.returncode == 9
    assert stored(tmp_path) == 2 + 2 * 1 + 2
    assert stored(tmp_path / "store" / "scratch") == 2
    VolumeStore(tmp_path / "store", Ledger(), 0).close()
    assert stored(tmp_path) == 2 + 2 * 1


@PRIVATE
def test_a_strategy_that_trains_on_past_hospitals_again_is_refused(tmp_path, sharing):
    for requires in (Requires(past_data=True), Requires(past_data=True, reinitialise=True)):
        with pytest.raises(Refused, match=rf"b \({sharing}\) may not be kept"):
            rounds(options(three(sharing), tmp_path, requires=requires))
        alone = stream({"name": "b", "sharing": sharing})
        assert len(rounds(options(alone, tmp_path, requires=requires))) == 1, "there is no past"
