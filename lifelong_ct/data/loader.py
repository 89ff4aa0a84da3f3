"""Batches of patches, read ahead by threads, labels coded for the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.data.sampling import Corner, PatchSampler
from lifelong_ct.data.volume import StoredVolume

PAD_HU = -1024


class PatchLoader:
    """A source of batches; batch n is the same whoever asks, whenever.

    Args:
        volumes: to draw from.
        label_space: codes the labels.
        patch: voxels per axis.
        batch_size: patches per batch.
        seed_keys: key every draw.
        foreground: see `PatchSampler`.
        read_ahead: batches that are made before they are asked for.
        workers: threads.
    """

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        label_space: LabelSpace,
        patch: Sequence[int],
        batch_size: int,
        seed_keys: tuple[str | int, ...],
        *,
        foreground: float = 0.67,
        read_ahead: int = 2,
        workers: int = 1,
    ) -> None:
        self.volumes, self.patch = volumes, (patch[0], patch[1], patch[2])
        self.sampler = PatchSampler(volumes, patch, batch_size, seed_keys, foreground)
        self.read_ahead, self.workers = max(1, read_ahead), max(1, workers)
        self._luts = [label_space.encode_lut(volume.organs, volume.overlaps) for volume in volumes]
        self._dtype = label_space.dtype

    def batch(self, step: int) -> Batch:
        """The batch with this number."""
        draws = self.sampler.draw(step)
        pairs = [read_patch(self.volumes[i], start, self.patch, self._luts[i]) for i, start in draws]
        return Batch(
            torch.from_numpy(np.stack([x for x, _ in pairs])),
            torch.from_numpy(np.stack([y.astype(self._dtype, copy=False) for _, y in pairs])),
            [self.volumes[i].digest for i, _ in draws],
        )

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of a range, in order; what fails in a thread is raised here."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="patches")
        queue: deque[Future[Batch]] = deque()
        try:
            for step in range(start, stop):
                queue.append(pool.submit(self.batch, step))
                if len(queue) >= self.read_ahead + self.workers:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class PatchDataset(Dataset[Any]):
    """Item i is one deterministic patch of volume i: `(x int16 [C,D,H,W], y codes [1,D,H,W])`.

    Args:
        volumes: one item each.
        label_space: codes the labels.
        patch: voxels per axis.
        seed_keys: choose the patches.
    """

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        label_space: LabelSpace,
        patch: Sequence[int],
        seed_keys: tuple[str | int, ...],
    ) -> None:
        self.volumes, self.label_space, self.patch = volumes, label_space, (patch[0], patch[1], patch[2])
        self.sampler = PatchSampler(volumes, patch, 1, seed_keys, foreground=1.0)

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self.volumes):
            raise IndexError(index)
        volume = self.volumes[index]
        start = self.sampler.corner(index, generator(*self.sampler.keys, "item", volume.digest))
        lut = self.label_space.encode_lut(volume.organs, volume.overlaps)
        x, y = read_patch(volume, start, self.patch, lut)
        return torch.from_numpy(x), torch.from_numpy(y)


def read_patch(
    volume: StoredVolume, start: Corner, size: Corner, lut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """int16 `[C,D,H,W]` and codes `[1,D,H,W]`; outside the volume air and `IGNORE`."""
    low = [max(s, 0) for s in start]
    high = [min(s + n, m) for s, n, m in zip(start, size, volume.shape, strict=True)]
    image, label = volume.read(
        (low[0], low[1], low[2]), (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    )
    d, h, w = (slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    x = np.full((image.shape[0], *size), PAD_HU, np.int16)
    y = np.full((1, *size), IGNORE, lut.dtype)
    x[:, d, h, w] = image
    y[0, d, h, w] = lut[label]
    return x, y
