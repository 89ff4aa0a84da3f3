"""Why the bricks have the shape that they have: a patch cached and not cached, for several shapes.

python -m benchmarks.brick_shapes --folder /tmp/bench              # 12 volumes of 256x256x128
python -m benchmarks.brick_shapes --folder /tmp/bench --big        # one of 512x512x300
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import scans
from benchmarks.measuring import forget_pages
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.sampling import PatchSampler
from lifelong_ct.data.volume import BrickCache, StoredVolume

SHAPES = ((16, 32, 96), (32, 32, 96), (16, 16, 96), (32, 32, 32), (32, 32, 64), (48, 48, 48), (64, 64, 64))
"""The last axis is cut into equal parts of about this length where it says 96."""
PATCH = (96, 96, 96)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    shape, count = ((512, 512, 300), 1) if chosen.big else ((256, 256, 128), 12)
    folder = chosen.folder / "x".join(map(str, shape))
    paths = scans.prepared(folder / "scans", shape, count)
    ways = {brick: _ways(folder / "shapes", paths, brick) for brick in SHAPES}
    found: dict[tuple[object, int], list[float]] = {}
    for number in range(chosen.rounds):
        for brick in SHAPES if number % 2 == 0 else SHAPES[::-1]:
            for which, volumes in enumerate(ways[brick][:2]):
                found.setdefault((brick, which), []).append(_time(volumes))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {chosen.rounds} rounds\n")
    print(
        "| brick | cached, CPU ms per patch | not cached | bricks per patch | bytes read per patch byte | on disk MB |"
    )
    print("|---|---|---|---|---|---|")
    for brick in SHAPES:
        warm, cold = (statistics.median(found[brick, which]) for which in (0, 1))
        _, _, touched, read, disk = ways[brick]
        name = "x".join(map(str, brick))
        print(f"| {name} | {warm:.2f} | {cold:.2f} | {touched:.1f} | {read:.2f} | {disk / 1e6:.1f} |")


def _ways(folder: Path, paths: list[Path], brick: tuple[int, int, int]):  # type: ignore[no-untyped-def]
    """The volumes with all in the cache, and with nothing; bricks and bytes per patch; bytes of the files."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{path.name}-{'x'.join(map(str, brick))}" for path in paths]
    fixed = bricks.brick_shape if brick[2] == 96 else lambda shape: tuple(map(min, brick, shape))
    with mock.patch.multiple(bricks, BRICK=brick, brick_shape=fixed):
        for file, path in zip(files, paths):
            file.write_bytes(bricks.pack(scans.load(path)))
    forget_pages(files)
    disk = sum(file.stat().st_size for file in files)
    cache = BrickCache(2 * disk, Ledger())
    warm = [StoredVolume(file.name, file, cache) for file in files]
    for volume in warm:
        volume.read((0, 0, 0), volume.shape)
    none = BrickCache(0, Ledger())
    cold = [StoredVolume(file.name, file, none) for file in files]
    touched = read = 0
    for index, start in _draws(warm):
        volume, base = warm[index], cache.base(warm[index].key)
        header = volume._header
        steps = (header.grid[1] * header.grid[2], header.grid[2], 1)
        spans = [range(a // b, -(-(a + n) // b)) for a, n, b in zip(start, PATCH, header.brick)]
        numbers = [np.dot(at, steps) for at in np.stack(np.meshgrid(*spans), -1).reshape(-1, 3)]
        touched += len(numbers)
        read += sum(cache.entries[base + int(number)].nbytes for number in numbers)
    draws = len(_draws(warm))
    return warm, cold, touched / draws, read / draws / (3 * np.prod(PATCH)), disk


def _draws(volumes: list[StoredVolume]) -> list[tuple[int, tuple[int, int, int]]]:
    sampler = PatchSampler(volumes, PATCH, 1, ("shapes",), foreground=0.5)
    return [sampler.draw(step)[0] for step in range(96)]


def _time(volumes: list[StoredVolume]) -> float:
    draws = _draws(volumes)
    image, label = np.empty((1, *PATCH), np.int16), np.empty(PATCH, np.uint8)
    begin = time.process_time()
    for index, start in draws:
        volumes[index].read(start, PATCH, image, label)
    return 1e3 * (time.process_time() - begin) / len(draws)


if __name__ == "__main__":
    main()
