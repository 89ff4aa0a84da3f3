"""The run folders of the study as results.csv and a Markdown table.

python experiments/background_shift/table.py runs/background_shift experiments/background_shift/results.csv
"""

import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import yaml

COLUMNS = ("loss", "strategy", "seed", "after", "hospital", "dice", "held_bytes")
HOSPITALS = ("first", "second", "third")


def rows(run: Path) -> list[tuple[str, ...]]:
    """Mean Dice of each hospital after each experience."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    loss = config["loss"].get("unannotated", "marginal")
    held = results["memory"]["exemplars"]["used"]
    return [
        (
            loss,
            results["run"]["strategy"],
            str(results["run"]["seed"]),
            str(score["after"]),
            score["hospital"],
            f"{score['mean']:.5f}",
            str(held),
        )
        for score in results["scores"]
        if score["metric"] == "dice" and score["organ"] == "mean" and score["mean"] is not None
    ]


def cell(values: list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


folder, out = Path(sys.argv[1]), Path(sys.argv[2])
found = sorted(row for run in folder.glob("*/results.json") for row in rows(run.parent))
with open(out, "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([COLUMNS, *found])
by_arm: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
for loss, strategy, _, after, hospital, dice, _ in found:
    by_arm[loss, strategy][after, hospital].append(float(dice))
print("| loss | strategy | first, when learnt | first, at the end | second | third | mean at the end |")
print("|---|---|---|---|---|---|---|")
for (loss, strategy), scores in sorted(by_arm.items()):
    last = [scores["3", hospital] for hospital in HOSPITALS]
    means = [statistics.mean(seed) for seed in zip(*last, strict=True)]
    cells = [cell(values) for values in (scores["1", "first"], *last, means)]
    print("|", loss, "|", strategy, "|", " | ".join(cells), "|")
