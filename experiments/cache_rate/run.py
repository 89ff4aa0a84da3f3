"""Does a smaller cache hurt? The FAQ's question, with figures and intervals.

python experiments/cache_rate/run.py --seeds 0,1,2,3,4 --out experiments/cache_rate
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import ARMS, Data, Patches, ours
from report import write_report
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.types import Case
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts.manifest import ManifestLayout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom.writing import write_hospital
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.losses.dice_ce import PartialDiceCE

RATES = (1.0, 0.6, 0.3, 0.1)
EPOCHS = 30
PATIENTS = (2, 6, 12, 20)
"""Of the learning curve: the windows of the rates."""
PATCH = (32, 32, 32)
COLUMNS = ("arm", "rate", "budget", "seed", "patient", "dice", "steps", "cpu_seconds", "cases_seen")
HOSPITAL: dict[str, Any] = {
    "train": 20, "test": 8, "shape": (64, 64, 64), "phase": "portal_venous", "oral_contrast": 220.0,
    "scanner": {"spacing": [4.75, 4.75, 4.0], "thickness": 4.0, "kernel": 2.0, "noise": 15.0, "grain": 2.0},
    "population": {"body": 0.9, "fat": 8.0},
}  # fmt: skip
"""stream=phantom's hospital with the steepest learning curve, with more patients."""


class Study:
    """One hospital on disk, a small network, and a loop that all arms share."""

    def __init__(self, folder: Path) -> None:
        drawn = PhantomLayout("oncology", **HOSPITAL)
        self.layout = ManifestLayout("oncology", manifest=str(write_hospital(drawn, folder / "files")))
        cases = list(self.layout.cases())
        self.train = [case for case in cases if case.split == "train"]
        self.test = [self.layout.load(case) for case in cases if case.split == "test"]
        self.space = LabelSpace(drawn.organs)
        self.space.see(drawn.organs)
        self.folder = folder
        self.config = compose.plain(compose.compose(compose.Request(["model.backbone.channels=[8,16,32]",
                                                                     "model.backbone.strides=[2,2]"])))  # fmt: skip

    def data(self, train: list[Case]) -> Data:
        """The first cases, or all."""
        return Data(self.layout, train, self.space, PATCH, self.folder / "store")

    def trained(self, patches: Patches, seed: int, marks: list[int], cpu: float) -> Iterator[tuple[Any, ...]]:
        """Trains, and scores the moving average of the weights at each mark (steps) and when `cpu` seconds of
        processor time are spent.

        Yields:
            (mark or "time", steps, CPU seconds, Dice per test patient).
        """
        torch.manual_seed(seed)
        model = build(self.config["model"], "model")
        model.grow(self.space.width)
        model = model.to(memory_format=torch.channels_last_3d).train()
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98))
        loss_of = PartialDiceCE(self.space)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
        spent, timed, step = 0.0, False, 0
        while step < max(marks) or not timed:
            start = time.process_time()
            x, y = next(patches)
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(model)
            spent += time.process_time() - start
            step += 1
            reached = [*(mark for mark in marks if mark == step)]
            if not timed and spent >= cpu:
                timed = True
                reached.append("time")  # type: ignore[arg-type]
            if reached:
                scores = self.dice(average.module)
                yield from ((mark, step, spent, scores) for mark in reached)

    def dice(self, model: nn.Module) -> list[float]:
        """Mean over organs, per test patient."""
        model = copy.deepcopy(model)
        found = []
        for case in self.test:
            guess = predict_labels(model, case.image[None], PATCH, overlap=0.25)
            assert case.label is not None
            both = [(guess == i, case.label == i) for i in range(1, len(case.organs) + 1)]
            found.append(float(np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in both])))
        return found


def rows(study: Study, seed: int, seconds: float) -> Iterator[tuple[Any, ...]]:
    """Every arm at every rate and budget."""
    full = EPOCHS * len(study.train)
    for rate in RATES:
        for arm, make in ARMS.items():
            data = study.data(study.train)
            patches, per_epoch = make(data, rate, seed)
            window = data.window(rate)
            long = round(EPOCHS * per_epoch * len(data.train) / window)
            budgets = {"equal epochs": EPOCHS * per_epoch, "equal steps": full, "epochs / rate": long}
            seen = window if per_epoch < len(data.train) and "never" in arm else len(data.train)
            for mark, step, cpu, scores in study.trained(patches, seed, list(budgets.values()), seconds):
                for budget in [b for b, n in budgets.items() if n == mark] or ["equal time"]:
                    for patient, dice in enumerate(scores):
                        yield arm, rate, budget, seed, patient, round(dice, 5), step, round(cpu, 2), seen
            patches.close()  # type: ignore[attr-defined]
            print(f"seed {seed} rate {rate} {arm}: done", flush=True)


def curve(study: Study, seed: int) -> Iterator[tuple[Any, ...]]:
    """The learning curve in the number of patients, at equal steps."""
    steps = EPOCHS * len(study.train)
    for patients in PATIENTS:
        patches, _ = ours(study.data(study.train[:patients]), 1.0, seed)
        for _, step, cpu, scores in study.trained(patches, seed, [steps], 0.0):
            if step == steps:
                for patient, dice in enumerate(scores):
                    yield (
                        f"{patients} patients",
                        1.0,
                        "curve",
                        seed,
                        patient,
                        round(dice, 5),
                        step,
                        round(cpu, 2),
                        patients,
                    )
        patches.close()  # type: ignore[attr-defined]


def seconds_of_a_full_cache(study: Study) -> float:
    """Processor time of CacheDataset at rate 1 over the steps of `EPOCHS` epochs, from a tenth of them."""
    patches, per_epoch = ARMS["CacheDataset"](study.data(study.train), 1.0, 0)
    steps = EPOCHS * per_epoch // 10
    spent = [cpu for _, _, cpu, _ in study.trained(patches, 0, [steps], 0.0)][-1]
    patches.close()  # type: ignore[attr-defined]
    return 10 * spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.csv, table.md, figure")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        seconds = seconds_of_a_full_cache(study)
        print(f"equal time: {seconds:.1f} s of processor time", flush=True)
        with open(args.out / "results.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for seed in map(int, args.seeds.split(",")):
                for row in (*curve(study, seed), *rows(study, seed, seconds)):
                    writer.writerow(row)
                file.flush()
    print(write_report(args.out / "results.csv"))


if __name__ == "__main__":
    main()
