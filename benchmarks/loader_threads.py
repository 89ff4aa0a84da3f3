"""How reading scales: patches per second of two threads, and of two processes, beside one thread.

    python -m benchmarks.loader_threads --folder /tmp/loader           # a minute, on a machine with nothing else to do

Everything is in the caches, so that nothing waits for the disk. Rounds alternate; what is compared is the median of
the ratios within a round. Two threads should reach 1.6 times one where two cores are free: the load that is printed
says whether they were.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import statistics
import time
from pathlib import Path

from benchmarks.loader_memory import BATCH, DRAWN, MIB, ORGANS, PATCH, linked, prepare
from lifelong_ct.core.host_memory import steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.volume import BrickCache, StoredVolume

READERS = (("thread", 1), ("thread", 2), ("process", 1), ("process", 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="the volumes are made here once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=60)
    chosen = parser.parse_args()
    prepare(chosen.folder)
    steady_heap()
    cache = BrickCache(512 * MIB, Ledger())
    volumes = [StoredVolume(path.stem, path, cache) for path in linked(chosen.folder, DRAWN)]
    timed(volumes, "thread", 1, chosen.batches)
    found: dict[tuple[str, int], list[tuple[float, float]]] = {reader: [] for reader in READERS}
    for _ in range(chosen.rounds):
        for reader in READERS:
            found[reader].append(timed(volumes, *reader, chosen.batches))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {chosen.rounds} rounds\n")
    print(f"{'readers':>10} {'wall ms':>8} {'CPU ms':>8} {'× one thread':>13}   per patch")
    for reader, rounds in found.items():
        ratios = [one[0] / own[0] for one, own in zip(found[READERS[0]], rounds, strict=True)]
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        told = f"{reader[0]} ×{reader[1]}"
        print(
            f"{told:>10} {wall:>8.2f} {cpu:>8.2f} {statistics.median(ratios):>13.2f}   {min(ratios):.2f} … {max(ratios):.2f}"
        )


def timed(volumes: list[StoredVolume], kind: str, workers: int, count: int) -> tuple[float, float]:
    """Wall and CPU milliseconds per patch, children included, once the readers are warm."""
    loader = PatchLoader(
        volumes,
        LabelSpace(ORGANS),
        PATCH,
        BATCH,
        ("threads",),
        workers=workers,
        worker_kind=kind,
        read_ahead=4,
    )
    warm = 8 if kind == "thread" else 4 * DRAWN
    batches = loader.batches(0, warm + count)
    for _ in range(warm):
        next(batches)
    began, spent = time.perf_counter(), cpu()
    for _ in range(count):
        next(batches)
    wall, busy = time.perf_counter() - began, cpu() - spent
    batches.close()
    return wall / count / BATCH * 1e3, busy / count / BATCH * 1e3


def cpu() -> float:
    """Seconds of this process and of the children that run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    tick = os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


if __name__ == "__main__":
    main()
