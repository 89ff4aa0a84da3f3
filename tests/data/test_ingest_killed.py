"""Processes that die at any moment, and several that ingest into one store at once."""

import os
import random
import signal
import time
from pathlib import Path

import forked
import numpy as np
import pytest
from test_ingest import Counting, files

from lifelong_ct.core import files as core_files
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import leases, sources
from lifelong_ct.data import store as store_module
from lifelong_ct.data.ingest import ingest
from lifelong_ct.data.sourced import is_whole
from lifelong_ct.data.store import VolumeStore

COUNT = 6


class OfFiles(Counting):
    """Cases with a file each, so that contents are hashed and remembered."""

    def __init__(self, root: Path, cases: int = COUNT) -> None:
        super().__init__(cases)
        root.mkdir(exist_ok=True)
        for i, case in enumerate(self.listed):
            path = root / f"{i}.bin"
            if not path.exists():
                path.write_bytes(b"%d" % i)
                os.utime(path, (10**9, 10**9))
            object.__setattr__(case, "images", (path,))


def fill(root: Path, workers: int = 1, layout: Counting | None = None) -> list[str]:
    """Digests of all cases, after every byte of every volume was read."""
    made = layout or OfFiles(root.parent / "sources")
    kept = VolumeStore(root, Ledger(), 0)
    volumes = ingest(made, made.listed, kept, None, workers=workers)
    for volume in volumes:
        assert is_whole(kept.path(volume.key))
    kept.close()
    return [volume.digest for volume in volumes]


@pytest.fixture
def expected(tmp_path):
    return fill(tmp_path / "undisturbed")


def check(root: Path, expected: list[str]) -> None:
    """Nothing half-written is there, and the next ingest ends well."""
    assert all(is_whole(path) for path in files(root))
    assert fill(root) == expected
    assert len(files(root)) == COUNT
    assert not any((root / "scratch").iterdir())
    assert not any((root / "leases").iterdir())
    assert not [path for path in root.rglob("*") if ".tmp" in path.name]


STEPS = [
    (core_files.os, "fsync"),
    (core_files.os, "replace"),
    (core_files.os, "fdopen"),
    (core_files.tempfile, "mkstemp"),
    (leases.os, "pwrite"),
    (leases.os, "ftruncate"),
    (leases.fcntl, "flock"),
    (sources.Sources, "_run"),
    (store_module.bricks, "pack"),
    (store_module.os, "utime"),
]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_killed_at_every_step(tmp_path, expected, step, before):
    """Dies before or after its 1st, 4th, 9th, … call of a function that changes something."""
    place, name = STEPS[step]
    real = getattr(place, name)
    for count in (1, 4, 9, 16):

        def work(count=count):
            calls = iter(range(1, 10**6))

            def die(*args, **more):
                turn = next(calls)
                if turn == count and before:
                    os.kill(os.getpid(), signal.SIGKILL)
                found = real(*args, **more)
                if turn == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            setattr(place, name, die)
            fill(tmp_path / "store")

        assert forked.run(work) in (-signal.SIGKILL, 0)
    check(tmp_path / "store", expected)


def test_killed_at_any_moment(tmp_path, expected):
    """Processes that ingest, delete and ingest again, two threads each, until they are killed."""

    def work():
        while True:
            fill(tmp_path / "store", 2)
            kept = VolumeStore(tmp_path / "store", Ledger(), 0)
            kept.evict(*(path.stem for path in files(tmp_path / "store")[::2]))
            kept.close()

    rng, seen = random.Random(0), set()
    for _ in range(40):
        child = forked.start(work)
        time.sleep(rng.uniform(0.01, 0.2))
        os.kill(child, signal.SIGKILL)
        assert forked.ended(child) == -signal.SIGKILL
        left = files(tmp_path / "store") if (tmp_path / "store").exists() else []
        assert all(is_whole(path) for path in left)
        seen.add(len(left))
    assert len(seen) > 1  # it was killed between volumes, not only before or after
    check(tmp_path / "store", expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_several_ingests_at_once_end_well_and_share_the_work(tmp_path, expected, workers):
    """Each case is read by one of them: what another one makes is waited for."""
    read = tmp_path / "read"
    read.mkdir()

    def work(turn: int):
        layout = OfFiles(tmp_path / "sources")
        real = layout.load

        def load(case):
            (read / f"{case.id}-{turn}").write_text("")
            time.sleep(0.05)
            return real(case)

        layout.load = load
        layout.listed = layout.listed[turn:] + layout.listed[:turn]
        digests = fill(tmp_path / "store", workers, layout)
        assert sorted(digests) == sorted(expected)

    children = [forked.start(lambda turn=turn: work(turn)) for turn in range(3)]
    assert [forked.ended(child) for child in children] == [0, 0, 0]
    assert sorted(path.name.split("-")[0] for path in read.iterdir()) == [f"c{i}" for i in range(COUNT)]
    check(tmp_path / "store", expected)


def test_ingests_at_once_with_different_limits(tmp_path, expected):
    """The smaller one ends with an error of its own limit; the larger one has all its volumes."""
    whole = sum(path.stat().st_size for path in files(tmp_path / "undisturbed"))

    def work(limit: int):
        layout = OfFiles(tmp_path / "sources")
        kept = VolumeStore(tmp_path / "store", Ledger({"disk": limit}), 0)
        for case in layout.listed:
            ingest(layout, [case], kept, None)
        kept.close()

    children = [forked.start(lambda limit=limit: work(limit)) for limit in (whole, whole // 2)]
    assert [forked.ended(child) for child in children] == [0, 1]
    check(tmp_path / "store", expected)


def test_a_claim_of_a_killed_process_stops_nobody(tmp_path, expected):
    reading, writing = os.pipe()

    def hold():
        layout = OfFiles(tmp_path / "sources")
        layout.load = lambda case: [os.write(writing, b"!"), signal.pause()]
        fill(tmp_path / "store", 1, layout)

    child = forked.start(hold)
    assert os.read(reading, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    forked.ended(child)
    check(tmp_path / "store", expected)


def test_the_order_of_cases_has_no_part_in_what_is_stored(tmp_path, expected):
    layout = OfFiles(tmp_path / "sources")
    order = np.random.default_rng(0).permutation(COUNT)
    layout.listed = [layout.listed[i] for i in order]
    assert fill(tmp_path / "store", 3, layout) == [expected[i] for i in order]
    names = [[(p.name, p.read_bytes()) for p in files(tmp_path / at)] for at in ("store", "undisturbed")]
    assert names[0] == names[1]
