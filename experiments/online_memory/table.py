"""The run folders of the study as results.csv and a Markdown table.

python experiments/online_memory/table.py runs/online
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

from scipy import stats

from lifelong_ct.evaluation.statistics import bootstrap_interval

HERE = Path(__file__).parent
STRATEGIES = ("linear_memory", "dynamic_memory", "selective_memory")

found: dict[tuple[str, str], dict[int, float]] = defaultdict(
    dict
)  # (exemplar bytes, strategy) → seed → final mean
for path in Path(sys.argv[1]).glob("*/results.json"):
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["status"] == "finished":
        limit = str(results["memory"]["exemplars"]["limit"])
        found[limit, results["run"]["strategy"]][results["run"]["seed"]] = results["summary"]["final_mean"]
with open(HERE / "results.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["exemplar_bytes", "strategy", "seed", "final_mean"])
    writer.writerows(
        [*key, seed, f"{x:.5f}"] for key, seeds in sorted(found.items()) for seed, x in sorted(seeds.items())
    )
print(
    "| exemplars | strategy | seeds | final mean Dice (95 %) | over linear, same seed | p |\n|---|---|---|---|---|---|"
)
for limit in sorted({limit for limit, _ in found}, key=int):
    linear = found[limit, "linear_memory"]
    for name in STRATEGIES:
        own = found[limit, name]
        mean = bootstrap_interval(list(own.values()))
        gains = [own[seed] - linear[seed] for seed in sorted(own.keys() & linear.keys())]
        over, p = "–", "–"
        if name != "linear_memory":
            gain = bootstrap_interval(gains)
            over = f"{gain.mean:+.3f} ({gain.low:+.3f} – {gain.high:+.3f})"
            p = f"{stats.ttest_1samp(gains, 0).pvalue:.3f}"
        print(
            f"| {int(limit) >> 10} KiB | {name} | {len(own)} | {mean.mean:.3f} ({mean.low:.3f} – {mean.high:.3f}) | {over} | {p} |"
        )
