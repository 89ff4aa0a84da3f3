"""What the loader holds at a stated limit: anonymous memory of the whole process tree, each process less what it
has after its imports, with the shared slots counted once.

    python -m benchmarks.loader_memory --folder /tmp/loader            # 20 minutes, 100 MB of disk
    python -m benchmarks.loader_memory --folder /tmp/loader --quick    # the smallest limit alone

At each limit everything that the ledger allows goes to the cache, and the volumes are twice as many compressed bytes
as that, then eight times. A row is ok where the peak is at most the limit + 50 MB, and where four times the volumes
add at most 10 MB beside 4 KB per volume that is open: its metadata.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.store_room import SUFFIX
from lifelong_ct.data.types import RawCase

MB, MIB = 1_000_000, 1 << 20
LIMITS = (128 * MIB, 512 * MIB, 2048 * MIB)
READERS = (("thread", 1), ("thread", 4), ("process", 1), ("process", 4))
SHAPE, PATCH, BATCH = (256, 256, 128), (96, 96, 96), 2
SLACK, FLAT, METADATA = 50 * MB, 10 * MB, 4 << 10
DRAWN = 12
ORGANS = (
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
)


@dataclass(frozen=True)
class Row:
    """One setting and what it held.

    Attributes:
        limit: `memory.ram`.
        kind, workers: of the readers.
        cases: volumes.
        peak: bytes.
        rate: patches per second.
    """

    limit: int
    kind: str
    workers: int
    cases: int
    peak: int
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="the volumes are made here once")
    parser.add_argument("--quick", action="store_true", help="128 MiB only")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.folder, **json.loads(chosen.child))
        return
    prepare(chosen.folder)
    ours, workers = baselines()
    print(f"after the imports: {ours / MB:.0f} MB, a reader process {workers / MB:.0f} MB\n")
    print(HEAD)
    rows = []
    for limit in LIMITS[:1] if chosen.quick else LIMITS:
        for kind, count in READERS:
            rows += both(chosen.folder, limit, kind, count, workers)
    bad = sum(not row_ok(row) for row in rows)
    bad += sum(not flat(few, many) for few, many in zip(rows[::2], rows[1::2], strict=True))
    print(f"\n{'everything is ok' if not bad else f'{bad} bounds are broken'}")
    sys.exit(bool(bad))


HEAD = f"{'limit':>9} {'readers':>10} {'cases':>6} {'peak MB':>8} {'over MB':>8} {'patches/s':>9}  bound flat"


def both(folder: Path, limit: int, kind: str, workers: int, baseline: int) -> list[Row]:
    """The same limit with volumes of twice its bytes, and four times as many."""
    one = next((folder / "drawn").rglob(f"*{SUFFIX}")).stat().st_size
    rows: list[Row] = []
    for factor in (2, 8):
        rows.append(measure(folder, limit, kind, workers, factor * limit // one, baseline))
        told = f"{rows[-1].kind} ×{workers}"
        over = (rows[-1].peak - limit) / MB
        even = "" if factor == 2 else "ok" if flat(*rows) else "NO"
        print(
            f"{limit // MIB:>5} MiB {told:>10} {rows[-1].cases:>6} {rows[-1].peak / MB:>8.0f} {over:>8.0f} "
            f"{rows[-1].rate:>9.0f}  {'ok' if row_ok(rows[-1]) else 'NO':<5} {even}",
            flush=True,
        )
    return rows


def row_ok(row: Row) -> bool:
    """At most the limit + 50 MB."""
    return row.peak <= row.limit + SLACK


def flat(few: Row, many: Row) -> bool:
    """Four times the volumes, the same memory but for their metadata."""
    return many.peak - few.peak <= FLAT + METADATA * (many.cases - few.cases)


# --- volumes --------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Twelve drawn volumes; more cases are further names of their files."""
    store = VolumeStore(folder / "drawn", Ledger(), 0)
    for number in range(DRAWN):
        if not store.has(f"{number:032x}"):
            store.put(f"{number:032x}", draw(number))
    store.close()


def draw(number: int) -> RawCase:
    """A body with nine organs and a scanner's noise."""
    rng = np.random.default_rng(number)
    d, h, w = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij", sparse=True
    )
    body = (d / 0.85) ** 2 + (h / 0.7) ** 2 + 0 * w < 1
    image, label = np.where(body, np.float32(40), np.float32(-1000)), np.zeros(SHAPE, np.uint8)
    for value in range(1, 1 + len(ORGANS)):
        middle, radius = rng.uniform(-0.45, 0.45, 3), rng.uniform(0.08, 0.3, 3)
        inside = sum(((x - m) / r) ** 2 for x, m, r in zip((d, h, w), middle, radius, strict=True)) < 1
        label[inside & body], image[inside & body] = value, rng.uniform(20, 200)
    noise = gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), 0.7)
    return RawCase(np.where(body, image + 150 * noise, image).astype(np.int16), label, np.eye(4), ORGANS)


def linked(folder: Path, cases: int) -> list[Path]:
    """So many files, hard links to the drawn ones."""
    drawn = sorted((folder / "drawn").rglob(f"*{SUFFIX}"))
    (folder / "linked").mkdir(exist_ok=True)
    paths = [folder / "linked" / f"{number:032x}{SUFFIX}" for number in range(cases)]
    for number, path in enumerate(paths):
        if not path.exists():
            os.link(drawn[number % DRAWN], path)
    return paths


# --- the process that is measured -----------------------------------------------------------------------


def child(folder: Path, limit: int, kind: str, workers: int, cases: int, batches: int) -> None:
    """Loads batches; tells when it has imported everything, and when it has begun."""
    from lifelong_ct.core.host_memory import steady_heap
    from lifelong_ct.data.labels import LabelSpace
    from lifelong_ct.data.loader import PatchLoader
    from lifelong_ct.data.loading import budget
    from lifelong_ct.data.volume import BrickCache, StoredVolume

    steady_heap()
    print("imported", flush=True)
    sys.stdin.readline()
    ledger = Ledger({"ram": limit})
    need = sum(budget.needs(PATCH, BATCH, read_ahead=2, workers=workers, kind=kind).values())
    own = 4 * MIB if kind == "process" else limit - need
    cache = BrickCache(own, ledger)
    volumes = [StoredVolume(path.stem, path, cache) for path in linked(folder, cases)]
    loader = PatchLoader(
        volumes,
        LabelSpace(ORGANS),
        PATCH,
        BATCH,
        ("memory",),
        workers=workers,
        worker_kind=kind,
        worker_cache=limit - need - own,
        ledger=ledger,
    )
    began = time.monotonic()
    for _ in loader.batches(0, batches):
        pass
    print("done", time.monotonic() - began, ledger.peak("ram"), ledger.peak_used("ram"), flush=True)
    sys.stdin.readline()


def measure(folder: Path, limit: int, kind: str, workers: int, cases: int, baseline: int) -> Row:
    """A fresh process, watched until its caches have been filled twice."""
    patch_bytes = 0.35 * np.prod(PATCH)
    batches = int(min(2.5 * limit, 2.0e9 + limit) / patch_bytes / BATCH) + 20
    setting: dict[str, Any] = {
        "limit": limit,
        "kind": kind,
        "workers": workers,
        "cases": cases,
        "batches": batches,
    }
    command = [
        sys.executable,
        "-m",
        "benchmarks.loader_memory",
        "--folder",
        str(folder),
        "--child",
        json.dumps(setting),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "imported\n"
        own = memory(process.pid)[0]
        print("go", file=process.stdin, flush=True)
        os.set_blocking(process.stdout.fileno(), False)
        peak, told = 0, ""
        while not told and process.poll() is None:
            peak = max(peak, held(process.pid, own, baseline))
            told = process.stdout.readline()
            time.sleep(0.01)
        print("go", file=process.stdin, flush=True)
    if not told:
        raise SystemExit(f"the loader failed with {process.returncode}")
    return Row(limit, kind, workers, cases, peak, BATCH * batches / float(told.split()[1]))


def held(pid: int, own: int, baseline: int) -> int:
    """Anonymous bytes of a process and its children, each less its imports; shared memory once."""
    anonymous, shared = memory(pid)
    total = anonymous - own
    for other in children(pid):
        theirs, also = memory(other)
        total, shared = total + max(0, theirs - baseline), max(shared, also)
    return total + shared


def children(pid: int) -> list[int]:
    """Processes that a process started; not those that still share its memory, between fork and exec."""
    try:
        own = Path(f"/proc/{pid}/cmdline").read_bytes()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return [child for child in found if Path(f"/proc/{child}/cmdline").read_bytes() not in (own, b"")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory(pid: int) -> tuple[int, int]:
    """Anonymous and shared bytes."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in text.splitlines())
        return int(lines["RssAnon"].split()[0]) * 1024, int(lines["RssShmem"].split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError, KeyError):  # it has ended
        return 0, 0


def baselines() -> tuple[int, int]:
    """Bytes after the imports: of the loader's process, and of a reader process."""
    code = "import sys; {}; print('ready', flush=True); sys.stdin.readline()"
    found = []
    for imports in (
        "import lifelong_ct.data.loader, lifelong_ct.data.labels",
        "import lifelong_ct.data.loading.worker",
    ):
        command = [sys.executable, "-c", code.format(imports)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            found.append(memory(process.pid)[0])
            print("go", file=process.stdin, flush=True)
    return found[0], found[1]


if __name__ == "__main__":
    main()
