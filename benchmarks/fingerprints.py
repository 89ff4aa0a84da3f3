"""Whether fingerprints find copies, and nothing else.

    python -m benchmarks.fingerprints [--data ../shared/data] [--copies 4] [--many 30000]

Three tables: altered copies of each scan against the original; strangers, that is scans of different patients, parts
of them, and drawn patients; seconds and memory of a comparison of many. Without real scans, drawn ones are altered. Results: fingerprints.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from benchmarks.altered import ALTERATIONS, Scan, canonical, cropped
from lifelong_ct.data.fingerprint import Fingerprint, compare, fingerprint, near_duplicates
from lifelong_ct.data.fingerprint.search import threshold
from lifelong_ct.data.layouts.phantom import PhantomLayout

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
Scans = Mapping[str, tuple[str, Scan, str]]
"""Name → patient, scan, modality."""


def real(folder: Path) -> dict[str, tuple[str, Scan, str]]:
    """The scans of the catalogue that lies in the folder; none where there is no such."""
    if not (folder / "manifest.json").exists():
        return {}
    scans = {}
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        path = folder / f"{case['case']}_img.nii.gz"
        if path.exists():
            image = nib.load(path)
            scan = canonical(np.asarray(image.dataobj), image.affine)  # type: ignore[attr-defined]
            scans[case["case"]] = (case["patient"], scan, case["modality"])
    return scans


def drawn(train: int = 8, test: int = 4, seed: int = 0) -> dict[str, tuple[str, Scan, str]]:
    """The patients of `stream=phantom`."""
    stream = yaml.safe_load((ROOT / "conf" / "stream" / "phantom.yaml").read_text())
    scans = {}
    for entry in (*stream["hospitals"], *stream["unseen"]):
        given: dict[str, Any] = {**stream["common"], **entry, "train": train, "test": test, "seed": seed}
        options = {k: v for k, v in given.items() if k not in ("name", "layout", "sharing")}
        layout = PhantomLayout(entry["name"], **options)
        for case in layout.cases():
            raw = layout.load(case)
            scans[case.id] = (case.patient, (raw.image, raw.affine), "CT")
    return scans


def copies(scans: Scans, count: int, seed: int = 0) -> None:
    """Table of copies found among few scans, and the least score."""
    originals = {name: fingerprint(*scan, kind) for name, (_, scan, kind) in scans.items()}
    least = threshold(len(scans))
    print(f"{'alteration':34s} {'found':>9s}  least  median  not found")
    for what, alter in ALTERATIONS.items():
        rng = np.random.default_rng(seed)
        scores: list[tuple[float, str]] = []
        for name, (_, scan, kind) in scans.items():
            for _ in range(count):
                match = compare(originals[name], fingerprint(*alter(scan, rng), kind))
                scores.append((match.score if match else 0.0, name))
        found = sum(score >= least for score, _ in scores)
        lost = ", ".join(sorted({name for score, name in scores if score < least}))
        middle = np.median([score for score, _ in scores])
        print(
            f"{what:34s} {found:4d}/{len(scores):4d} {min(scores)[0]:6.0f} {middle:7.0f}  {lost}", flush=True
        )


def strangers(what: str, prints: Sequence[tuple[str, Fingerprint]]) -> None:
    """Row of pairs of different patients: how many match at all, and the highest scores."""
    scores, count = [], 0
    for (one, a), (two, b) in itertools.combinations(prints, 2):
        if one != two:
            count += 1
            match = compare(a, b)
            scores += [match.score] if match else []
    highest = ", ".join(f"{score:.0f}" for score in sorted(scores, reverse=True)[:5])
    print(f"{what:34s} {count:8d} pairs, {len(scores)} match at all, highest {highest or '-'}", flush=True)


def parts(scans: Scans, count: int, seed: int = 0) -> list[tuple[str, Fingerprint]]:
    """Fingerprints of boxes of 40 … 100 % per axis."""
    rng = np.random.default_rng(seed)
    return [
        (patient, fingerprint(*cropped(scan, rng, 0.4), kind))
        for patient, scan, kind in scans.values()
        for _ in range(count)
    ]


def mixed(sources: Sequence[Fingerprint], count: int, rng: np.random.Generator) -> list[Fingerprint]:
    """Fingerprints of strangers who are no less alike than the sources: 80 key points of any of them each, codes
    with an error in twenty, places off by 5 mm."""
    points, bright, codes = (
        np.concatenate([getattr(p, key) for p in sources]) for key in ("points", "bright", "codes")
    )
    found = []
    for _ in range(count):
        picks = rng.integers(0, len(codes), 80)
        errors = np.packbits(rng.random((80, 64)) < 0.05, axis=1, bitorder="little").view("<u8")[:, 0]
        places = np.rint((points[picks] + rng.normal(0, 5, (80, 3))) / 2).clip(0) * 2
        extent = places.max(axis=0).astype(np.float32)
        found.append(Fingerprint(extent, places.astype(np.float32), bright[picks], codes[picks] ^ errors))
    return found


def many(scans: Scans, sources: Sequence[Fingerprint], count: int) -> None:
    """Seconds and memory of a comparison of many, copies of the scans among them."""
    rng = np.random.default_rng(0)
    planted = []
    for _, scan, kind in scans.values():
        altered = ALTERATIONS["all at once, 60 … 100 % per axis"](scan, rng)
        planted.append((fingerprint(*scan, kind), fingerprint(*altered, kind)))
    prints = mixed(sources, count - 2 * len(planted), rng)
    at = rng.permutation(count)
    every = [*prints, *(one for one, _ in planted), *(two for _, two in planted)]
    shuffled = [every[i] for i in np.argsort(at)]
    wanted = {tuple(sorted((at[-2 * len(planted) + i], at[-len(planted) + i]))) for i in range(len(planted))}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, busy = time.perf_counter(), time.process_time()
    pairs = near_duplicates(shuffled)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = {(pair.first, pair.second) for pair in pairs}
    print(f"{count} fingerprints: {wall:.1f} s ({busy:.1f} s of CPU), {memory:.0f} MB more at the peak")
    print(f"{len(wanted & found)} of {len(wanted)} planted copies found, {len(found - wanted)} other pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--many", type=int, default=30_000)
    args = parser.parse_args()
    phantoms = drawn()
    scans = real(args.data) or phantoms
    copies(scans, args.copies)
    whole = [(patient, fingerprint(*scan, kind)) for patient, scan, kind in scans.values()]
    boxes = parts(scans, 2 * args.copies)
    figures = [(patient, fingerprint(*scan, kind)) for patient, scan, kind in phantoms.values()]
    print()
    strangers("whole scans", whole)
    strangers("boxes of 40 … 100 % per axis", boxes)
    strangers("drawn patients", figures)
    print()
    once = {patient: (patient, scan, kind) for patient, scan, kind in scans.values()}
    sources = [one for _, one in (*whole, *boxes)]
    many({**phantoms, **once}, sources, args.many)
    sizes = [len(one.to_bytes()) for _, one in whole]
    print(f"bytes of a fingerprint: {min(sizes)} to {max(sizes)}")


if __name__ == "__main__":
    main()
