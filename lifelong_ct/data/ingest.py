"""From a hospital's cases to stored volumes on one spacing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.layouts import Layout
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import StoredVolume

FORMAT = 4
"""Part of every key: a change of the preprocessing makes new volumes."""


def ingest(
    layout: Layout,
    cases: Sequence[Case],
    store: VolumeStore,
    spacing: Sequence[float] | None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> list[StoredVolume]:
    """Stores the cases that are not stored yet.

    Args:
        layout: loads them.
        cases: what to store.
        store: where.
        spacing: mm per axis, None for each scan's own.
        on_case: told `(done, total)`.

    Returns:
        The volumes, in the order of the cases.

    Raises:
        DataError: a case cannot be used; those before it stay stored.
        LimitExceeded: a limit is reached; likewise.
    """
    volumes = []
    for done, case in enumerate(cases, start=1):
        volumes.append(_ingest_one(layout, case, store, spacing))
        on_case(done, len(cases))
    return volumes


def source_key(case: Case, spacing: Sequence[float] | None) -> str:
    """Names a volume by its source and preprocessing: files by path, size and time, drawn cases by their
    parameters. One way: no identifier can be read from it."""
    files = [
        (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else str(path)
        for path in case.files
    ]
    parts = {
        "format": FORMAT,
        "files": files,
        "params": dict(case.params),
        "case": [case.hospital, case.id],
        "organs": case.organs,
        "ids": dict(case.label_ids),
        "splits": case.splits,
        "modality": case.modality,
        "spacing": spacing and [float(s) for s in spacing],
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def prepare(raw: RawCase, spacing: Sequence[float] | None) -> RawCase:
    """A case on another spacing: image linear, label nearest.

    The corners of the volume stay where they are; the number of voxels per axis is rounded, so that the
    spacing is met to half a voxel over the whole extent.

    Args:
        raw: the case on its own grid.
        spacing: mm per axis; None changes nothing.
    """
    if spacing is None:
        return raw
    old = raw.image.shape[-3:]
    new = tuple(max(1, round(n * s / t)) for n, s, t in zip(old, raw.spacing, spacing, strict=True))
    if new == old:
        return raw
    image = torch.from_numpy(raw.image.astype(np.float32)).reshape(1, -1, *old)
    resampled = torch.nn.functional.interpolate(image, size=new, mode="trilinear", align_corners=False)
    image16 = resampled.round().to(torch.int16).numpy().reshape(*raw.image.shape[:-3], *new)
    label = None if raw.label is None else _nearest(raw.label, new)
    factor = np.array(old) / np.array(new)
    grid = np.diag([*factor, 1.0])
    grid[:3, 3] = (factor - 1) / 2  # the first new centre, in old voxels
    return replace(raw, image=image16, label=label, affine=raw.affine @ grid)


def _nearest(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    picks = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.int64), m - 1)
        for n, m in zip(shape, label.shape, strict=True)
    ]
    return np.ascontiguousarray(label[np.ix_(*picks)])


def _ingest_one(
    layout: Layout, case: Case, store: VolumeStore, spacing: Sequence[float] | None
) -> StoredVolume:
    key = source_key(case, spacing)
    if store.has(key):
        with suppress(DataError):  # damaged, or deleted by another process just now: it is made again
            return store.get(key)
    return store.put(key, prepare(layout.load(case), spacing))
