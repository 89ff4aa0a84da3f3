"""The loaders that are compared. Each yields patches for ever; with crops = k every visit of a volume gives k.

Nobody augments, all draw half of the patches around a foreground voxel, all end with the patch in the memory
of a batch, and each gives what it gives at home: ours int16 and uint8 (the float is made on the device), MONAI
float32 (label uint8 where tuned), nnU-Net float32 and int16.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Patches = Callable[[int], Iterator[Any]]
"""Crops per visit → patches without end."""


@dataclass(frozen=True)
class Setting:
    """What every variant is built from.

    Attributes:
        scans: folders of `scans.prepared`.
        store: folder of `.lctvol` files.
        nnunet: folder of nnU-Net's preprocessed files.
        scratch: folder of this variant's own.
        patch: voxels per axis.
    """

    scans: list[Path]
    store: Path
    nnunet: Path
    scratch: Path
    patch: tuple[int, int, int]


def ours(setting: Setting, share: float) -> Patches:
    """The stored volumes alone, read into the memory of a batch; the cache gets a share of the store's bytes."""
    volumes, sampler = _volumes(setting, share)
    image = np.empty((1, *setting.patch), np.int16)
    label = np.empty(setting.patch, np.uint8)

    def patches(crops: int) -> Iterator[Any]:
        del crops  # our sampler goes to the next volume each time, which is the hardest case for a cache
        step = 0
        while True:
            index, start = sampler.draw(step)[0]
            volumes[index].read(start, setting.patch, image, label)
            yield image, label
            step += 1

    return patches


def ours_loader(setting: Setting, share: float, workers: int = 1) -> Patches:
    """The library's loader: batches of two as tensors, labels coded, read ahead by threads."""
    from lifelong_ct.data.labels import LabelSpace
    from lifelong_ct.data.loader import PatchLoader

    volumes, _ = _volumes(setting, share)
    space = LabelSpace(volumes[0].organs)
    loader = PatchLoader(volumes, space, setting.patch, 2, ("benchmark",), foreground=0.5, workers=workers)

    def patches(crops: int) -> Iterator[Any]:
        del crops
        for batch in loader.batches(0, 1 << 40):
            yield from zip(batch.x, batch.y)

    return patches


def _volumes(setting: Setting, share: float) -> tuple[list[Any], Any]:
    from lifelong_ct.core.host_memory import steady_heap
    from lifelong_ct.core.ledger import Ledger
    from lifelong_ct.data.sampling import PatchSampler
    from lifelong_ct.data.volume import BrickCache, StoredVolume

    steady_heap()
    paths = sorted(setting.store.glob("*.lctvol"))
    cache = BrickCache(int(share * sum(path.stat().st_size for path in paths)), Ledger())
    volumes = [StoredVolume(path.stem, path, cache) for path in paths]
    return volumes, PatchSampler(volumes, setting.patch, 1, ("benchmark",), foreground=0.5)


def cache_dataset(setting: Setting, rate: float, tuned: bool) -> Patches:
    """MONAI `CacheDataset`."""
    from monai.data import CacheDataset
    from monai.transforms import Compose

    fixed, crop = _monai(setting, tuned)
    data = CacheDataset(
        _items(setting),
        Compose([*fixed, crop]),
        cache_rate=rate,
        num_workers=1,
        progress=False,
        copy_cache=not tuned,
    )
    return _visits(data, crop)


def smart_cache(setting: Setting, rate: float) -> Patches:
    """MONAI `SmartCacheDataset`, a tenth replaced per epoch."""
    from monai.data import SmartCacheDataset
    from monai.transforms import Compose

    fixed, crop = _monai(setting, tuned=False)
    data = SmartCacheDataset(
        _items(setting), Compose([*fixed, crop]), replace_rate=0.1, cache_rate=rate, num_init_workers=1,
        num_replace_workers=1, progress=False,
    )  # fmt: skip
    data.start()
    return _visits(data, crop, data.update_cache)


def persistent(setting: Setting) -> Patches:
    """MONAI `PersistentDataset`: what is fixed is on disk as tensors, not compressed."""
    from monai.data import PersistentDataset
    from monai.transforms import Compose

    fixed, crop = _monai(setting, tuned=False)
    data = PersistentDataset(_items(setting), Compose([*fixed, crop]), cache_dir=setting.scratch)
    return _visits(data, crop)


def _items(setting: Setting) -> list[dict[str, str]]:
    return [{key: str(path / f"{key}.nii.gz") for key in ("image", "label")} for path in setting.scans]


def _monai(setting: Setting, tuned: bool) -> tuple[list[Any], Any]:
    """As the tutorials write it; tuned: no metadata, uint8 labels, positions found once, nothing copied."""
    from monai import transforms as t
    from monai.data import set_track_meta

    keys, window = ("image", "label"), t.ScaleIntensityRanged(("image",), -175, 250, 0, 1, clip=True)
    crop: dict[str, Any] = {"spatial_size": setting.patch, "pos": 1, "neg": 1, "num_samples": 1}
    if not tuned:
        fixed = [t.LoadImaged(keys), t.EnsureChannelFirstd(keys), t.Orientationd(keys, axcodes="RAS"), window]
        return fixed, t.RandCropByPosNegLabeld(keys, "label", image_key="image", image_threshold=0, **crop)
    set_track_meta(False)
    fixed = [
        t.LoadImaged(keys, image_only=True),
        t.EnsureChannelFirstd(keys, channel_dim="no_channel"),
        window,
        t.ToTensord(keys, track_meta=False),
        t.CastToTyped(("label",), dtype=np.uint8),
        t.FgBgToIndicesd("label", image_key="image"),
    ]
    found = {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
    return fixed, t.RandCropByPosNegLabeld(keys, "label", **found, **crop)


def _visits(data: Any, crop: Any, after: Callable[[], None] = lambda: None) -> Patches:
    """A crop is a view of the cached tensor until batches are made: of two, as `monai.data.DataLoader` does it."""
    from monai.data import list_data_collate

    def visited() -> Iterator[Any]:
        order = np.random.default_rng(0)
        while True:
            for index in order.permutation(len(data)):
                yield from data[int(index)]
            after()

    def patches(crops: int) -> Iterator[Any]:
        crop.cropper.num_samples = crops
        stream = visited()
        while True:
            batch = list_data_collate(list(itertools.islice(stream, 2)))
            yield from zip(batch["image"], batch["label"])

    return patches


def nnunet(setting: Setting) -> Patches:
    """nnU-Net v2: its data loader over its own preprocessed files, batches of two, no augmentation."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    data = nnUNetDatasetBlosc2(str(setting.nnunet))
    loader = nnUNetDataLoader(
        data, 2, setting.patch, setting.patch, _label_manager(setting), oversample_foreground_percent=0.5
    )

    def patches(crops: int) -> Iterator[Any]:
        del crops  # a case per patch
        while True:
            batch = next(loader)
            yield from zip(batch["data"], batch["target"])

    return patches


def write_nnunet(setting: Setting) -> None:
    """Preprocessed files as nnU-Net's own preprocessor writes them."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    from benchmarks import scans

    setting.nnunet.mkdir(parents=True, exist_ok=True)
    for path in setting.scans:
        if (setting.nnunet / f"{path.name}.pkl").exists():
            continue
        raw = scans.load(path)
        assert raw.label is not None
        image, label = raw.image[None].astype(np.float32), raw.label[None].astype(np.int16)
        body = image[label > 0]
        low, high = np.percentile(body, (0.5, 99.5))
        image = (image.clip(low, high) - body.mean()) / body.std()  # its CT normalisation
        foreground = _label_manager(setting).foreground_labels
        places = DefaultPreprocessor._sample_foreground_locations(label, foreground)
        params = [comp_blosc2_params(a.shape, setting.patch, a.itemsize) for a in (image, label)]
        (blocks, chunks), (blocks_seg, chunks_seg) = params
        nnUNetDatasetBlosc2.save_case(
            image, label, {"class_locations": places}, str(setting.nnunet / path.name), chunks=chunks,
            blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg,
        )  # fmt: skip


def _label_manager(setting: Setting) -> Any:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    from benchmarks import scans

    organs = scans.load(setting.scans[0]).organs
    return LabelManager({"background": 0, **{organ: i for i, organ in enumerate(organs, start=1)}}, None)


VARIANTS: dict[str, Callable[[Setting], Patches]] = {
    **{
        f"ours, RAM {share:.0%} of the store": lambda s, f=share: ours(s, f)
        for share in (0.0, 0.1, 0.25, 0.6, 1.0)
    },
    "ours, RAM 25%, through PatchLoader": lambda s: ours_loader(s, 0.25),
    "ours, RAM 100%, through PatchLoader": lambda s: ours_loader(s, 1.0),
    "CacheDataset 1.0, as usually written": lambda s: cache_dataset(s, 1.0, tuned=False),
    "CacheDataset 0.6, as usually written": lambda s: cache_dataset(s, 0.6, tuned=False),
    "CacheDataset 1.0, tuned": lambda s: cache_dataset(s, 1.0, tuned=True),
    "CacheDataset 0.6, tuned": lambda s: cache_dataset(s, 0.6, tuned=True),
    "SmartCacheDataset 0.6": lambda s: smart_cache(s, 0.6),
    "PersistentDataset": persistent,
    "nnU-Net v2 loader": nnunet,
}
