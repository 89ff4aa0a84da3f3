"""The study's run folders as CSV, and CSV as tables and a figure.

python experiments/methods/report.py collect runs/methods    # writes table.csv, compute.csv and budgets.csv beside this file
python experiments/methods/report.py show                    # prints their tables, draws budgets.png
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import yaml
from run import BUDGETS, TRAINING_BYTES

from lifelong_ct.evaluation.statistics import bootstrap_interval

HERE = Path(__file__).parent
PARTS = ("table", "compute", "budgets")
MEASURES = ("acc", "bwt", "fwt", "diagonal_mean", "retained", "final_mean")
HEADS = ("ACC", "BWT", "FWT", "plasticity", "retained", "final mean")
KEYS = ("strategy", "selection", "budget", "order", "seed", "steps")
COLUMNS = (*KEYS, *MEASURES, "told", "router", "exemplar_bytes", "held_bytes", "training_seconds")
Row = dict[str, str]


def collect(folder: Path) -> None:
    """Writes a CSV for each part that has runs."""
    for part in PARTS:
        rows = [row for path in (folder / part).glob("*/results.json") for row in _rows(path)]
        if rows:
            organs = sorted({key for row in rows for key in row} - {*COLUMNS})
            with open(HERE / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*COLUMNS, *organs], restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: [row[key] for key in KEYS]))


def _rows(path: Path) -> Iterator[Row]:
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["status"] != "finished":
        return
    config = yaml.safe_load(path.with_name("config.yaml").read_text(encoding="utf-8"))
    held = [experience["held"] for experience in results["experiences"]]
    row: dict[str, Any] = {
        "strategy": results["run"]["strategy"],
        "selection": config["selection"]["_target_"].rpartition(".")[2],
        "budget": config["memory"]["exemplars"],
        "order": " ".join(results["hospitals"]),
        "seed": results["run"]["seed"],
        "steps": config["stream"]["steps"],
        **{name: _told(results["summary"][name]) for name in MEASURES},
        "told": _told((results.get("summary_told") or {}).get("final_mean")),
        "router": _told((results.get("router") or {}).get("accuracy")),
        "exemplar_bytes": max(kinds.get("exemplars", 0) for kinds in held),
        "held_bytes": max(sum(kinds.values()) for kinds in held),
        "training_seconds": f"{results['seconds']['training']:.1f}",
    }
    for organ, summary in results["summary_per_organ"].items():
        row[organ] = _told(summary["final_mean"])
    yield {key: str(value) for key, value in row.items()}


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def show() -> None:
    """Prints every table; draws the curve over budgets. Differences to naive are to its runs in the table of equal steps."""
    found = {part: _read(HERE / f"{part}.csv") for part in PARTS}
    naive = {(row["order"], row["seed"]): row for row in found["table"] if row["strategy"] == "naive"}
    for part, rows in found.items():
        if rows:
            print(f"\n## {part}\n")
            _budgets(rows) if part == "budgets" else _methods(rows, naive)


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _methods(rows: list[Row], naive: dict[tuple[str, str], Row]) -> None:
    by_name = _grouped(rows, "strategy")
    print("| strategy | runs |", " | ".join(HEADS), "| final mean over naive | held | training s |")
    print("|---" * (len(HEADS) + 5) + "|")
    for name, own in sorted(by_name.items(), key=lambda item: -_mean(item[1], "final_mean")):
        pairs = [
            (row, naive[row["order"], row["seed"]]) for row in own if (row["order"], row["seed"]) in naive
        ]
        gains = [float(a["final_mean"]) - float(b["final_mean"]) for a, b in pairs]
        cells = [_cell(own, name) for name in MEASURES]
        held = f"{_mean(own, 'held_bytes') / 1024:.0f} KiB"
        print("|", name, "|", len(own), "|", " | ".join(cells), "|", _interval(gains, signed=True), end=" | ")
        print(held, "|", f"{_mean(own, 'training_seconds'):.0f} |")
    organs = [key for key in rows[0] if key not in COLUMNS]
    print("\n| strategy |", " | ".join(organs), "|\n" + "|---" * (len(organs) + 1) + "|")
    for name, own in sorted(by_name.items(), key=lambda item: -_mean(item[1], "final_mean")):
        print("|", name, "|", " | ".join(_cell(own, organ) for organ in organs), "|")


def _budgets(rows: list[Row]) -> None:
    names = {str(round(share * TRAINING_BYTES)): share for share in BUDGETS}
    bounds = {name: [row for row in rows if row["strategy"] == name] for name in ("naive", "joint")}
    by_policy = _grouped([row for row in rows if row["strategy"] == "replay"], "selection")
    print(
        "| share of the compressed training bytes |",
        " | ".join(by_policy),
        "|\n" + "|---" * (len(by_policy) + 1) + "|",
    )
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for budget, share in names.items():
        cells = [_interval(_values(own, "final_mean", budget)) for own in by_policy.values()]
        print(f"| {share:.1%} |", " | ".join(cells), "|")
    print("\nnaive", _cell(bounds["naive"], "final_mean"), "joint", _cell(bounds["joint"], "final_mean"))
    for name, own in by_policy.items():
        found = [bootstrap_interval(_values(own, "final_mean", budget)) for budget in names]
        held = [_mean([row for row in own if row["budget"] == budget], "held_bytes") for budget in names]
        low = [f.mean - (f.low if f.low is not None else f.mean) for f in found]  # type: ignore[operator]
        high = [(f.high if f.high is not None else f.mean) - f.mean for f in found]  # type: ignore[operator]
        shares = [100 * nbytes / TRAINING_BYTES for nbytes in held]
        axes.errorbar(shares, [f.mean for f in found], (low, high), fmt="o-", capsize=2, label=name)
    for name, own in bounds.items():
        axes.axhline(
            _mean(own, "final_mean"), color="0.5", ls={"naive": ":", "joint": "--"}[name], lw=1, label=name
        )
    axes.set(xscale="log", xlabel="bytes held, % of the compressed training bytes", ylabel="final mean Dice")
    axes.legend(fontsize=7)
    figure.savefig(HERE / "budgets.png", dpi=120)


def _grouped(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups


def _values(rows: Iterable[Row], key: str, budget: str | None = None) -> list[float]:
    return [float(row[key]) for row in rows if row[key] and budget in (None, row["budget"])]


def _mean(rows: list[Row], key: str) -> float:
    values = _values(rows, key)
    return sum(values) / len(values) if values else float("nan")


def _cell(rows: list[Row], key: str) -> str:
    return _interval(_values(rows, key), signed=key in ("bwt", "fwt"))


def _interval(values: list[float], signed: bool = False) -> str:
    """Mean and 95 % interval over runs."""
    if not values:
        return "–"
    found = bootstrap_interval(values)
    shown = f"{found.mean:+.3f}" if signed else f"{found.mean:.3f}"
    return shown if found.low is None else f"{shown} ({found.low:.3f} – {found.high:.3f})"


if __name__ == "__main__":
    collect(Path(sys.argv[2])) if sys.argv[1] == "collect" else show()
