"""Ledger peaks and anonymous memory of a short and a long run, as a figure and a Markdown table.

python experiments/long_stream/plot.py SHORT_RUN LONG_RUN OUT.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MB = 1 << 20


def read(folder: str) -> dict[str, Any]:
    """results.json of a run folder."""
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def peaks(run: dict[str, Any]) -> list[float]:
    """Anonymous memory in MiB at its highest, per experience."""
    return [experience["anonymous_peak"] / MB for experience in run["experiences"]]


short, long = read(sys.argv[1]), read(sys.argv[2])
fig, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for run, colour in ((long, "tab:blue"), (short, "tab:orange")):
    axes.plot(
        range(1, 1 + len(peaks(run))), peaks(run), "o-", color=colour, label=f"{len(peaks(run))} hospitals"
    )
axes.set(xlabel="hospital", ylabel="MiB", ylim=(0, None), title="Anonymous memory at its highest")
axes.legend()
fig.savefig(sys.argv[3], dpi=120)

print("| ledger, bytes | limit | peak, short | peak, long | equal |")
print("|---|---|---|---|---|")
for kind, row in long["memory"].items():
    other = short["memory"][kind]["peak"]
    print(
        f"| {kind} | {row['limit']} | {other} | {row['peak']} | {'yes' if other == row['peak'] else 'NO'} |"
    )
found = peaks(long)
growth = (max(found) - max(found[:3])) / (len(found) - 3)
print(f"\nAnonymous peak up to hospital 3: {max(found[:3]):.1f} MiB, up to hospital {len(found)}: ", end="")
print(f"{max(found):.1f} MiB, so {growth:.2f} MiB per hospital.")
