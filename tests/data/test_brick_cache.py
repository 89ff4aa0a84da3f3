"""The cache of compressed bricks: bytes, what stays, and memory that is used again under many readers."""

import gc
import random
import threading
import tracemalloc

import numpy as np
import pytest

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.brick_cache import ENTRY, BrickCache, Entry
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume

MB = 1 << 20


def put(cache: BrickCache, key: int, content: bytes) -> None:
    pin, [(view, segment)] = cache.take([len(content)])
    view[:] = content
    cache.keep([(key, Entry(view, 0), segment)])
    del pin


def look(cache: BrickCache, key: int) -> bytes | None:
    pin = cache.pin
    entry = cache.entries.get(key)
    if entry is not None:
        entry.hit = True
    found = None if entry is None else bytes(entry.image)
    del pin
    return found


def made(cache: BrickCache) -> int:
    """Bytes of segments that exist."""
    return cache.capacity // cache._size * cache._size - cache._unmade * cache._size


def test_what_was_put_is_found_until_its_volume_is_dropped():
    cache = BrickCache(4 * MB, Ledger())
    a, b = cache.base("a"), cache.base("b")
    put(cache, a + 1, b"one")
    put(cache, b + 1, b"two")
    assert (look(cache, a + 1), look(cache, b + 1), look(cache, a + 2)) == (b"one", b"two", None)
    cache.drop("a")
    assert (look(cache, a + 1), look(cache, cache.base("a") + 1)) == (None, None)
    assert look(cache, b + 1) == b"two"


def test_a_brick_that_is_read_while_its_volume_is_dropped_is_not_taken_for_the_new_one():
    cache = BrickCache(4 * MB, Ledger())
    before = cache.base("a")
    cache.drop("a")
    put(cache, before + 1, b"old")
    assert look(cache, cache.base("a") + 1) is None


@pytest.mark.parametrize("capacity", [0, 1, 5000, 300_000, 3 * MB, 20 * MB])
def test_bytes_never_pass_the_capacity(capacity):
    ledger = Ledger({"ram": capacity})
    cache = BrickCache(capacity, ledger)
    rng = random.Random(0)
    sizes: dict[int, int] = {}
    for key in range(1500):
        sizes[key] = rng.choice([32, 500, 20_000, 60_000])
        put(cache, key, bytes([key % 251]) * sizes[key])
        assert cache.nbytes <= capacity
    assert made(cache) <= capacity
    assert ledger.peak_used("ram") <= capacity
    held = sum(sizes[key] + ENTRY for key in cache.entries)
    assert held <= cache.nbytes
    for key in list(cache.entries):
        assert look(cache, key) == bytes([key % 251]) * sizes[key]
    if capacity >= 3 * MB:  # what is not used: ends of segments, and the one that is between two uses
        assert held > 0.75 * capacity


def test_the_objects_around_a_brick_are_counted_in_full():
    cache = BrickCache(64 * MB, Ledger())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in range(5_000):
        pin, [(view, segment)] = cache.take([64])
        cache.keep([(key, Entry(view[:32], view[32:]), segment)])
        del pin, view, segment
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(cache.entries) == 5_000
    assert used / 5_000 <= ENTRY


def found(cache: BrickCache, order: list[int], size: int = 20_000) -> float:
    """Share of look-ups that found their brick."""
    hits = 0
    for key in order:
        if look(cache, key) is None:
            put(cache, key, bytes(size))
        else:
            hits += 1
    return hits / len(order)


def test_passes_over_data_that_do_not_fit_find_what_fits():
    keys = list(range(2000))
    cache = BrickCache(2000 * (20_000 + ENTRY) // 4, Ledger())
    found(cache, keys * 3)
    # A quarter fits. The least recently used would always have left just before: 0.
    assert found(cache, keys * 4) > 0.25 / 2


def test_bricks_that_are_wanted_often_stay():
    rng = np.random.default_rng(0)
    often, seldom = rng.integers(0, 200, 20_000), rng.integers(200, 2000, 20_000)
    order = np.where(rng.random(20_000) < 0.5, often, seldom).tolist()
    cache = BrickCache(2000 * (20_000 + ENTRY) // 4, Ledger())
    found(cache, order)
    # Bricks at random would give 0.25. All of the often wanted ones and 300 others: 0.5 + 0.5 / 6 = 0.58.
    assert found(cache, order) > 0.4


def test_all_is_found_where_all_fits():
    keys = list(range(500))
    cache = BrickCache(int(500 * (20_000 + ENTRY) * 1.15), Ledger())
    found(cache, keys)
    assert found(cache, keys) == 1.0


def test_the_bricks_of_a_new_hospital_take_the_place_of_dropped_ones_at_once():
    cache = BrickCache(1000 * (20_000 + ENTRY), Ledger())
    old, new = cache.base("old"), cache.base("new")
    found(cache, [old + i for i in range(1500)] * 3)
    cache.drop("old")
    keys = [new + i for i in range(800)]
    found(cache, keys * 2)
    assert found(cache, keys) > 0.95


def test_hospitals_that_come_and_go_take_no_more_memory_than_one():
    cache = BrickCache(64 * MB, Ledger())
    sizes = []
    for hospital in range(12):
        base = cache.base(f"{hospital}")
        for brick in range(20):
            put(cache, base + brick, bytes([hospital]) * (MB // 10))
        assert look(cache, base) == bytes([hospital]) * (MB // 10)
        sizes.append(made(cache))
        cache.drop(f"{hospital}")
    assert len(set(sizes[1:])) == 1


def test_what_a_reader_can_see_is_not_written_again():
    cache = BrickCache(2 * MB, Ledger())
    put(cache, 0, bytes([7]) * 50_000)
    pin = cache.pin
    view = cache.entries[0].image
    for key in range(1, 500):
        put(cache, key, bytes(50_000))
    assert set(view) == {7}
    assert cache.nbytes <= cache.capacity
    del pin
    for key in range(500, 1000):
        put(cache, key, bytes([9]) * 50_000)
    assert set(view) == {9}  # a view without a pin is worth nothing: the memory is used again


def test_a_cache_beyond_the_limit_is_refused():
    with pytest.raises(LimitExceeded, match="brick cache"):
        BrickCache(11, Ledger({"ram": 10}))


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_threads_read_right_voxels_while_memory_is_used_again(tmp_path, share):
    rng = np.random.default_rng(0)
    image = rng.integers(-200, 200, (1, 96, 96, 128)).astype(np.int16)
    label = (image[0] > 150).astype(np.uint8)
    path = tmp_path / "v"
    path.write_bytes(bricks.pack(RawCase(image, label, np.eye(4), ("liver",))))
    cache = BrickCache(int(share * path.stat().st_size), Ledger())
    wrong: list[object] = []

    def read(seed: int) -> None:
        try:
            volume = StoredVolume("v", path, cache)
            own = np.random.default_rng(seed)
            for _ in range(25):
                start = tuple(int(i) for i in own.integers(0, 64, 3))
                cut = tuple(slice(s, s + 32) for s in start)
                voxels, ids = volume.read(start, (32, 32, 32))
                if not (np.array_equal(voxels[0], image[0][cut]) and np.array_equal(ids, label[cut])):
                    wrong.append(start)
                if len(volume.positions("liver")) != volume.count("liver"):
                    wrong.append("positions")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.nbytes <= cache.capacity
