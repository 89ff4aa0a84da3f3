"""The order of events on the way to a device, told by one that copies as late as it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hospitals import Heard, options
from listed import ALL, entry, given
from tiny import World
from torch import Tensor

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.streams.class_disjoint import ClassDisjoint
from lifelong_ct.training.feed import PINNED, DeviceFeed, feed_for, pinned_bytes
from lifelong_ct.training.run import Run


class Late:
    """Copies a buffer only when it is waited for: what was written over before is lost.

    Attributes:
        told: what happened, in order.
        made: bytes of each buffer.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.made: list[int] = []
        self.pending: dict[int, tuple[Sequence[Tensor], list[Tensor]]] = {}

    def pinned(self, nbytes: int) -> Tensor:
        self.made.append(nbytes)
        return torch.zeros(nbytes, dtype=torch.uint8)

    def send(self, parts: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        ticket = sum(event.startswith("send") for event in self.told)
        copies = [torch.full_like(part, 77) for part in parts]
        self.pending[ticket] = parts, copies
        self.told.append(f"send {ticket}")
        return copies, ticket

    def finish(self, ticket: Any) -> None:
        for part, copy in zip(*self.pending.pop(ticket, ([], []))):
            copy.copy_(part)

    def use(self, ticket: Any, copies: Sequence[Tensor]) -> None:
        self.told.append(f"use {ticket}")
        assert ticket not in self.pending or all(
            copy is own for copy, own in zip(copies, self.pending[ticket][1])
        )
        self.finish(ticket)


def batch(i: int, samples: int = 2, codes: torch.dtype = torch.uint8) -> Batch:
    rng = torch.Generator().manual_seed(i)
    x = torch.randint(-1000, 1000, (samples, 1, 3, 4, 5), generator=rng, dtype=torch.int16)
    y = torch.randint(0, 250, x.shape, generator=rng).to(codes)
    return Batch(x, y, [f"case-{i}"], corners=[(i, 0, 0)])


def test_the_next_copy_is_under_way_before_a_batch_is_computed_with() -> None:
    copies = Late()
    for ready in DeviceFeed(copies)(iter([batch(i) for i in range(4)])):
        copies.told.append(f"compute {ready.cases[0][-1]}")
    assert copies.told == [
        *("send 0", "send 1", "use 0", "compute 0", "send 2", "use 1", "compute 1"),
        *("send 3", "use 2", "compute 2", "use 3", "compute 3"),
    ]


def test_batches_arrive_whole_whatever_their_sizes_and_types() -> None:
    sent = [
        *(batch(0), batch(1), batch(2, samples=1), batch(3, codes=torch.uint16), batch(4, samples=5)),
        *(batch(5), batch(6, samples=7, codes=torch.uint16), batch(7, samples=1)),
    ]
    for wanted, found in zip(sent, DeviceFeed(Late())(iter(sent)), strict=True):
        assert torch.equal(found.x, wanted.x)
        assert torch.equal(found.y, wanted.y)
        assert (found.x.dtype, found.y.dtype) == (wanted.x.dtype, wanted.y.dtype)
        assert (found.cases, found.corners) == (wanted.cases, wanted.corners)
        assert found.x.data_ptr() != wanted.x.data_ptr()


def test_a_buffer_is_filled_again_only_when_its_copy_is_made() -> None:
    """A device that never comes round to a copy until somebody waits for it: batch 2 goes through the buffer of batch 0."""

    class Never(Late):
        def use(self, ticket: Any, copies: Sequence[Tensor]) -> None:
            self.told.append(f"use {ticket}")

    sent = [batch(i) for i in range(6)]
    found = list(DeviceFeed(Never())(iter(sent)))
    assert all(torch.equal(f.x, s.x) and torch.equal(f.y, s.y) for f, s in zip(found, sent, strict=True))


def test_two_buffers_serve_for_good_and_are_on_the_ledger() -> None:
    ledger, copies = Ledger({"ram": 1 << 12}), Late()
    feed = DeviceFeed(copies, ledger)
    for _ in range(2):
        list(feed(iter([batch(i) for i in range(5)])))
    assert copies.made == [512, 512]  # 240 bytes of voxels and 120 → 128 of codes, to a power of two
    assert ledger.holders("ram")[PINNED] == pinned_bytes((3, 4, 5), 2) == 1024
    assert ledger.peak_used("ram") == 1024
    with pytest.raises(LimitExceeded, match=PINNED):
        list(feed(iter([batch(0, samples=20)])))


def test_what_reads_ahead_is_ended_with_it() -> None:
    ended = []

    def endless() -> Iterator[Batch]:
        try:
            yield from (batch(i) for i in range(100))
        finally:
            ended.append(True)

    copies = Late()
    feeding = DeviceFeed(copies)(endless())
    next(feeding)
    feeding.close()  # type: ignore[attr-defined]
    assert ended == [True]
    assert not copies.pending


def test_an_error_of_the_source_comes_through() -> None:
    def broken() -> Iterator[Batch]:
        yield batch(0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(DeviceFeed(Late())(broken()))


def test_on_the_cpu_batches_are_what_they_are() -> None:
    batches = iter([batch(0)])
    assert feed_for(torch.device("cpu"))(batches) is batches


def test_training_through_it_is_the_same_training() -> None:
    plain, fed = World(), World(feed=DeviceFeed(Late()))
    for world in (plain, fed):
        world.learn(0, 3)
        world.learn(1, 3)
    assert plain.losses == fed.losses
    assert all(torch.equal(a, b) for a, b in zip(plain.weights().values(), fed.weights().values()))


def test_a_run_on_a_gpu_plans_for_the_buffers(tmp_path: Any) -> None:
    classes = {"one": ["liver"], "two": ["aorta", "pancreas", "spleen"]}
    made = ClassDisjoint(hospitals=[entry("a", train=[ALL] * 4)], classes=classes, **given())
    run = Run(options(made, tmp_path), Heard())
    assert PINNED not in {row.owner for row in run.demands()}
    run.builder.device = torch.device("cuda")
    (row,) = (row for row in run.demands() if row.owner == PINNED)
    assert (row.kind, row.nbytes) == ("ram", pinned_bytes(made.patch, run.options.trainer.batch_size))
