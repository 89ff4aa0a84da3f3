"""Stored volumes of noise, and what hinders their readers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume

ORGANS = ["liver", "spleen"]


def volume(
    store: VolumeStore,
    key: str,
    shape: Sequence[int] = (40, 36, 20),
    organs: Sequence[str] = ("liver", "spleen"),
    channels: int = 1,
    seed: str | None = None,
) -> StoredVolume:
    """Noise and random labels, the same for a key (or seed)."""
    rng = np.random.default_rng([*(seed or key).encode()])
    image = rng.integers(-1000, 1000, (channels, *shape)).astype(np.int16)
    label = rng.integers(0, 1 + len(organs), tuple(shape)).astype(np.uint8)
    return store.put(key, RawCase(image, label, np.eye(4), tuple(organs)))


def loader(volumes: Sequence[StoredVolume], batch: int = 2, **more: Any) -> PatchLoader:
    """Patches of 12³ voxels."""
    return PatchLoader(volumes, LabelSpace(ORGANS), (12, 12, 12), batch, (0, "patches"), **more)


@contextmanager
def stuck(volume: StoredVolume) -> Iterator[None]:
    """Whoever opens the file of the volume waits for ever, as on a file server that does not answer."""
    aside = volume.path.with_suffix(".aside")
    volume.path.rename(aside)
    os.mkfifo(volume.path)
    try:
        yield
    finally:
        with open(os.open(volume.path, os.O_RDWR)):  # lets them go
            volume.path.unlink()
            aside.rename(volume.path)


def children() -> list[int]:
    """Reader processes of this one that still run."""
    pids: list[str] = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            pids += (task / "children").read_text().split()
    return [pid for pid in map(int, pids) if alive(pid) and b"loading.worker" in command(pid)]


def command(pid: int) -> bytes:
    """Its command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def alive(pid: int) -> bool:
    """Whether it runs: neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
