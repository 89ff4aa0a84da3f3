"""results.csv of the cache-rate study as a table with intervals and a figure.

python experiments/cache_rate/report.py experiments/cache_rate/results.csv
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

DRAWS = 10_000
Key = tuple[str, float, str]


def read(path: Path) -> dict[Key, np.ndarray]:
    """(arm, rate, budget) → Dice `[seeds, patients]`."""
    found: dict[Key, dict[tuple[int, int], float]] = defaultdict(dict)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["arm"], float(row["rate"]), row["budget"]
            found[key][int(row["seed"]), int(row["patient"])] = float(row["dice"])
    return {key: _square(cells) for key, cells in found.items()}


def interval(dice: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % interval: bootstrap over seeds, and over patients within each."""
    rng = np.random.default_rng(seed)
    seeds, patients = dice.shape
    chosen = rng.integers(0, seeds, (DRAWS, seeds, 1)), rng.integers(0, patients, (DRAWS, seeds, patients))
    means = dice[chosen].mean((1, 2))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(dice.mean()), float(low), float(high)


def write_report(path: Path) -> str:
    """Writes `dice.png` beside the file; the tables as Markdown."""
    data = read(path)
    arms = list(dict.fromkeys(arm for arm, _, budget in data if budget != "curve"))
    budgets = list(dict.fromkeys(budget for _, _, budget in data if budget != "curve"))
    rates = sorted({rate for _, rate, budget in data if budget != "curve"}, reverse=True)
    lines = [_power(data), ""]
    for budget in budgets:
        lines += [f"**{budget}**", "", "| arm | " + " | ".join(f"rate {r:g}" for r in rates) + " |"]
        lines.append("|---" * (len(rates) + 1) + "|")
        for arm in arms:
            cells = [_cell(data, (arm, rate, budget)) for rate in rates]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        lines.append("")
    _figure(data, arms, budgets, rates, path.with_name("dice.png"))
    return "\n".join(lines)


def _cell(data: dict[Key, np.ndarray], key: Key) -> str:
    """Mean with its interval; a star where the difference to the full cache excludes zero."""
    mean, low, high = interval(data[key])
    full = data["CacheDataset", 1.0, "equal steps"]
    _, worse, better = interval(data[key] - full)
    return f"{mean:.3f} ({low:.3f} – {high:.3f})" + ("" if worse <= 0 <= better else " *")


def _power(data: dict[Key, np.ndarray]) -> str:
    curve = {int(arm.split()[0]): dice for (arm, _, budget), dice in data.items() if budget == "curve"}
    shown = ", ".join(f"{n}: {curve[n].mean():.3f}" for n in sorted(curve))
    gain, low, high = interval(curve[max(curve)] - curve[min(curve)])
    verdict = "the stream has a learning curve" if low > 0 else "NO POWER"
    return f"Dice by number of patients at equal steps: {shown}; {gain:+.3f} ({low:+.3f} – {high:+.3f}): {verdict}."


def _figure(
    data: dict[Key, np.ndarray], arms: list[str], budgets: list[str], rates: list[float], path: Path
) -> None:
    fig, axes = plt.subplots(
        1, len(budgets), figsize=(3.2 * len(budgets), 3.2), sharey=True, layout="constrained"
    )
    for ax, budget in zip(axes, budgets, strict=True):
        for i, arm in enumerate(arms):
            mean, low, high = np.array([interval(data[arm, rate, budget]) for rate in rates]).T
            place = np.arange(len(rates)) + 0.06 * (i - 1.5)
            ax.errorbar(place, mean, (mean - low, high - mean), fmt="o-", capsize=2, label=arm)
        ax.set(
            title=budget,
            xticks=range(len(rates)),
            xticklabels=[f"{r:g}" for r in rates],
            xlabel="share that fits",
        )
    axes[0].set_ylabel("test Dice")
    axes[0].legend(fontsize=7)
    fig.savefig(path, dpi=120)


def _square(cells: dict[tuple[int, int], float]) -> np.ndarray:
    seeds, patients = (sorted({key[i] for key in cells}) for i in (0, 1))
    return np.array([[cells[s, p] for p in patients] for s in seeds])


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
