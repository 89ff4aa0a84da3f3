"""What a patch costs: ours beside MONAI's datasets and nnU-Net's loader. See README.md for the table.

python -m benchmarks.data_engine --folder /tmp/bench            # the whole table, 15 minutes
python -m benchmarks.data_engine --folder /tmp/bench --quick    # small volumes, a minute
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.metadata
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks import scans
from benchmarks.measuring import Child, Cost, cached_pages, forget_pages, preload, watched
from benchmarks.variants import VARIANTS, Setting, write_nnunet
from lifelong_ct.data import bricks

CROPS = {name: (4, 1) for name in VARIANTS if "Dataset" in name}
"""Crops per visit of a volume; the others have one way."""


@dataclass
class Row:
    """A variant with so many crops per visit, and what its rounds found."""

    name: str
    crops: int
    rounds: list[Cost]

    def median(self, field: str) -> float:
        """Of a field of `Cost`."""
        return statistics.median(getattr(cost, field) for cost in self.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="scans and stores are made here once (2 GB)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="4 volumes of 128x128x96, patches of 48, 3 rounds"
    )
    parser.add_argument("--rounds", type=int, help="5 unless told")
    parser.add_argument("--only", default="", help="variants whose name matches this expression")
    parser.add_argument("--json", type=Path, help="the numbers go there too")
    chosen = parser.parse_args()
    shape, count, patch, rounds = ((256, 256, 128), 12, (96, 96, 96), 5)
    if chosen.quick:
        shape, count, patch, rounds = ((128, 128, 96), 4, (48, 48, 48), 3)
    folder = chosen.folder / "x".join(map(str, shape))
    names = [name for name in VARIANTS if re.search(chosen.only, name)]
    setting = prepare(folder, scans.prepared(folder / "scans", shape, count), patch, names)
    rows, lines = run(setting, names, chosen.rounds or rounds)
    print("\n".join(lines))
    print("\n".join(gates(rows, 3 * patch[0] * patch[1] * patch[2])))
    if chosen.json:
        found = [{"name": r.name, "crops": r.crops, "rounds": [vars(c) for c in r.rounds]} for r in rows]
        chosen.json.write_text(json.dumps(found, indent=1))


def prepare(folder: Path, paths: list[Path], patch: tuple[int, int, int], names: list[str]) -> Setting:
    """Writes the stores that the variants read."""
    setting = Setting(
        paths, folder / f"store{bricks.VERSION.decode()}", folder / "nnunet", folder / "scratch", patch
    )
    setting.store.mkdir(parents=True, exist_ok=True)
    for path in paths:
        stored = setting.store / f"{path.name}.lctvol"
        if not stored.exists():
            stored.write_bytes(bricks.pack(scans.load(path)))
    if any("nnU-Net" in name for name in names):
        write_nnunet(setting)
    forget_pages(list(setting.store.iterdir()))
    return setting


def run(setting: Setting, names: list[str], rounds: int) -> tuple[list[Row], list[str]]:
    """All variants at once, one measured at a time, the order turned round after each round."""
    preload(names)
    children = {name: Child(name, setting) for name in names}
    rows = [Row(name, crops, []) for name in names for crops in CROPS.get(name, (1,))]
    load = os.getloadavg()[0]
    with watched(list(children.values())):
        for child in children.values():
            child.build()
        for row in rows:  # caches fill
            children[row.name].measure(row.crops, _count(row, setting, warm=True))
        for number in range(rounds):
            for row in rows if number % 2 == 0 else rows[::-1]:
                row.rounds.append(children[row.name].measure(row.crops, _count(row, setting)))
        lines = [
            f"{len(setting.scans)} volumes, patch {'x'.join(map(str, setting.patch))}, medians of {rounds} rounds, "
            f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; "
            + ", ".join(
                f"{name} {importlib.metadata.version(name)}" for name in ("monai", "blosc2", "torch")
            ),
            "",
            "| loader | crops per visit | CPU ms/patch | (lowest to highest) | wall ms | peak anonymous MB "
            "| page cache MB | on disk MB | set-up s |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row, children[row.name], setting) for row in rows]
    for child in children.values():
        child.close()
    return rows, lines


def gates(rows: list[Row], patch_bytes: int) -> list[str]:
    """The ratios that the engine is judged by, where the variants for them ran."""
    cpu = {(row.name, row.crops): row.median("cpu") for row in rows}
    read = {row.name: row.median("read") for row in rows}

    def of(name: str, crops: int = 1) -> float:
        return cpu.get((name, crops), float("nan"))

    low, full, none = (f"ours, RAM {share} of the store" for share in ("25%", "100%", "0%"))
    usual, tuned, peer = (
        "CacheDataset 1.0, as usually written",
        "CacheDataset 1.0, tuned",
        "nnU-Net v2 loader",
    )
    speed = of("ours, RAM 60% of the store") / of("ours, RAM 10% of the store")
    lines = [
        (
            "RAM 25%: CacheDataset 1.0 as usually written, 4 crops / ours",
            of(usual, 4) / of(low),
            "at least 5",
        ),
        ("RAM 25%: the same with 1 crop / ours", of(usual) / of(low), "at least 18"),
        ("RAM 25%: nnU-Net / ours", of(peer) / of(low), "at least 1"),
        ("RAM 100%: nnU-Net / ours", of(peer) / of(full), "at least 2.5"),
        ("RAM 100%: ours / CacheDataset 1.0 tuned, 4 crops", of(full) / of(tuned, 4), "at most 1.5"),
        ("RAM 100%: ours / CacheDataset 1.0 tuned, 1 crop", of(full) / of(tuned), "at most 1.5"),
        ("a miss (RAM 0%), CPU ms per patch", of(none), "at most 8"),
        ("bytes read per patch byte, RAM 0%", read.get(none, float("nan")) / patch_bytes, "at most 1.6"),
        ("speed at RAM 10% / speed at RAM 60%", speed, "at least 0.45"),
    ]
    return ["", "| gate | found | wanted |", "|---|---|---|"] + [
        f"| {a} | {b:.2f} | {c} |" for a, b, c in lines
    ]


def _count(row: Row, setting: Setting, warm: bool = False) -> int:
    """Patches per measurement: whole passes over the data, about a second."""
    volumes = len(setting.scans)
    if row.name not in CROPS:
        return volumes * (30 if warm else 15)
    return volumes * row.crops * (1 if "usual" in row.name or "Smart" in row.name or warm else 3)


def _line(row: Row, child: Child, setting: Setting) -> str:
    kept = {"ours": setting.store, "nnU-N": setting.nnunet, "Persi": setting.scratch}.get(
        row.name[:5].rstrip(",")
    )
    files = [
        path
        for path in (kept or setting.scans[0].parent).rglob("*")
        if path.is_file() and path.suffix != ".npy"
    ]
    costs = sorted(cost.cpu for cost in row.rounds)
    disk = sum(path.stat().st_size for path in files)
    return (
        f"| {row.name} | {row.crops if row.name in CROPS else '-'} | {row.median('cpu'):.2f} | {costs[0]:.2f} to "
        f"{costs[-1]:.2f} | {row.median('wall'):.2f} | {child.peak / 1e6:.0f} | {cached_pages(files) / 1e6:.0f} "
        f"| {disk / 1e6:.0f} | {child.seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
