"""Is a phantom stream a fair test? Its validity conditions, with a plain training loop of its own.

python experiments/phantom_validity/run.py --stream phantom_stress --only patients,joint,sequential,threshold
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.files import write_json
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE
from lifelong_ct.data.phantom.threshold import interval_dice
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.inference import evaluating, predict_labels
from lifelong_ct.losses.dice_ce import PartialDiceCE

STUDIES = ("threshold", "patients", "joint", "sequential")


class Bench:
    """A stream with all its voxels in memory, and a loop that trains on some of them."""

    def __init__(self, stream: str, steps: int | None, seed: int, overrides: list[str]) -> None:
        request = compose.Request([f"stream={stream}", *overrides])
        self.config = compose.plain(compose.compose(request))
        self.stream = build(self.config["stream"], "stream")
        self.space, self.patch = self.stream.label_space, self.stream.patch
        self.steps, self.seed = steps or self.stream.steps, seed
        self.train = {h.name: [h.layout.load(c) for c in h.train] for h in self.stream.hospitals}
        self.test = {h.name: [h.layout.load(c) for c in h.test] for h in self.stream.hospitals}
        self.space.see(self.space.organs)

    def fresh(self) -> nn.Module:
        """A new model with a channel per organ, the same for the same seed."""
        torch.manual_seed(self.seed)
        model = build(self.config["model"], "model")
        model.grow(self.space.width)
        return model.to(memory_format=torch.channels_last_3d)

    def fit(self, model: nn.Module, cases: list[RawCase], steps: int, key: str) -> None:
        """AdamW 1e-2 with the poly schedule, a patch per step, two in three on an organ."""
        loss_of = PartialDiceCE(self.space)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: (1 - i / steps) ** 0.9)
        model.train()
        for step in range(steps):
            rng = generator("phantom validity", self.seed, key, step)
            x, y = self._patch(cases, rng)
            optimizer.zero_grad()
            loss_of(model(x[None]), y[None]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    def dice(self, model: nn.Module, hospital: str) -> dict[str, float]:
        """Mean test Dice per annotated organ."""
        scores: dict[str, list[float]] = {}
        with evaluating(model):
            for case in self.test[hospital]:
                guess = predict_labels(model, case.image[None], self.patch)
                for local, organ in enumerate(case.organs, start=1):
                    a, b = guess == self.space.channel(organ), case.label == local
                    scores.setdefault(organ, []).append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
        return {organ: float(np.mean(values)) for organ, values in scores.items()}

    def _patch(self, cases: list[RawCase], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        case = cases[int(rng.integers(len(cases)))]
        assert case.label is not None
        where = np.flatnonzero(case.label == rng.integers(1, 1 + len(case.organs)))
        if rng.uniform() < 0.67 and where.size:
            centre = np.unravel_index(int(where[rng.integers(where.size)]), case.label.shape)
        else:
            centre = rng.integers(0, case.label.shape)
        corner = [int(np.clip(c - p // 2, 0, n - p)) for c, p, n in zip(centre, self.patch, case.label.shape)]
        box = tuple(slice(c, c + p) for c, p in zip(corner, self.patch))
        codes = self.space.encode_lut(case.organs)[case.label[box]]
        assert codes.max(initial=0) != IGNORE
        return torch.from_numpy(case.image[box].copy())[None], torch.from_numpy(codes)[None]


def threshold(bench: Bench) -> dict[str, Any]:
    """One HU interval per organ, chosen on the training voxels: mean test Dice per hospital."""
    return {h: mean(interval_dice(bench.train[h], bench.test[h])) for h in bench.train}


def patients(bench: Bench) -> dict[str, Any]:
    """Mean test Dice at each hospital after training on one and on all of its patients, same steps."""
    found: dict[str, Any] = {}
    for hospital, cases in bench.train.items():
        for n in sorted({1, len(cases)}):
            model = bench.fresh()
            bench.fit(model, cases[:n], bench.steps, f"{hospital} {n}")
            found.setdefault(hospital, {})[str(n)] = mean(bench.dice(model, hospital))
    return found


def joint(bench: Bench) -> dict[str, Any]:
    """All hospitals at once, with the sum of their steps: mean test Dice per hospital."""
    model = bench.fresh()
    cases = [case for each in bench.train.values() for case in each]
    bench.fit(model, cases, bench.steps * len(bench.train), "joint")
    return {hospital: bench.dice(model, hospital) for hospital in bench.train}


def sequential(bench: Bench) -> dict[str, Any]:
    """One hospital after another without any countermeasure: the matrix of mean test Dice, and BWT."""
    model, rows = bench.fresh(), []
    for hospital, cases in bench.train.items():
        bench.fit(model, cases, bench.steps, hospital)
        rows.append([mean(bench.dice(model, h)) for h in bench.train])
    last, learnt = rows[-1], [rows[i][i] for i in range(len(rows))]
    bwt = float(np.mean([last[j] - learnt[j] for j in range(len(rows) - 1)]))
    return {"matrix": rows, "diagonal": float(np.mean(learnt)), "bwt": bwt}


def mean(scores: dict[str, float]) -> float:
    """Mean over organs."""
    return float(np.mean(list(scores.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", default="phantom_stress")
    parser.add_argument("--only", default=",".join(STUDIES), help="some of " + ", ".join(STUDIES))
    parser.add_argument(
        "--steps", type=int, default=None, help="per experience; the stream's where not given"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    parser.add_argument("overrides", nargs="*", help="of the configuration, such as model.features=16")
    args = parser.parse_args()
    bench = Bench(args.stream, args.steps, args.seed, args.overrides)
    result: dict[str, Any] = {"stream": args.stream, "steps": bench.steps, "seed": args.seed}
    for name in args.only.split(","):
        start = time.perf_counter()
        result[name] = {
            "threshold": threshold,
            "patients": patients,
            "joint": joint,
            "sequential": sequential,
        }[name](bench)
        print(name, rounded(result[name]), f"{time.perf_counter() - start:.0f} s", flush=True)
    if args.out:
        write_json(args.out, rounded(result))


def rounded(value: Any) -> Any:
    """Floats to three places, at any depth."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
