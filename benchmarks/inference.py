"""Sliding windows over one large scan beside MONAI's: memory above the input, time, and which labels differ.

python -m benchmarks.inference [--shape 512 512 300] [--classes 25] [--roi 96 96 96] [--overlap 0.25] [--rounds 3]

Each way runs in a process of its own, forked after the imports, one at a time, in turns. Memory is the highest resident set
while it infers, above that just before, when the scan is there as MONAI takes it (float32) or we do (int16); so it counts the
network's activations, the windows and the labels. MONAI's labels are the arg-max of its logits, plane by plane. Its peak is
the stacked logits at least. Each process also leaves its labels, and MONAI's the margin between the two highest logits: a
voxel that differs is told with its margin.

Gates: fp32 at most 1.6 GB (of 10⁹ bytes), and no voxel that differs has a margin of 1e-5 or more; fp16 at most 1.2 GB, and
at least 99.9 % of voxels equal; both at least 0.95 of MONAI's speed, by CPU time. Those of memory are for the shape above.
Needs 13 GB for MONAI at full size. Ends with 1 where a gate is not held.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import math
import multiprocessing as mp
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import UNet
from torch import nn

from lifelong_ct.evaluation.inference import PAD_HU, inference_bytes, predict_labels
from lifelong_ct.models.segmentation import SegmentationModel

FULL = (512, 512, 300)
GB = {"fp32": 1.6, "fp16": 1.2}
"""At most, above the input."""
MARGIN, EQUAL, SPEED = 1e-5, 0.999, 0.95


@dataclass(frozen=True)
class Task:
    """What is inferred, and how."""

    shape: tuple[int, int, int]
    classes: int
    roi: tuple[int, int, int]
    overlap: float
    folder: Path


def network(classes: int) -> nn.Module:
    """A small network with random weights, the library's default one; channels as many as classes."""
    torch.manual_seed(0)
    backbone = UNet(3, 1, 8, channels=(8, 16, 32), strides=(2, 2), num_res_units=0, norm="INSTANCE")
    model = SegmentationModel(backbone, features=8)
    model.grow(classes)
    return model.eval()


def scan(shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth blobs and noise in HU, int16 `[1, D, H, W]`."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(
        rng.normal(0, 150, (1, 1, *(max(2, n // 24) for n in shape))).astype(np.float32)
    )
    image = torch.empty((1, *shape), dtype=torch.int16)
    image[0] = torch.nn.functional.interpolate(coarse, shape, mode="trilinear")[0, 0].short()
    for plane in image[0]:  # noise of the whole at once would be twelve times as large
        plane += torch.from_numpy(rng.normal(0, 20, plane.shape).astype(np.int16))
    return image.numpy()


def ours(precision: str) -> Callable[[Task, nn.Module, np.ndarray], np.ndarray]:
    """Our labels."""
    return lambda task, model, image: predict_labels(
        model, image, task.roi, task.overlap, precision=precision
    )


def theirs(task: Task, model: nn.Module, image: np.ndarray) -> np.ndarray:
    """MONAI's labels; keeps its logits, for the margins."""
    with torch.inference_mode():
        x = torch.from_numpy(image)[None]
        logits: Any = sliding_window_inference(
            x, task.roi, 1, model, task.overlap, mode="gaussian", cval=PAD_HU
        )
        labels = np.empty(image.shape[1:], np.uint8)
        for d in range(len(labels)):
            labels[d] = logits[0, :, d].argmax(0).numpy()
    theirs.logits = logits  # type: ignore[attr-defined]
    return labels


WAYS: dict[str, Callable[[Task, nn.Module, np.ndarray], np.ndarray]] = {
    "MONAI": theirs,
    "fp32": ours("fp32"),
    "fp16": ours("fp16"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=FULL)
    parser.add_argument("--classes", type=int, default=25)
    parser.add_argument("--roi", type=int, nargs=3, default=(96, 96, 96))
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default=",".join(WAYS), help="some of them; without MONAI memory alone is told"
    )
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(tuple(chosen.shape), chosen.classes, tuple(chosen.roi), chosen.overlap, Path(folder))
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in chosen.only.split(",")}
        for number in range(chosen.rounds):
            for name in list(found) if number % 2 == 0 else list(found)[::-1]:
                found[name].append(_in_a_process(name, task))
                print(f"round {number + 1}, {name}: done", file=sys.stderr, flush=True)
        return _told(task, found)


def _in_a_process(name: str, task: Task) -> tuple[float, float, float]:
    """CPU and wall seconds, and bytes above the input."""
    context = mp.get_context("fork")
    mine, its = context.Pipe()
    child = context.Process(target=_run, args=(its, name, task), daemon=True)
    child.start()
    its.close()
    try:
        answer = mine.recv()
    except EOFError:
        raise SystemExit(f"{name}: its process died; is there memory enough?") from None
    child.join()
    return answer


def _run(pipe: Any, name: str, task: Task) -> None:
    image: np.ndarray = scan(task.shape)
    if name == "MONAI":
        image = image.astype(np.float32)
    model = network(task.classes)
    with torch.inference_mode():
        model(torch.zeros(1, 1, *task.roi))  # what the libraries set up once is not counted
    watch = Watch()
    cpu, wall = time.process_time(), time.perf_counter()
    labels = WAYS[name](task, model, image)
    cpu, wall = time.process_time() - cpu - watch.seconds, time.perf_counter() - wall
    peak = watch.stop()
    np.save(task.folder / f"{name}.npy", labels)
    if name == "MONAI":
        margins = np.lib.format.open_memmap(task.folder / "margin.npy", "w+", np.float32, labels.shape)
        for d in range(len(labels)):
            first, second = theirs.logits[0, :, d].topk(2, 0).values.numpy()  # type: ignore[attr-defined]
            margins[d] = first - second
    pipe.send((cpu, wall, float(peak)))


class Watch:
    """Looks at the resident set of this process every 5 ms, beside the kernel's own high-water mark."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._before = self._most = _resident()
        self._reset = _reset_mark()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if not self._reset:
            self._thread.start()

    def stop(self) -> int:
        """Bytes above those at the start, at most."""
        if self._reset:
            return _mark() - self._before
        self._stopped.set()
        self._thread.join()
        return self._most - self._before

    def _look(self) -> None:
        while not self._stopped.wait(0.005):
            begin = time.thread_time()
            self._most = max(self._most, _resident())
            self.seconds += time.thread_time() - begin


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _reset_mark() -> bool:
    """Sets the high-water mark to what is resident now, where the kernel lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _mark() - _resident() < 16 << 20


def _mark() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def _told(task: Task, found: dict[str, list[tuple[float, float, float]]]) -> int:
    """Prints table and gates; 1 where one is not held."""
    print(
        f"{'x'.join(map(str, task.shape))}, {task.classes} classes, window {task.roi}, overlap {task.overlap}, ",
        end="",
    )
    rounds = len(next(iter(found.values())))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {rounds} rounds\n")
    print(
        "| | CPU s | wall s | GB above the input | announced GB | speed of MONAI | differ | largest margin |"
    )
    print("|---|---|---|---|---|---|---|---|")
    held = [_row(task, name, rows, found.get("MONAI")) for name, rows in found.items()]
    print(f"\ngates: {'held' if all(held) else 'NOT HELD'}")
    return 0 if all(held) else 1


def _row(task: Task, name: str, rows: list[Any], base: list[Any] | None) -> bool:
    """Prints a row; whether its gates are held."""
    cpu, wall = (statistics.median(row[k] for row in rows) for k in (0, 1))
    peak = max(row[2] for row in rows) / 1e9
    if name == "MONAI":
        stacked = math.prod(task.shape) * task.classes * 4 / 1e9
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {peak:.2f} | {stacked:.2f} (logits) | | | |")
        return True
    need = inference_bytes(task.shape, task.roi, task.overlap, name, 1, task.classes) / 1e9
    start = f"| {name} | {cpu:.1f} | {wall:.1f} | {peak:.2f} | {need:.2f} |"
    small = peak <= GB[name] or task.shape != FULL
    if base is None:
        print(f"{start} | | |")
        return small
    wanted, margin, labels = (
        np.load(task.folder / f"{each}.npy", mmap_mode="r") for each in ("MONAI", "margin", name)
    )
    other, largest = _differing(labels, wanted, margin)
    share, speed = other / math.prod(task.shape), statistics.median(row[0] for row in base) / cpu
    print(f"{start} {speed:.2f} | {other} ({share:.4%}) | {largest:.1e} |")
    same = largest < MARGIN if name == "fp32" else share <= 1 - EQUAL
    return small and same and speed >= SPEED


def _differing(labels: np.ndarray, wanted: np.ndarray, margin: np.ndarray) -> tuple[int, float]:
    count, largest = 0, 0.0
    for mine, his, between in zip(labels, wanted, margin):
        other = mine != his
        count += int(other.sum())
        largest = max(largest, float(between[other].max(initial=0)))
    return count, largest


if __name__ == "__main__":
    sys.exit(main())
