"""One scan of 512x512x300: what a 96-voxel crop costs cold and warm, what a cached scan takes, what ingest takes.

python -m benchmarks.one_scan --folder /tmp/bench
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks import scans
from benchmarks.measuring import anonymous, forget_pages
from benchmarks.variants import Setting, cache_dataset, write_nnunet
from lifelong_ct.core.files import write_bytes
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.volume import BrickCache, StoredVolume

PATCH = (96, 96, 96)
Crop = Callable[[tuple[int, int, int]], Any]


@dataclass
class Way:
    """One way to keep the scan.

    Attributes:
        name: of the row.
        files: of it.
        cold: a crop whose files are not in the page cache; None where that is the whole scan.
        warm: a crop when everything that the way keeps is kept.
        kept: bytes in memory per scan that is kept so.
        made: CPU seconds to make it from the arrays; for a cache in memory, to decode it.
    """

    name: str
    files: list[Path]
    cold: Crop | None
    warm: Crop
    kept: int
    made: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="the scan is made here once (1 GB)")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--crops", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    folder = chosen.folder / "x".join(map(str, chosen.shape))
    path = scans.prepared(folder / "scans", tuple(chosen.shape), 1)[0]
    ways = [_ours(folder, path), _map(path), _nnunet(folder, path), _monai(folder, path)]
    rng = np.random.default_rng(0)
    starts = [
        tuple(int(i) for i in rng.integers(0, np.array(chosen.shape) - 96 + 1)) for _ in range(chosen.crops)
    ]
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(chosen.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            if way.cold:
                found.setdefault((way.name, "cold"), []).append(_time(way.cold, starts, way.files))
            found.setdefault((way.name, "warm"), []).append(_time(way.warm, starts, []))
    print(f"{'x'.join(map(str, chosen.shape))}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(
        "| kept as | on disk MB | cold crop, CPU ms (wall) | warm crop, CPU ms (wall) | MB per cached scan | made in CPU s |"
    )
    print("|---|---|---|---|---|---|")
    for way in ways:
        disk = sum(file.stat().st_size for file in way.files) / 1e6
        cold, warm = (_cell(found.get((way.name, kind))) for kind in ("cold", "warm"))
        print(f"| {way.name} | {disk:.1f} | {cold} | {warm} | {way.kept / 1e6:.0f} | {way.made:.2f} |")
    raw, seconds = scans.load(path), time.process_time()
    for name in ("image", "label"):
        np.asarray(nib.load(path / f"{name}.nii.gz").dataobj)
    print(
        f"\nnii.gz: decoded in {time.process_time() - seconds:.2f} CPU s; raw {raw.image.nbytes * 1.5 / 1e6:.0f} MB"
    )


def _ours(folder: Path, path: Path) -> Way:
    raw, file = scans.load(path), folder / "scan.lctvol"
    begin = time.process_time()
    write_bytes(file, bricks.pack(raw))
    made = time.process_time() - begin
    without = StoredVolume("scan", file, BrickCache(0, Ledger()))
    cache = BrickCache(2 * file.stat().st_size, Ledger())
    kept = StoredVolume("scan", file, cache)
    kept.read((0, 0, 0), kept.shape)
    return Way(
        "ours",
        [file],
        lambda start: without.read(start, PATCH),
        lambda start: kept.read(start, PATCH),
        cache.nbytes,
        made,
    )


def _map(path: Path) -> Way:
    files = [path / "image.npy", path / "label.npy"]

    def crop(start: tuple[int, int, int]) -> Any:
        cut = tuple(slice(s, s + 96) for s in start)
        return [np.ascontiguousarray(np.load(file, mmap_mode="r")[cut]) for file in files]

    return Way("npy, memory map", files, crop, crop, sum(file.stat().st_size for file in files), 0.0)


def _nnunet(folder: Path, path: Path) -> Way:
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    begin = time.process_time()
    write_nnunet(Setting([path], folder, folder / "nnunet", folder, PATCH))
    made = time.process_time() - begin
    data = nnUNetDatasetBlosc2(str(folder / "nnunet"))

    def crop(start: tuple[int, int, int]) -> Any:
        image, label, _, _ = data.load_case(path.name)
        box = [[s, s + 96] for s in start]
        return crop_and_pad_nd(image, box, 0), crop_and_pad_nd(label, box, -1)

    files = sorted((folder / "nnunet").iterdir())
    return Way("nnU-Net v2 files", files, crop, crop, sum(file.stat().st_size for file in files), made)


def _monai(folder: Path, path: Path) -> Way:
    before, begin = anonymous(os.getpid()), time.process_time()
    patches = cache_dataset(Setting([path], folder, folder, folder, PATCH), 1.0, tuned=True)(1)
    made = time.process_time() - begin
    files = [path / f"{name}.nii.gz" for name in ("image", "label")]
    kept = anonymous(os.getpid()) - before
    return Way("CacheDataset 1.0, tuned", files, None, lambda start: next(patches), kept, made)


def _time(crop: Crop, starts: list[Any], files: list[Path]) -> tuple[float, float]:
    """CPU and wall ms per crop."""
    crop(starts[0])
    cpu = wall = 0.0
    for start in starts:
        forget_pages(files)
        a, b = time.process_time(), time.perf_counter()
        crop(start)
        cpu, wall = cpu + time.process_time() - a, wall + time.perf_counter() - b
    return 1e3 * cpu / len(starts), 1e3 * wall / len(starts)


def _cell(rounds: list[tuple[float, float]] | None) -> str:
    if rounds is None:
        return "the whole scan"
    cpu, wall = (statistics.median(values) for values in zip(*rounds))
    return f"{cpu:.2f} ({wall:.2f})"


if __name__ == "__main__":
    main()
