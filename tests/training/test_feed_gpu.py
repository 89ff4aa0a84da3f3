"""Batches on their way to a CUDA device."""

import pytest
import torch
from test_feed import batch
from tiny import World

from lifelong_ct.training.feed import CudaCopies, DeviceFeed, feed_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda")


def test_batches_arrive_whole_under_load() -> None:
    sent = [batch(i, samples=64) for i in range(50)]
    sums = []
    for found in feed_for(CUDA)(iter(sent)):
        torch.cuda._sleep(1_000_000)
        sums.append((found.x.long().sum(), found.y.long().sum()))  # allocates, as a step does
    for wanted, (x, y) in zip(sent, sums, strict=True):
        assert (int(x), int(y)) == (int(wanted.x.long().sum()), int(wanted.y.long().sum()))


def test_a_copy_goes_on_while_the_device_computes() -> None:
    copies = CudaCopies(CUDA)
    part = copies.pinned(1 << 20)
    copies.send([part])[1].synchronize()
    busy = torch.cuda.Event()
    torch.cuda._sleep(2_000_000_000)  # about a second on the present stream
    busy.record()
    _, ticket = copies.send([part])
    copies.finish(ticket)
    assert not busy.query()
    assert part.is_pinned()
    busy.synchronize()


def test_training_through_it_is_the_same_training() -> None:
    plain, fed = World(device="cuda"), World(device="cuda", feed=DeviceFeed(CudaCopies(CUDA)))
    for world in (plain, fed):
        world.learner.model.cuda()
        world.learn(0, 5)
    assert plain.losses == pytest.approx(fed.losses, rel=1e-3)
