"""A volume store of a few small volumes of noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume

SHAPE = (40, 33, 35)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(-1000, 1000, (1, *SHAPE)).astype(np.int16)
LABEL = RNG.integers(0, 2, SHAPE).astype(np.uint8)


def make(root: Path, ledger: Ledger | None = None, cache: int = 1 << 20, **more: Any) -> VolumeStore:
    return VolumeStore(root, ledger or Ledger(), cache, **more)


def put(store: VolumeStore, key: str, image: np.ndarray = IMAGE) -> StoredVolume:
    return store.put(key, RawCase(image, LABEL, np.eye(4), ("liver",)))


def volumes(root: Path) -> list[str]:
    return sorted(path.stem for path in root.rglob("*.lctvol"))


def size(root: Path) -> int:
    store = make(root / "probe")
    put(store, "aa")
    return store.nbytes
