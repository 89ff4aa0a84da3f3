"""Batches: the same for any number of threads, coded by hand, and threads that end."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import loader as module
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace
from lifelong_ct.data.loader import PAD_HU, PatchDataset, PatchLoader, read_patch
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase

ORGANS = ["liver", "spleen"]


@pytest.fixture
def store(tmp_path):
    made = VolumeStore(tmp_path, Ledger(), 1 << 16)
    yield made
    made.close()


def volume(store, key, shape=(40, 36, 20), organs=("liver", "spleen"), channels=1):
    rng = np.random.default_rng([*key.encode()])
    image = rng.integers(-1000, 1000, (channels, *shape)).astype(np.int16)
    label = rng.integers(0, 1 + len(organs), shape).astype(np.uint8)
    return store.put(key, RawCase(image, label, np.eye(4), organs))


@pytest.fixture
def volumes(store):
    return [
        volume(store, "aa"),
        volume(store, "bb", organs=("liver",)),
        volume(store, "cc", shape=(9, 36, 8), organs=("spleen", "liver")),
    ]


def loader(volumes, **more):
    return PatchLoader(volumes, LabelSpace(ORGANS), (12, 12, 12), 2, (0, "patches"), **more)


def same(one, two):
    return torch.equal(one.x, two.x) and torch.equal(one.y, two.y) and one.cases == two.cases


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("patches")]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("read_ahead", [1, 2, 30])
def test_a_batch_is_the_same_for_any_workers_read_ahead_and_start(volumes, workers, read_ahead):
    reference = [loader(volumes).batch(step) for step in range(9)]
    made = loader(volumes, workers=workers, read_ahead=read_ahead)
    for start, stop in ((0, 9), (4, 9), (7, 8), (3, 3)):
        found = list(made.batches(start, stop))
        assert len(found) == stop - start
        assert all(same(a, b) for a, b in zip(found, reference[start:stop], strict=True))
    assert not reader_threads()


def test_a_batch_holds_int16_voxels_codes_and_digests(volumes):
    made = loader(volumes)
    batch = made.batch(0)
    assert batch.x.shape == batch.y.shape == (2, 1, 12, 12, 12)
    assert (batch.x.dtype, batch.y.dtype) == (torch.int16, torch.uint8)
    draws = made.sampler.draw(0)
    assert list(batch.cases) == [volumes[i].digest for i, _ in draws]


def test_labels_are_coded_for_the_stream(store):
    space = LabelSpace(ORGANS)
    whole = space.encode_lut(("liver", "spleen"))
    part = space.encode_lut(("liver",))
    turned = space.encode_lut(("spleen", "liver"))
    for key, organs, lut, codes in (
        ("aa", ("liver", "spleen"), whole, [0, 1, 2]),
        ("bb", ("liver",), part, [PROTOCOL_BASE, 1]),
        ("cc", ("spleen", "liver"), turned, [0, 2, 1]),
    ):
        stored = volume(store, key, organs=organs)
        local = stored.read((3, 4, 5), (6, 7, 8))[1]
        y = read_patch(stored, (3, 4, 5), (6, 7, 8), lut)[1]
        np.testing.assert_array_equal(y[0], np.array(codes)[local])


def test_what_lies_outside_is_air_and_unknown(store):
    stored = volume(store, "aa", shape=(6, 7, 30), channels=2)
    image, label = stored.read((0, 0, 0), (6, 7, 30))
    x, y = read_patch(stored, (-2, -2, 20), (10, 10, 10), LabelSpace(ORGANS).encode_lut(ORGANS))
    np.testing.assert_array_equal(x[:, 2:8, 2:9], image[:, :, :, 20:])
    np.testing.assert_array_equal(y[0, 2:8, 2:9], label[:, :, 20:])
    outside = np.ones((10, 10, 10), bool)
    outside[2:8, 2:9] = False
    assert set(np.unique(x[:, outside])) == {PAD_HU} == {-1024}
    assert set(np.unique(y[0, outside])) == {IGNORE} == {255}


def test_small_volumes_are_padded_in_batches(store):
    made = loader([volume(store, "aa", shape=(9, 36, 8))])
    batch = made.batch(0)
    inside = batch.y[:, 0] != IGNORE
    expected = torch.zeros((2, 12, 12, 12), dtype=torch.bool)
    expected[:, 2:11, :, 2:10] = True  # 2 | 9 | 1 and 2 | 8 | 2
    assert torch.equal(inside, expected)
    assert (batch.x[:, 0][~inside] == PAD_HU).all()


def test_codes_widen_with_the_label_space(store):
    space = LabelSpace(ORGANS)
    space.protocols = [object()] * 95  # the next one passes uint8
    made = PatchLoader([volume(store, "aa", organs=("liver",))], space, (12, 12, 12), 1, (0,))
    y = made.batch(0).y
    assert y.dtype == torch.uint16
    assert set(y.flatten().tolist()) == {1, 256}


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_a_reader_is_raised_in_its_turn(volumes, workers):
    made = loader(volumes, workers=workers, read_ahead=3)
    real = made.batch

    def third_fails(step):
        if step == 3:
            raise DataError("broken", "case", "mend it")
        return real(step)

    made.batch = third_fails
    batches = made.batches(0, 100)
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError, match="broken"):
        next(batches)
    assert not reader_threads()


def test_a_volume_that_vanishes_meanwhile_is_an_error(volumes, store):
    made = loader(volumes)
    for path in store.root.rglob("*.lctvol"):
        path.unlink()
    with pytest.raises(DataError, match="is gone"):
        list(made.batches(0, 4))
    assert not reader_threads()


@pytest.mark.parametrize("end", ["close", "delete", "raise"])
def test_threads_end_when_the_iterator_is_left_early(volumes, end):
    batches = loader(volumes, workers=3, read_ahead=5).batches(0, 10_000)
    next(batches)
    assert reader_threads()
    if end == "close":
        batches.close()
    elif end == "raise":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt())
    del batches
    assert not reader_threads()


class Recorded(ThreadPoolExecutor):
    """Keeps the futures of the last pool."""

    futures: list[Future] = []

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        Recorded.futures = []

    def submit(self, *args, **more):
        Recorded.futures.append(super().submit(*args, **more))
        return Recorded.futures[-1]


def test_no_more_is_in_flight_than_announced(volumes, monkeypatch):
    monkeypatch.setattr(module, "ThreadPoolExecutor", Recorded)
    batches = loader(volumes, workers=2, read_ahead=3).batches(0, 100)
    for taken in range(1, 10):
        next(batches)
        assert len(Recorded.futures) - (taken - 1) == 3 + 2  # the one in use is among them
    batches.close()


def test_what_was_not_begun_is_not_read_when_the_iterator_is_left(volumes, monkeypatch):
    monkeypatch.setattr(module, "ThreadPoolExecutor", Recorded)
    made = loader(volumes, workers=1, read_ahead=5)
    asked, real, patience = [], made.batch, threading.Event()

    def second_waits_until_it_is_the_last(step):
        asked.append(step)
        for _ in range(500 if step == 1 else 0):
            if Recorded.futures[-1].cancelled():
                break
            patience.wait(0.01)
        return real(step)

    made.batch = second_waits_until_it_is_the_last
    batches = made.batches(0, 100)
    next(batches)
    while asked[-1] != 1:
        patience.wait(0.01)
    batches.close()
    assert asked == [0, 1]


# --- items for stock plugins ----------------------------------------------------------------------------


def test_an_item_is_one_patch_of_its_volume_again_and_again(volumes):
    dataset = PatchDataset(volumes, LabelSpace(ORGANS), (6, 6, 6), (0, "items"))
    again = PatchDataset(volumes[::-1], LabelSpace(ORGANS), (6, 6, 6), (0, "items"))
    other = PatchDataset(volumes, LabelSpace(ORGANS), (6, 6, 6), (1, "items"))
    assert len(dataset) == 3
    for i, stored in enumerate(volumes):
        x, y = dataset[i]
        assert x.dtype == torch.int16
        assert x.shape == y.shape == (1, 6, 6, 6)
        assert torch.equal(x, dataset[i][0])
        assert torch.equal(x, again[2 - i][0])
        image = stored.read((0, 0, 0), stored.shape)[0]
        windows = np.lib.stride_tricks.sliding_window_view(image[0], (6, 6, 6))
        assert (windows == x[0].numpy()).all((3, 4, 5)).sum() == 1
    assert any(not torch.equal(dataset[i][0], other[i][0]) for i in range(3))


def test_an_item_beyond_the_end_is_an_index_error(volumes):
    dataset = PatchDataset(volumes, LabelSpace(ORGANS), (6, 6, 6), (0,))
    for index in (3, -1, 100):
        with pytest.raises(IndexError):
            dataset[index]
    assert len(list(dataset)) == 3
