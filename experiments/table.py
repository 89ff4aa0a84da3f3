"""A comparison.csv as a Markdown table.

python experiments/table.py runs/stress/report/comparison.csv
"""

import csv
import sys

COLUMNS = {
    "when learnt": "diagonal_mean",
    "final mean": "final_mean",
    "BWT": "bwt",
    "FWT": "fwt",
    "forgetting": "forgetting",
}


def cell(row: dict[str, str], name: str) -> str:
    """Mean ± standard deviation over seeds."""
    mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
    if not mean:
        return "–"
    return f"{float(mean):.3f}" + (f" ± {float(sd):.3f}" if sd else "")


with open(sys.argv[1], newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
print("| strategy | seeds |", " | ".join(COLUMNS), "| exemplars |")
print("|---" * (len(COLUMNS) + 3) + "|")
for row in rows:
    cells = [cell(row, name) for name in COLUMNS.values()]
    kept = f"{float(row['exemplar_bytes_mean'] or 0) / 1024:.0f} KiB"
    print("|", row["label"], "|", row["seeds"], "|", " | ".join(cells), "|", kept, "|")
