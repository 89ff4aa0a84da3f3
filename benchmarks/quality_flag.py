"""Does the certainty of a prediction tell which scans went wrong? On drawn scans of hospitals that were never trained on.

python -m benchmarks.quality_flag [--trained harbour,trauma_centre] [--steps 1500] [--test 8] [--csv found.csv] [overrides]

For each hospital of `--trained` a network learns from its patients alone, and predicts the test patients of all the others.
A scan has gone wrong where the mean Dice of its annotated organs is below 0.7. Printed is how well a signal ranks such scans
before the others (AUROC, the Mann-Whitney statistic; Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747), with a 95 %
percentile interval over patients, for the certainty of `quality.csv` and for the mean of the highest softmax over the organs
found; and what the flag `check` catches. Synthetic: it says which signal is worth having, not how well it does in patients.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.certainty import CHECK_BELOW, Certainty
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.losses.dice_ce import PartialDiceCE

WRONG = 0.7
RESAMPLES = 5000


@dataclass(frozen=True)
class Scan:
    """One prediction: who had trained, whose scan it is, and what came of it."""

    trained: str
    hospital: str
    patient: str
    dice: float
    certainty: float
    softmax: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trained", default="harbour,trauma_centre")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--test", type=int, default=8, help="patients per hospital")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("overrides", nargs="*")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    study = Study(chosen.test, chosen.overrides)
    rows = [row for name in chosen.trained.split(",") for row in study.rows(name, chosen.steps)]
    if chosen.csv:
        with chosen.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(map(asdict, rows))
    told(rows)


class Study:
    """The hospitals of the phantom stream, with their voxels in memory.

    Args:
        test: patients per hospital.
        overrides: of the configuration.
    """

    def __init__(self, test: int, overrides: list[str]) -> None:
        request = compose.Request([f"stream.common.test={test}", *overrides])
        self.config = compose.plain(compose.compose(request))
        self.stream = build(self.config["stream"], "stream")
        self.space = self.stream.label_space
        self.space.see(self.space.organs)

    def rows(self, trained: str, steps: int) -> list[Scan]:
        """A network that learnt at one hospital, on the test patients of the others."""
        hospitals = {h.name: h for h in self.stream.scored}
        own = hospitals[trained]
        model = self._fitted([own.layout.load(case) for case in own.train], steps)
        found = []
        for hospital in hospitals.values():
            if hospital is own:
                continue
            for case in hospital.test:
                sure, raw = Certainty(), hospital.layout.load(case)
                labels = predict_labels(model, raw.image[None], self.stream.patch, certainty=sure)
                dice = self._dice(labels, raw)
                softmax = float(sure.inside[1:].sum() / max(sure.labelled[1:].sum(), 1))
                found.append(Scan(trained, hospital.name, case.patient, dice, sure.of_scan(), softmax))
            print(f"trained at {trained}: {hospital.name} done", flush=True)
        return found

    def _dice(self, labels: np.ndarray, raw: RawCase) -> float:
        channels = {organ: i for i, organ in enumerate(self.space.channels, start=1)}
        scores = score_case(labels, raw, channels, raw.spacing, [Dice()])
        return float(np.mean([value for _, _, value in scores if value is not None]))

    def _fitted(self, cases: list[RawCase], steps: int) -> nn.Module:
        torch.manual_seed(0)
        model = build(self.config["model"], "model")
        model.grow(self.space.width)
        loss_of = PartialDiceCE(self.space)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: (1 - i / steps) ** 0.9)
        for step in range(steps):
            x, y = self._patch(cases, generator("quality flag", step))
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        return model.eval()

    def _patch(self, cases: list[RawCase], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Around a voxel of some organ of a case; noise and brightness changed."""
        case: Any = cases[int(rng.integers(len(cases)))]
        where = np.argwhere(case.label == rng.integers(1, 1 + len(case.organs)))
        centre = where[rng.integers(len(where))] if len(where) else np.array(case.shape) // 2
        at = [int(np.clip(c - p // 2, 0, n - p)) for c, n, p in zip(centre, case.shape, self.stream.patch)]
        box = tuple(slice(a, a + p) for a, p in zip(at, self.stream.patch))
        x = case.image[box] + rng.normal(0, rng.uniform(0, 15), self.stream.patch) + rng.uniform(-10, 10)
        codes = self.space.encode_lut(case.organs)[case.label[box]]
        return torch.from_numpy(x.astype(np.float32))[None, None], torch.from_numpy(codes)[None, None]


def told(rows: list[Scan]) -> None:
    """Prints the table."""
    wrong = np.array([row.dice < WRONG for row in rows])
    patients = np.array([f"{row.hospital} {row.patient}" for row in rows])
    print(
        f"\n{len(rows)} scans of {len(set(patients))} patients, {wrong.sum()} with a mean Dice below {WRONG}"
    )
    print(f"Dice: {np.round(np.quantile([r.dice for r in rows], [0, 0.25, 0.5, 0.75, 1]), 2)} (quartiles)\n")
    print("| signal | AUROC | 95 % | rank correlation with Dice |")
    print("|---|---|---|---|")
    for name in ("certainty", "softmax"):
        signal = np.array([getattr(row, name) for row in rows])
        low, high = interval(signal, wrong, patients)
        rho = stats.spearmanr(signal, [row.dice for row in rows]).statistic
        print(f"| {name} | {auroc(signal, wrong):.3f} | {low:.3f} to {high:.3f} | {rho:.2f} |")
    flagged = np.array([row.certainty < CHECK_BELOW for row in rows])
    print(
        f"\ncheck (certainty below {CHECK_BELOW}): {(flagged & wrong).sum()} of {wrong.sum()} that went wrong, "
        f"{(flagged & ~wrong).sum()} of {(~wrong).sum()} others"
    )


def auroc(signal: np.ndarray, wrong: np.ndarray) -> float:
    """How often a scan that went wrong has the lower signal; ties count half. NaN without either kind."""
    if wrong.all() or not wrong.any():
        return float("nan")
    u = stats.mannwhitneyu(signal[~wrong], signal[wrong]).statistic
    return float(u / (wrong.sum() * (~wrong).sum()))


def interval(signal: np.ndarray, wrong: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap over patients; draws with one kind only are left out."""
    rng = generator("quality flag", "bootstrap")
    of = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    values = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([of[i] for i in rng.integers(len(of), size=len(of))])
        values.append(auroc(signal[drawn], wrong[drawn]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
