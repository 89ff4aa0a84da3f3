"""Surface metrics of one scan with nine organs: ours beside MONAI's metric classes, CPU time and peak memory.

python -m benchmarks.metrics [--side 256] [--rounds 5]

Both get label maps in memory; MONAI's one-hot copies are made before its clock and its memory count start. Each
measurement is a forked process of one thread, with the kernel's peak of its memory (Linux); the order turns round after
each round.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import ctypes
import multiprocessing as mp
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from scipy.ndimage import zoom

from benchmarks.scans import FIELD
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.surface import Surface

Labels = np.ndarray
TOLERANCE = 3.0


@dataclass(frozen=True)
class Setting:
    """A scan and what was predicted for it.

    Attributes:
        prediction, label: uint8 `[D,H,W]`, value i >= 1 is organ i - 1.
        organs: names.
        spacing: mm per axis.
    """

    prediction: Labels
    label: Labels
    organs: tuple[str, ...]
    spacing: tuple[float, ...]
    overlaps: tuple[tuple[int, ...], ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=256, help="voxels per axis")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    label, organs, spacing = drawn((chosen.side,) * 3)
    print(f"{chosen.side}³, {len(organs)} organs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(
        "| prediction | Dice | way | CPU s | lowest to highest | peak extra MB |\n|---|---|---|---|---|---|"
    )
    verdicts = []
    for name, millimetres in (("good", 2.0), ("poor", 12.0)):
        setting = Setting(warped(label, spacing, millimetres), label, organs, spacing)
        verdicts += _compare(name, setting, chosen.rounds)
    print("\n" + "\n".join(verdicts))


def drawn(shape: tuple[int, ...]) -> tuple[Labels, tuple[str, ...], tuple[float, ...]]:
    """The label map of a phantom, its organs and its spacing."""
    spacing = tuple(mm / n for mm, n in zip(FIELD, shape))
    blank = {"spacing": list(spacing), "noise": 0.0, "kernel": 0.0, "thickness": 0.0}
    layout = PhantomLayout("benchmark", train=1, test=0, shape=shape, scanner=blank)
    raw = layout.load(next(iter(layout.cases())))
    assert raw.label is not None
    return raw.label.astype(np.uint8), raw.organs, spacing


def warped(label: Labels, spacing: tuple[float, ...], mm: float) -> Labels:
    """The label map with every place moved by about so many mm, neighbours alike."""
    rng = generator("metrics", int(mm))
    coarse = rng.standard_normal((3, 8, 8, 8)) * mm / np.sqrt(3)
    at = []
    for axis, (field, size) in enumerate(zip(coarse, label.shape)):
        moved = zoom(field, [n / 8 for n in label.shape], order=1, mode="nearest", grid_mode=True)
        index = np.arange(size).reshape([-1 if a == axis else 1 for a in range(3)])
        at.append(np.clip(np.rint(index + moved / spacing[axis]), 0, size - 1).astype(np.int16))
    return label[tuple(at)]


def boxes(setting: Setting, metric: Any) -> Callable[[], Any]:
    """A metric of each organ, in its box: NSD, HD95 and ASD, one after the other."""
    channels = {organ: i for i, organ in enumerate(setting.organs, start=1)}

    def run() -> Any:
        rows = score_case(setting.prediction, setting, channels, setting.spacing, [metric])
        found = {(organ, name): value for organ, name, value in rows}
        return [[found[organ, name] for organ in setting.organs] for name in ("nsd", "hd95", "asd")]

    return run


def monai(setting: Setting) -> Callable[[], Any]:
    """Its three classes, on one-hot copies."""
    width = len(setting.organs) + 1
    one, two = (
        torch.from_numpy(np.stack([labels == i for i in range(width)]))[None]
        for labels in (setting.prediction, setting.label)
    )
    metrics = [
        SurfaceDiceMetric([TOLERANCE] * (width - 1), use_subvoxels=True),
        HausdorffDistanceMetric(percentile=95),
        SurfaceDistanceMetric(symmetric=True),
    ]

    def run() -> Any:
        return [metric(one, two, spacing=list(setting.spacing))[0].tolist() for metric in metrics]

    return run


class OneByOne:
    """MONAI's three classes for one organ."""

    names = ("nsd", "hd95", "asd")

    def __init__(self) -> None:
        self._metrics = (
            SurfaceDiceMetric([TOLERANCE], include_background=True, use_subvoxels=True),
            HausdorffDistanceMetric(include_background=True, percentile=95),
            SurfaceDistanceMetric(include_background=True, symmetric=True),
        )

    def __call__(self, prediction: Labels, reference: Labels, spacing: tuple[float, ...]) -> dict[str, float]:
        one, two = (torch.from_numpy(np.pad(mask, 1))[None, None] for mask in (prediction, reference))
        values = [float(metric(one, two, spacing=list(spacing))) for metric in self._metrics]
        return dict(zip(self.names, values, strict=True))


WAYS: dict[str, Callable[[Setting], Callable[[], Any]]] = {
    "ours": lambda setting: boxes(setting, Surface(TOLERANCE)),
    "ours, definition=monai": lambda setting: boxes(setting, Surface(TOLERANCE, "monai")),
    "MONAI, in our boxes": lambda setting: boxes(setting, OneByOne()),
    "MONAI": monai,
}


def _compare(name: str, setting: Setting, rounds: int) -> list[str]:
    found: dict[str, list[tuple[float, int, Any]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            found[way].append(_measure(WAYS[way], setting))
    both = (setting.prediction > 0) & (setting.label > 0) & (setting.prediction == setting.label)
    dice = 2 * both.sum() / ((setting.prediction > 0).sum() + (setting.label > 0).sum())
    cpu, peak = {}, {}
    for way, measured in found.items():
        seconds = [s for s, _, _ in measured]
        cpu[way], peak[way] = statistics.median(seconds), statistics.median(p for _, p, _ in measured)
        span = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(
            f"| {name} | {dice:.2f} | {way} | {cpu[way]:.2f} | {span} | {peak[way] / 1e6:.0f} |", flush=True
        )
    values = {way: np.array(measured[0][2]) for way, measured in found.items()}
    nsd = np.abs(values["ours"][0] - values["MONAI"][0]).max()
    rest = np.abs(values["ours, definition=monai"][1:] - values["MONAI"][1:]).max()
    times, share = cpu["MONAI"] / cpu["ours"], peak["ours"] / peak["MONAI"]
    return [
        f"{name}: {times:.1f} times cheaper ({'held' if times >= 5 else 'NOT held'}: 5), "
        f"{share:.1%} of the memory ({'held' if share <= 0.25 else 'NOT held'}: 25 %); "
        f"NSD differs by {nsd:.1e}, HD95 and ASD of definition=monai by {rest:.1e} mm"
    ]


def _measure(way: Callable[[Setting], Callable[[], Any]], setting: Setting) -> tuple[float, int, Any]:
    """CPU seconds, bytes of memory above those before, and what came out."""
    pipe, theirs = mp.Pipe()
    process = mp.get_context("fork").Process(target=_child, args=(theirs, way, setting))
    process.start()
    theirs.close()
    found = pipe.recv()
    process.join()
    return found


def _child(pipe: Connection, way: Callable[[Setting], Callable[[], Any]], setting: Setting) -> None:
    small = tuple(slice(n // 4, n // 2) for n in setting.label.shape)
    way(
        replace(setting, prediction=setting.prediction[small], label=setting.label[small])
    )()  # loads its code
    run = way(setting)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be there to be used again
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins now
    before, begin = _resident("VmRSS"), time.process_time()
    values = run()
    pipe.send((time.process_time() - begin, _resident("VmHWM") - before, values))


def _resident(key: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main()
