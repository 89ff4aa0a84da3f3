"""Batches: the same for any kind and number of workers and any limit, coded by hand, and where they end."""

import math
import threading

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from stored import ORGANS, children, loader, volume

from lifelong_ct.core.errors import DataError, LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.bricks import BRICK
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace
from lifelong_ct.data.loader import PAD_HU, PatchDataset, PatchLoader, read_patch
from lifelong_ct.data.loading.budget import CACHES, DECODING, QUEUE
from lifelong_ct.data.sampling import OnePass, WithReplacement
from lifelong_ct.data.sampling.foreground import Foreground
from lifelong_ct.data.store import VolumeStore


@pytest.fixture
def store(tmp_path):
    made = VolumeStore(tmp_path, Ledger(), 1 << 16)
    yield made
    made.close()


@pytest.fixture
def volumes(store):
    return [
        volume(store, "aa"),
        volume(store, "bb", organs=("liver",)),
        volume(store, "cc", shape=(9, 36, 8), organs=("spleen", "liver")),
    ]


def same(one, two):
    told = (one.cases, one.patients, one.corners) == (two.cases, two.patients, two.corners)
    return torch.equal(one.x, two.x) and torch.equal(one.y, two.y) and told


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("patches")]


@pytest.mark.parametrize(
    ("kind", "workers", "read_ahead"),
    [*(("thread", n, ahead) for n in (1, 4) for ahead in (1, 2, 30)), ("process", 1, 30), ("process", 3, 1)],
)
def test_a_batch_is_the_same_for_any_workers_read_ahead_and_start(volumes, kind, workers, read_ahead):
    reference = [loader(volumes).batch(step) for step in range(9)]
    made = loader(volumes, workers=workers, worker_kind=kind, read_ahead=read_ahead)
    for start, stop in ((0, 9), (4, 9), (7, 8), (3, 3)) if kind == "thread" else ((2, 9),):
        found = list(made.batches(start, stop))
        assert len(found) == stop - start
        assert all(same(a, b) for a, b in zip(found, reference[start:stop], strict=True))
    assert not reader_threads()
    assert not children()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_batch_that_was_handed_out_never_changes(volumes, kind):
    """A plugin may keep it."""
    kept = list(loader(volumes, worker_kind=kind, read_ahead=1).batches(0, 12))
    assert all(same(batch, loader(volumes).batch(step)) for step, batch in enumerate(kept))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ranks_have_the_rows_of_one_large_batch_in_turn(volumes, kind):
    """Held-out patches are the same on all of them: the first rows."""
    whole = loader(volumes, 6)
    for rank in range(3):
        mine = loader(volumes, rank=rank, ranks=3, worker_kind=kind)
        for step, batch in enumerate(mine.batches(2, 5), start=2):
            expected = whole.batch(step)
            rows = slice(rank, None, 3)
            assert torch.equal(batch.x, expected.x[rows])
            assert torch.equal(batch.y, expected.y[rows])
            assert batch.cases == expected.cases[rows]
        assert torch.equal(mine.batch(7).x, whole.batch(7).x[:2])
        assert mine.needs() == loader(volumes, worker_kind=kind).needs()


@pytest.mark.parametrize("capacity", [0, 30_000, 1 << 22])
def test_a_batch_is_the_same_at_any_limit(volumes, store, capacity):
    reference = [loader(volumes).batch(step) for step in range(9)]
    other = VolumeStore(store.root, Ledger(), capacity)
    volumes = [other.get(v.key) for v in volumes]
    for kind in ("thread", "process") if capacity == 30_000 else ("thread",):
        found = list(loader(volumes, workers=2, worker_kind=kind).batches(0, 9))
        assert all(same(a, b) for a, b in zip(found, reference, strict=True))
    other.close()


@pytest.mark.parametrize("choice", [{}, {"schedule": WithReplacement()}, {"policy": Foreground(0.5)}])
def test_a_batch_is_the_same_whatever_cases_are_called_and_wherever_they_lie(tmp_path, choice):
    """Another folder, other names, another order of arrival."""
    names = {"aa": "zz", "bb": "m1", "cc": "11"}
    found = []
    for root, renamed in ((tmp_path / "one", False), (tmp_path / "moved" / "here", True)):
        made = VolumeStore(root, Ledger(), 1 << 16)
        keys = sorted(names, reverse=renamed)
        listed = [volume(made, names[key] if renamed else key, seed=key) for key in keys]
        found.append(list(loader(listed, **choice).batches(0, 12)))
        made.close()
    assert all(same(a, b) for a, b in zip(*found, strict=True))


def test_a_batch_holds_int16_voxels_codes_and_digests(volumes):
    made = loader(volumes)
    batch = made.batch(0)
    assert batch.x.shape == batch.y.shape == (2, 1, 12, 12, 12)
    assert (batch.x.dtype, batch.y.dtype) == (torch.int16, torch.uint8)
    draws = made.sampler.draw(0)
    assert list(batch.cases) == [volumes[i].digest for i, _ in draws]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_batch_tells_whose_its_patches_are_and_where_they_lie(volumes, kind):
    patients = {v.digest: f"patient {v.key}" for v in volumes}
    made = loader(volumes, worker_kind=kind, patients=[patients[v.digest] for v in volumes])
    by_digest = {v.digest: v for v in volumes}
    for batch in made.batches(0, 6):
        assert batch.patients == [patients[case] for case in batch.cases]
        for x, case, corner in zip(batch.x, batch.cases, batch.corners, strict=True):
            whole = by_digest[case]
            low = [max(0, c) for c in corner]
            high = [min(n, c + p) for n, c, p in zip(whole.shape, corner, x.shape[1:])]
            image, _ = whole.read(tuple(low), tuple(b - a for a, b in zip(low, high)))
            inside = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner))
            assert torch.equal(
                x[(0, *inside)], torch.from_numpy(np.array(image)).reshape(x[(0, *inside)].shape)
            )


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


@pytest.mark.parametrize(("kind", "workers"), [("thread", 1), ("thread", 3), ("process", 2)])
def test_an_error_of_a_reader_is_raised_in_its_turn(volumes, kind, workers):
    """The volume of the third batch and no earlier one is gone."""
    made = loader(volumes, batch=1, workers=workers, worker_kind=kind, read_ahead=3)
    order = [made.sampler.draw(step)[0][0] for step in range(3)]
    assert sorted(order) == [0, 1, 2]
    volumes[order[2]].path.unlink()
    batches = made.batches(0, 100)
    assert [next(batches).cases[0] for _ in range(2)] == [volumes[i].digest for i in order[:2]]
    with pytest.raises(DataError) as error:
        next(batches)
    assert error.value.exit_code == 2
    assert not reader_threads()
    assert not children()


def test_a_volume_that_vanishes_meanwhile_is_an_error(volumes, store):
    made = loader(volumes)
    for path in store.root.rglob("*.lctvol"):
        path.unlink()
    with pytest.raises(DataError, match="is gone"):
        list(made.batches(0, 4))
    assert not reader_threads()


@pytest.mark.parametrize(
    ("kind", "end"), [*(("thread", end) for end in ("close", "delete", "raise")), ("process", "delete")]
)
def test_readers_end_when_the_iterator_is_left_early(volumes, kind, end):
    batches = loader(volumes, workers=2, worker_kind=kind, read_ahead=5).batches(0, 10_000)
    next(batches)
    assert len(reader_threads() if kind == "thread" else children()) == 2
    if end == "close":
        batches.close()
    elif end == "raise":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt())
    del batches
    assert not reader_threads()
    assert not children()


def test_no_more_is_in_flight_than_announced(volumes, monkeypatch):
    made = loader(volumes, workers=2, read_ahead=3)
    asked, real = [], made.sampler.centres
    monkeypatch.setattr(made.sampler, "centres", lambda step: asked.append(step) or real(step))
    batches = made.batches(0, 100)
    assert not asked, "nothing is begun before it is asked for"
    for taken in range(1, 10):
        next(batches)
        assert len(asked) - (taken - 1) == 3 + 2  # the one in use is among them
    batches.close()


# --- bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_queues_and_buffers_are_asked_for_and_given_back(volumes, kind):
    batch = 2 * 12**3 * 3
    need = {
        QUEUE: batch * (3 + 2 + (2 if kind == "process" else 1)),
        DECODING: 2 * ((4 << 20) + math.prod(BRICK) * 6),
        **({CACHES: 1 << 16} if kind == "process" else {}),
    }
    ledger = Ledger({"ram": sum(need.values())})
    made = loader(volumes, workers=2, read_ahead=3, worker_kind=kind, ledger=ledger)
    assert made.needs() == need
    batches = made.batches(0, 20)
    assert ledger.held("ram") == 0
    for _ in range(6):
        next(batches)
    assert ledger.holders("ram") == need
    batches.close()
    assert ledger.held("ram") == 0
    assert batch * 5 <= ledger.peak_used("ram") <= ledger.peak("ram") == sum(need.values())
    small = Ledger({"ram": sum(need.values()) - 1})
    with pytest.raises(LimitExceeded, match="of ram"):
        next(loader(volumes, workers=2, read_ahead=3, worker_kind=kind, ledger=small).batches(0, 20))
    assert not children()


def test_processes_tell_what_their_caches_hold(tmp_path):
    ledger = Ledger()
    store = VolumeStore(tmp_path, Ledger(), 0)
    volumes = [volume(store, key) for key in ("aa", "bb", "cc")]
    made = loader(volumes, workers=2, worker_kind="process", ledger=ledger, worker_cache=1 << 22)
    list(made.batches(0, 40))
    bricks = sum(v.nbytes for v in volumes)
    queue = 2 * 12**3 * 3 * (2 + 2 + 2)
    assert 0.5 * bricks < ledger.peak_used("ram") - queue <= 1 << 22
    store.close()


# --- coverage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, 20_000, 1 << 22])
@pytest.mark.parametrize("schedule", ["epochs", "with_replacement"])
def test_every_case_is_drawn_with_equal_right_at_every_limit(tmp_path, capacity, schedule):
    """What a small cache holds is not drawn more often: counted in the batches that come out."""
    store = VolumeStore(tmp_path, Ledger(), capacity)
    volumes = [volume(store, f"{i:02d}", shape=(12 + i, 14, 13)) for i in range(12)]
    k = 30
    made = loader(
        volumes, batch=3, workers=2, schedule=WithReplacement() if schedule == "with_replacement" else None
    )
    drawn = [case for batch in made.batches(0, 12 * k // 3) for case in batch.cases]
    counts = np.array([drawn.count(v.digest) for v in volumes])
    if schedule == "epochs":
        assert (counts == k).all()
    else:
        statistic = ((counts - k) ** 2 / k).sum()
        low, high = chi2.ppf([0.0005, 0.9995], 11)
        assert low < statistic < high
    store.close()


# --- position -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [None, WithReplacement(), OnePass(8)])
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_loader_goes_on_where_its_state_was_taken(volumes, schedule, taken, store):
    end = 12
    whole = list(loader(volumes, schedule=schedule).batches(0, end))
    volumes = [store.get(v.key) for v in volumes]
    first = loader(volumes, schedule=schedule, workers=2)
    batches = first.batches(0, end)
    for _ in range(taken):
        next(batches)
    state = first.state_dict()
    batches.close()
    assert state["position"] == taken
    assert len(repr(state)) < 80
    second = loader([store.get(v.key) for v in volumes[::-1]], schedule=schedule, workers=1, read_ahead=5)
    second.load_state_dict(state)
    rest = list(second.batches(second.position, end))
    assert len(rest) == end - taken
    assert all(same(a, b) for a, b in zip(rest, whole[taken:], strict=True))
    assert second.state_dict()["position"] == end


def test_a_state_of_another_loader_is_refused(volumes):
    state = loader(volumes).state_dict()
    space = LabelSpace(ORGANS)
    for other in (
        loader(volumes[:2]),
        loader(volumes, batch=3),
        loader(volumes, schedule=WithReplacement()),
        loader(volumes, policy=Foreground(0.67)),
        loader(volumes, foreground=0.5),
        PatchLoader(volumes, space, (12, 12, 13), 2, (0, "patches")),
        PatchLoader(volumes, space, (12, 12, 12), 2, (1, "patches")),
    ):
        with pytest.raises(LifelongCTError, match="another patch, batch, seed"):
            other.load_state_dict(state)


# --- one pass -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "workers"), [("thread", 2), ("process", 2)])
def test_one_pass_shows_each_case_k_times_and_then_closes_it(volumes, kind, workers):
    made = loader(volumes, batch=2, schedule=OnePass(4), workers=workers, worker_kind=kind, read_ahead=3)
    assert made.total == 6
    seen: list[str] = []
    for batch in made.batches(0, 6):
        seen += batch.cases
        for stored in volumes:
            assert stored.closed == (seen.count(stored.digest) == 4), "closed with its last patch, not before"
    assert [seen[i : i + 4] for i in (0, 4, 8)] == [[case] * 4 for case in seen[::4]]
    assert set(seen) == {v.digest for v in volumes}
    for stored in volumes:
        with pytest.raises(DataError, match="closed"):
            stored.read((0, 0, 0), (1, 1, 1))
    with pytest.raises(DataError, match="closed: its case has been shown"):
        made.batch(0)
    dataset = PatchDataset(volumes, LabelSpace(ORGANS), (6, 6, 6), (0, "items"))
    with pytest.raises(DataError, match="closed") as error:
        dataset[1]
    assert error.value.code == "closed"


def test_one_pass_is_the_same_for_any_workers(store):
    found = []
    for kind, workers in (("thread", 1), ("thread", 4), ("process", 3)):
        volumes = [volume(store, key) for key in ("aa", "bb", "cc", "dd")]
        made = loader(volumes, schedule=OnePass(3), workers=workers, worker_kind=kind)
        found.append(list(made.batches(0, 6)))
    for others in found[1:]:
        assert all(same(a, b) for a, b in zip(found[0], others, strict=True))


def test_beyond_one_pass_there_is_nothing(volumes):
    made = loader(volumes, batch=2, schedule=OnePass(3))
    assert made.total == math.ceil(9 / 2)
    for ask in (lambda: next(made.batches(0, 6)), lambda: made.batch(1 << 40)):
        with pytest.raises(DataError, match="one pass over 3 cases has 9 patches") as error:
            ask()
        assert error.value.code == "closed"
    assert [len(batch.cases) for batch in made.batches(0, 5)] == [2, 2, 2, 2, 1]


def test_a_pass_that_goes_on_has_closed_what_it_showed_before(volumes):
    made = loader(volumes, batch=2, schedule=OnePass(4))
    order = [made.sampler.draw(step)[0][0] for step in (0, 2, 4)]
    next(made.batches(3, 6))
    assert [volumes[i].closed for i in order] == [True, True, False]
    with pytest.raises(DataError, match="closed"):
        made.batch(0)


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
