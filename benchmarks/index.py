"""How long it takes to list 30,000 cases, and what the list holds in memory.

    python benchmarks/index.py [--cases 30000] [--folder FOLDER]

Writes folders as AbdomenAtlas 1.1 has them (a scan of 2×2×2 voxels and 25 masks each) into a temporary folder, lists
them in a fresh process with nothing cached by the system (root on Linux; otherwise it says so), and once more. Memory is
the peak of what is anonymous, less what is held after the imports.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lifelong_ct.core.host_memory import anonymous_rss
from lifelong_ct.core.identity import Identity, Redactor
from lifelong_ct.data import readers
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.native_maps import native_map
from lifelong_ct.streams.hospital import open_hospital

MOST_LINKS = 20_000
"""Per file; ext4 allows 65,000."""


def write(root: Path, count: int) -> None:
    """The folders. Masks are links to a few files: listing them reads their names."""
    scan = bytes(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_bytes())
    data = gzip.compress(scan)
    for number in range(1, count + 1):
        case = root / f"BDMAP_{number:08d}"
        masks = case / "segmentations"
        masks.mkdir(parents=True)
        (case / "ct.nii.gz").write_bytes(data)
        for i, organ in native_map("AbdomenAtlas 1.1").names.items():
            source = root.parent / f"mask_{i}_{number // MOST_LINKS}.nii.gz"
            if not source.exists():
                source.write_bytes(data)
            os.link(source, masks / f"{organ}.nii.gz")


def entry(root: Path) -> dict[str, Any]:
    return {
        "name": "atlas",
        "layout": "abdomen_atlas",
        "root": str(root),
        "version": "1.1",
        "test": ["BDMAP_*7"],
    }


class Peak:
    """The peak of anonymous memory while a block runs, in MB above where it began."""

    def __enter__(self) -> Peak:
        gc.collect()
        self._first = self._most = anonymous_rss()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def mb(self) -> float:
        return (self._most - self._first) / 1e6

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._most = max(self._most, anonymous_rss())


def measure(root: Path, what: str) -> dict[str, float]:
    """Seconds and MB of one step, in this process."""
    space = LabelSpace(native_map("AbdomenAtlas 1.0").names.values())
    kept: list[Any] = []

    def stream() -> None:
        kept.append(open_hospital(entry(root), space, None))

    def private() -> None:
        stream()
        with tempfile.TemporaryDirectory() as state:
            identity, redact = Identity(Path(state)), Redactor()
            for case in (*kept[0].train, *kept[0].test):
                redact.hide_case(case, identity.of(case), root)
            kept.append(redact)
            assert "BDMAP" not in redact("case BDMAP_00000007 of BDMAP_00000001")

    def headers() -> None:
        for case in open_layout(entry(root)).cases():
            readers.grid(case.images[0])

    steps: dict[str, Callable[[], None]] = {
        "cases": lambda: kept.append(list(open_layout(entry(root)).cases())),
        "stream": stream,
        "private": private,
        "headers": headers,
    }
    with Peak() as peak:
        wall, busy = time.perf_counter(), time.process_time()
        steps[what]()
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return {"wall": wall, "cpu": busy, "mb": peak.mb}


def fresh(root: Path, what: str) -> dict[str, float]:
    """The same in a new process."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def drop_caches() -> bool:
    """Whether the system's cache of files and folders could be emptied."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


STEPS = {
    "cases": "every case listed",
    "stream": "a stream's hospital, organs reduced to nine",
    "private": "likewise, and every name told to the redactor",
    "headers": "every case listed, every scan's header read",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--measure", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.folder, arguments.measure)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        root = Path(scratch) / "AbdomenAtlas1.1"
        start = time.perf_counter()
        write(root, arguments.cases)
        print(
            f"{arguments.cases} cases × 25 masks written in {time.perf_counter() - start:.0f} s",
            file=sys.stderr,
        )
        print("| what | cold s | warm s | warm CPU s | peak MB |\n|---|---|---|---|---|")
        for step, name in STEPS.items():
            emptied = drop_caches()
            cold, warm = fresh(root, step), fresh(root, step)
            first = f"{cold['wall']:.1f}" if emptied else "not measured: caches cannot be emptied"
            print(
                f"| {name} | {first} | {warm['wall']:.1f} | {warm['cpu']:.1f} | {max(cold['mb'], warm['mb']):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
