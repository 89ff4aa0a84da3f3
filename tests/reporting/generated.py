"""Run folders as large as those of real sweeps, with numbers drawn from a seed instead of trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.html import HtmlReport
from lifelong_ct.reporting.overlays import Overlays
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.training.scoring import Scored

STRATEGIES = {"naive": 0.35, "replay_ewc_lwf": 0.08, "continual_segment": 0.12, "joint": 0.0}
"""Name → what is forgotten per experience."""
ORGANS = (
    "liver",
    "spleen",
    "kidney_left",
    "kidney_right",
    "pancreas",
    "gallbladder",
    "portal_and_splenic_vein",
)
METRICS = ("dice", "nsd", "volume_ml", "reference_ml", "volume_error_ml", "volume_abs_error_ml")


def sweep(folder: Path, seeds: int = 3, hospitals: int = 6) -> None:
    """Runs of every strategy; the first one has a page, the others one that need not be written again."""
    for number, (strategy, lost) in enumerate(STRATEGIES.items()):
        for seed in range(seeds):
            path = folder / f"phantom-{strategy}-s{seed}-{number:04x}{seed:04x}"
            run(path, strategy, seed, lost, hospitals, page=number == seed == 0)


def run(
    path: Path, strategy: str, seed: int, lost: float = 0.1, hospitals: int = 6, page: bool = True
) -> None:
    """One run folder, told to the reporters as a run tells it."""
    reporters = Reporters([RunFolder(path, str), *([Overlays(path), HtmlReport(path)] if page else [])], str)
    names = [f"university_hospital_{chr(97 + i)}" for i in range(hospitals)]
    matrix = _matrix(np.random.default_rng(seed), names, lost, strategy == "joint")
    results = _results(path, strategy, seed, names, matrix)
    needs = {"past_data": strategy == "joint", "reinitialise": strategy == "joint"}
    config = {"strategy": {"name": strategy, "requires": needs}, "seed": seed}
    reporters.event(
        "run_started", run=results["run"], config=config, done=0, experiences=hospitals, results=results
    )
    _steps(reporters, hospitals)
    if page:
        rng = np.random.default_rng(seed)
        for i, case in enumerate(("5d41402abc4b2a76", "b9719d911017c592", "7d793037a0760186")):
            reporters.event("scored", hospital=names[i], case=case, scored=_scan(rng))
        reporters.event("evaluated", after=hospitals, matrix=matrix, results=results)
    reporters.event("run_ended", status="finished", matrix=matrix, results=results)
    reporters.close("finished")
    assert reporters.failures == {}
    if not page:
        (path / "report.html").write_text("<!doctype html><title>old enough</title>")


def _matrix(rng: np.random.Generator, names: list[str], lost: float, at_once: bool) -> ResultMatrix:
    """Each hospital rises to about 0.85 when it is trained on, and loses `lost` of that per experience after."""
    rows = []
    for after in range(len(names) if at_once else 0, len(names) + 1):
        for j, name in enumerate([*names, "unseen_hospital"], start=1):
            level = 0.1 if after == 0 else 0.35 if j > after else 0.85 * (1 - lost) ** (after - j)
            for case in range(4):
                for organ in ORGANS:
                    dice = float(np.clip(rng.normal(level, 0.06), 0, 1))
                    true = 20.0 + 40 * len(organ)
                    found = true * float(rng.normal(1, 0.3 * (1 - dice)))
                    values = (dice, min(1.0, dice + 0.05), found, true, found - true, abs(found - true))
                    rows += [
                        EvaluationRow(after, name, f"{name}-{case}", organ, metric, value)
                        for metric, value in zip(METRICS, values, strict=True)
                    ]
    return ResultMatrix(rows)


def _results(path: Path, strategy: str, seed: int, names: list[str], matrix: ResultMatrix) -> dict[str, Any]:
    information = {
        "name": path.name, "strategy": strategy, "stream": "phantom", "seed": seed, "group": "sweep",
        "config_hash": path.name[-8:], "synthetic": True, "label_kinds": ["synthetic"], "training_cases": 48,
        "command": f"lifelong-ct strategy={strategy} seed={seed}",
    }  # fmt: skip
    exemplars = 12 << 20 if "replay" in strategy else 0
    memory = {
        "ram": {"limit": 4 << 30, "peak": 3 << 30, "used": 2 << 30, "measured": 5 << 30},
        "disk": {"limit": 20 << 30, "peak": 20 << 30, "used": 3 << 30},
        "gpu": {"limit": None, "peak": 2 << 30, "used": 2 << 30},
        "exemplars": {"limit": 16 << 20, "peak": 16 << 20, "used": exemplars},
    }
    return {
        "schema": 1, "status": "finished", "run": information, "hospitals": names, "unseen": ["unseen_hospital"],
        "organs": list(ORGANS), "scores": [], "summary": dict(matrix.summary(names)), "memory": memory,
        "experiences": [
            {"after": i, "hospital": name, "steps": 200, "anonymous_peak": 5 << 30}
            for i, name in enumerate(names, start=1)
        ],
        "seconds": {"reading": 31.0, "training": 920.0, "evaluation": 240.0, "total": 1191.0}, "error": None,
    }  # fmt: skip


def _steps(reporters: Reporters, experiences: int) -> None:
    for after in range(1, experiences + 1):
        for step in range(200):
            loss = 0.3 + 1.2 / (1 + step / 20) + 0.1 * np.sin(step)
            reporters.event("step", after=after, step=step, loss=float(loss), lr=1e-2, seconds=step * 0.8)


def _scan(rng: np.random.Generator) -> Scored:
    """An ellipsoid of a body with two organs, and a prediction that is beside one of them; noise as in CT."""
    d, h, w = np.indices((96, 80, 64))
    body = ((d - 48) / 46) ** 2 + ((h - 40) / 36) ** 2 < 1
    image = np.where(body, 20, -1000) + rng.normal(0, 25, body.shape)
    label, prediction = np.zeros((2, *body.shape), np.uint8)
    for value, (x, y, z, r, off) in enumerate(((64, 46, 36, 16, 3), (26, 34, 34, 9, 5)), start=1):
        label[(d - x) ** 2 + (h - y) ** 2 + (w - z) ** 2 < r**2] = value
        prediction[(d - x + off) ** 2 + (h - y) ** 2 + (w - z) ** 2 < r**2] = value
        image[label == value] += 80 * value
    raw = RawCase(image.astype(np.int16), label, np.diag([1.5, 1.5, 3.0, 1.0]), ("liver", "spleen"))
    dice = [float(rng.uniform(0.2, 0.8)) for _ in range(2)]
    scores: list[tuple[str, str, float | None]] = [("liver", "dice", dice[0]), ("spleen", "dice", dice[1])]
    return Scored(raw, prediction, {"liver": 1, "spleen": 2}, scores)
