"""A store that was damaged: found at whatever byte, made again from the source, else told with the case."""

import itertools
import os
import threading
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data.bricks import Index, read_header
from lifelong_ct.data.ingest import Ingest
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.sourced import is_whole
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase

SHAPE = (40, 34, 36)
RNG = np.random.default_rng(0)
IMAGE = (RNG.integers(-10, 10, SHAPE) * 50).astype(np.int16)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[4:20, 5:22, 6:30], LABEL[25:33, 5:22, 6:30] = 1, 2
ORGANS = ("liver", "spleen")
WHERE = ("magic", "length", "checksum", "text", "index", "image", "label", "positions")


class Source:
    """One case in memory, or files of it that may go or change."""

    def __init__(self, *files: Path, count: int = 1) -> None:
        self.listed = [
            Case("h", f"smith-{i}", "p", "train", ORGANS, files, params={"shape": SHAPE, "i": i})
            for i in range(count)
        ]
        self.loads = 0

    def cases(self):
        return iter(self.listed)

    def load(self, case: Case) -> RawCase:
        self.loads += 1
        image = IMAGE + np.int16(case.params["i"])
        return RawCase(image, LABEL, np.eye(4), case.organs)


def make(root: Path, layout, cache: int = 0, **more):
    """Volumes, notes and the store."""
    kept, notes = VolumeStore(root, Ledger(), cache), []
    ingest = Ingest(layout, kept, None, name=lambda case: "pseudonym", note=notes.append, **more)
    return ingest.every(layout.listed), notes, kept


def places(path: Path, where: str) -> list[int]:
    """Bytes of a part of the file: its first, some in the middle, its last."""
    header, start = read_header(path)
    data = path.read_bytes()[start : start + header.index_bytes]
    offset, one, two, _, _ = next(row for row in Index(header, data).rows(range(prod(header.grid))) if row[2])
    first, count = header.positions_at(1), header.counts[1]
    low, high = {
        "magic": (0, 8),
        "length": (8, 16),
        "checksum": (16, 24),
        "text": (24, start),
        "index": (start, start + header.index_bytes),
        "image": (start + offset, start + offset + one),
        "label": (start + offset + one, start + offset + one + two),
        "positions": (start + first, start + first + 6 * count),
    }[where]
    return sorted({*np.linspace(low, high - 1, 9).astype(int).tolist()})


def flip(path: Path, place: int, bit: int) -> None:
    """In place, as a failing disk does."""
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def right(volume, i: int = 0) -> None:
    image, label = volume.read((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(image[0], IMAGE + i)
    np.testing.assert_array_equal(label, LABEL)
    for organ, value in zip(ORGANS, (1, 2), strict=True):
        assert (LABEL[tuple(volume.positions(organ).T)] == value).all()
        assert len(volume.positions(organ)) > 1000


@pytest.mark.parametrize("where", WHERE)
def test_a_flipped_bit_is_mended_when_a_new_run_reads(tmp_path, where):
    (first,), _, _ = make(tmp_path, Source())
    (path,) = tmp_path.rglob("*.lctvol")
    whole = path.read_bytes()
    for turn, place in enumerate(places(path, where)):
        flip(path, place, turn % 8)
        assert not is_whole(path)
        layout = Source()
        (volume,), notes, _ = make(tmp_path, layout)
        right(volume)
        assert volume.digest == first.digest
        assert path.read_bytes() == whole
        assert layout.loads == len(notes) == 1
        assert "pseudonym" in notes[0]
        assert "damaged" in notes[0]


@pytest.mark.parametrize("where", WHERE)
def test_a_flipped_bit_is_mended_while_a_run_reads(tmp_path, where):
    """Its header is in memory: damage there is found by the next who opens it."""
    make(tmp_path, Source())
    (path,) = tmp_path.rglob("*.lctvol")
    whole = path.read_bytes()
    for turn, place in enumerate(places(path, where)):
        (volume,), notes, _ = make(tmp_path, Source())
        flip(path, place, turn % 8)
        right(volume)
        if where in ("image", "label", "positions"):
            assert notes == [
                "the stored volume of case pseudonym was damaged; it was made again from its source"
            ]
            assert path.read_bytes() == whole
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_training_goes_on_with_the_same_patches(tmp_path, kind):
    """Bits flip and files vanish between batches; the batches are those of an undisturbed store."""

    def batches(root, disturb):
        volumes, notes, _ = make(root, Source(count=3))
        space = LabelSpace(ORGANS)
        loader = PatchLoader(volumes, space, (16, 16, 16), 2, (0,), workers=2, worker_kind=kind)
        found = []
        for step, batch in enumerate(loader.batches(0, 12)):
            found.append((batch.x.numpy().copy(), batch.y.numpy().copy(), list(batch.cases)))
            if disturb:
                for path in root.rglob("*.lctvol"):
                    size = path.stat().st_size
                    path.unlink() if step % 4 == 3 else flip(path, size * (step + 1) // 14, step % 8)
        return found, notes

    calm, none = batches(tmp_path / "calm", False)
    wild, notes = batches(tmp_path / "wild", True)
    assert none == []
    assert len(notes) >= 3
    for one, other in zip(calm, wild, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[2] == other[2]


def test_a_reader_process_tells_the_case_that_cannot_be_made_again(tmp_path):
    source = tmp_path / "scan.nii"
    source.write_bytes(b"one")
    volumes, _, _ = make(tmp_path / "s", Source(source))
    loader = PatchLoader(volumes, LabelSpace(ORGANS), (16, 16, 16), 1, (0,), worker_kind="process")
    source.unlink()
    (path,) = tmp_path.rglob("*.lctvol")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(byte ^ 1 for byte in whole[len(whole) // 2 :]))
    with pytest.raises(DataError, match="case pseudonym is damaged, and cannot be made again"):
        list(loader.batches(0, 20))


def test_many_threads_mend_once(tmp_path):
    layout = Source()
    (volume,), notes, _ = make(tmp_path, layout)
    (path,) = tmp_path.rglob("*.lctvol")
    for place in places(path, "image"):
        flip(path, place, 0)
    threads = [threading.Thread(target=right, args=(volume,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    right(volume)
    assert len(notes) == 1
    assert layout.loads == 2


def test_what_another_process_made_again_is_used(tmp_path):
    layout = Source()
    (volume,), notes, _ = make(tmp_path, layout)
    (path,) = tmp_path.rglob("*.lctvol")
    path.unlink()
    make(tmp_path, Source())
    right(volume)
    volume.mend()
    right(volume)
    assert layout.loads == 1
    assert notes == []


def test_a_reader_of_its_own_asks_to_mend(tmp_path):
    """Another process that met the damage: the file is whole afterwards."""
    (volume,), notes, _ = make(tmp_path, Source())
    (path,) = tmp_path.rglob("*.lctvol")
    flip(path, places(path, "image")[3], 2)
    volume.mend()
    assert is_whole(path)
    assert len(notes) == 1


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_without_its_source_the_case_is_named(tmp_path, how):
    source = tmp_path / "scan.nii"
    source.write_bytes(b"one")
    (volume,), _, _ = make(tmp_path / "s", Source(source))
    (path,) = tmp_path.rglob("*.lctvol")
    damaged = bytearray(path.read_bytes())
    damaged[places(path, "image")[4]] ^= 4
    path.write_bytes(damaged)
    if how == "gone":
        source.unlink()
    else:
        source.write_bytes(b"two")
    with pytest.raises(
        DataError, match="stored volume of case pseudonym is damaged, and cannot be made again"
    ) as e:
        volume.read((0, 0, 0), SHAPE)
    assert e.value.code == "store_damaged"
    assert ("has changed" in e.value.what) == (how == "changed")
    assert path.read_bytes() == bytes(damaged)


def test_rehash_looks_at_every_byte_that_is_stored(tmp_path):
    make(tmp_path, Source(count=3))
    paths = sorted(tmp_path.rglob("*.lctvol"))
    whole = [path.read_bytes() for path in paths]
    for path, where in zip(paths, ("image", "positions", "label"), strict=True):
        flip(path, places(path, where)[5], 7)
    layout = Source(count=3)
    _, notes, _ = make(tmp_path, layout, rehash=True, workers=2)
    assert [path.read_bytes() for path in paths] == whole
    assert layout.loads == len(notes) == 3


def test_a_file_that_is_cut_or_too_long_is_damage(tmp_path):
    make(tmp_path, Source())
    (path,) = tmp_path.rglob("*.lctvol")
    whole = path.read_bytes()
    for damage in (b"", whole[:30], whole[:-1], whole + b"x"):
        path.write_bytes(damage)
        (volume,), notes, _ = make(tmp_path, Source())
        right(volume)
        assert len(notes) == 1
        assert path.read_bytes() == whole


def test_every_single_byte_of_a_small_volume_is_guarded(tmp_path):
    layout = Source()
    layout.load = lambda case: RawCase(IMAGE[:4, :5, :6], LABEL[2:6, 4:9, 5:11], np.eye(4), case.organs)
    layout.listed = [replace(layout.listed[0], params={"shape": (4, 5, 6), "i": 0})]
    make(tmp_path, layout)
    (path,) = tmp_path.rglob("*.lctvol")
    whole = path.read_bytes()
    other = tmp_path / "other.lctvol"
    for place, bit in itertools.product(range(len(whole)), (0, 7)):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        other.write_bytes(data)
        assert not is_whole(other), (place, bit)
    other.write_bytes(whole)
    assert is_whole(other)
    os.unlink(other)
    assert not is_whole(other)


def test_a_file_that_goes_again_before_it_is_opened_is_made_again(tmp_path):
    (volume,), _, _ = make(tmp_path, Source(count=1))
    (path,) = tmp_path.rglob("*.lctvol")
    before = volume.read((0, 0, 0), volume.shape)[0].copy()
    made, again = [], volume._again

    def made_and_gone():
        again()
        made.append(path.exists())
        if len(made) == 1:
            path.unlink()

    volume._again = made_and_gone
    path.unlink()
    volume.cache.drop(volume.key)
    np.testing.assert_array_equal(volume.read((0, 0, 0), volume.shape)[0], before)
    assert made == [True, True]
