"""A real ceiling on CUDA: the step is made again below it, and the peaks say so."""

import gc
from functools import partial

import pytest
import torch
from tiny import World
from torch import nn

from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training.device_peaks import DevicePeaks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def wide() -> SegmentationModel:
    """Of a patch of 8³ voxels it makes a dozen maps of 32 × 64³ numbers, 32 MiB each."""
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Conv3d(32, 32, 3, padding=1), nn.LeakyReLU())]
    first = nn.Conv3d(1, 32, 1)
    return SegmentationModel(nn.Sequential(nn.Upsample(scale_factor=8), first, *layers, nn.AvgPool3d(8)), 32)


def learnt() -> tuple[dict[str, torch.Tensor], int | None, int]:
    """Weights, samples at once, and most bytes that were reserved."""
    gc.collect()
    torch.cuda.empty_cache()
    peaks = DevicePeaks.of(torch.device("cuda"))
    sgd = partial(torch.optim.SGD, lr=1e-2)
    with peaks.during("training"):
        world = World(model=wide(), device="cuda", batch_size=4, optimizer=sgd)
        world.learn(0, steps=2)
    assert peaks.found["training"]["allocated"] <= peaks.most["reserved"]
    return {n: w.cpu() for n, w in world.weights().items()}, world.learner.at_once, peaks.most["reserved"]


def test_below_a_ceiling_the_same_weights_are_learnt_in_parts() -> None:
    weights, whole, most = learnt()
    assert whole is None
    limit = int(0.7 * most)
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        split, parts, held = learnt()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts in (1, 2)
    assert held <= limit
    torch.testing.assert_close(split, weights, rtol=1e-2, atol=1e-4)  # TF32 in convolutions
