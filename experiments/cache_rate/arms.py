"""Four ways to feed a network when a share of the data fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, SmartCacheDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandCropByLabelClassesd,
)
from monai.utils import set_determinism
from torch import Tensor

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data.ingest import ingest
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts import Layout
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.store import VolumeStore

FOREGROUND = 0.67
Patches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Data:
    """One hospital: as files, and as a layout.

    Attributes:
        layout: reads the cases.
        train: its training cases, all organs annotated, local ids equal to the channels of the head.
        space: of the organs.
        patch: voxels per axis.
        store: folder of our volume store.
    """

    layout: Layout
    train: list[Case]
    space: LabelSpace
    patch: tuple[int, int, int]
    store: Path

    def window(self, rate: float) -> int:
        """Cases that fit."""
        return max(1, round(rate * len(self.train)))

    def transforms(self) -> Compose:
        """As MONAI's tutorials write them; centres are drawn as ours are: a third anywhere, the rest on the
        organs with equal right."""
        organs = len(self.space.organs)
        crop = RandCropByLabelClassesd(
            ["image", "label"],
            label_key="label",
            spatial_size=self.patch,
            ratios=[1 - FOREGROUND, *[FOREGROUND / organs] * organs],
            num_classes=organs + 1,
            num_samples=1,
            warn=False,
        )
        keys = ["image", "label"]
        return Compose([LoadImaged(keys), EnsureChannelFirstd(keys), Orientationd(keys, "RAS"), crop])

    def files(self) -> list[dict[str, str]]:
        """What MONAI's datasets take."""
        return [{"image": str(case.images[0]), "label": str(case.label)} for case in self.train]


def smart_cache_never_replaced(data: Data, rate: float, seed: int) -> tuple[Patches, int]:
    """As SuPreM runs it: `start()` and `update_cache()` are never called."""
    return _smart_cache(data, rate, seed, replaced=False)


def smart_cache(data: Data, rate: float, seed: int) -> tuple[Patches, int]:
    """A tenth of the window is replaced after each epoch, as MONAI means it."""
    return _smart_cache(data, rate, seed, replaced=True)


def cache_dataset(data: Data, rate: float, seed: int) -> tuple[Patches, int]:
    """Every case in every epoch; those outside the cache are read again each time."""
    set_determinism(seed)
    cached = CacheDataset(data.files(), data.transforms(), cache_num=data.window(rate), progress=False)
    return _endless(cached, lambda: None), len(data.train)


def ours(data: Data, rate: float, seed: int) -> tuple[Patches, int]:
    """Every case in every epoch, through a cache of `rate` times the compressed bytes."""
    store = VolumeStore(data.store, Ledger(), 0)
    volumes = ingest(data.layout, data.train, store, None)
    nbytes = store.nbytes
    store.close()
    store = VolumeStore(data.store, Ledger(), int(rate * nbytes))
    volumes = [store.get(volume.key) for volume in volumes]
    loader = PatchLoader(volumes, data.space, data.patch, 1, (seed, "cache rate"), foreground=FOREGROUND)
    return ((batch.x, batch.y) for batch in loader.batches(0, 1 << 40)), len(data.train)


ARMS = {
    "SmartCache, never replaced": smart_cache_never_replaced,
    "SmartCache, 10 % replaced": smart_cache,
    "CacheDataset": cache_dataset,
    "ours": ours,
}


def _smart_cache(data: Data, rate: float, seed: int, replaced: bool) -> tuple[Patches, int]:
    set_determinism(seed)
    window = data.window(rate)
    cached = SmartCacheDataset(
        data.files(),
        data.transforms(),
        replace_rate=0.1,
        cache_num=window,
        num_init_workers=1,
        num_replace_workers=1,
        progress=False,
        seed=seed,
    )
    moving = replaced and window < len(data.train)
    if moving:
        cached.start()
    return _endless(cached, cached.update_cache if moving else lambda: None), window


def _endless(dataset: Any, after_epoch: Any) -> Patches:
    """Epoch after epoch, a patch of each case, shuffled."""
    loader = DataLoader(dataset, batch_size=1, shuffle=True, num_workers=0)
    while True:
        for batch in loader:
            yield _plain(batch["image"], torch.int16), _plain(batch["label"], torch.uint8)
        after_epoch()


def _plain(tensor: Any, dtype: torch.dtype) -> Tensor:
    """Without MONAI's metadata."""
    return tensor.as_tensor().to(dtype)
