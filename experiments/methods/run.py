"""Runs the study of methods: tuning, table, equal compute, budgets. A run that is finished is not made again.

python experiments/methods/run.py tune --jobs 2       # writes chosen.yaml
python experiments/methods/run.py table --jobs 2      # 3 orders × 3 seeds per method
python experiments/methods/run.py compute --jobs 2    # likewise, steps divided by what a step of the method costs
python experiments/methods/run.py budgets --jobs 2    # exemplars from 0.1 % to 20 % of the compressed training bytes
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHOSEN, OVERHEAD = HERE / "chosen.yaml", HERE / "overhead.csv"
TUNING_SEED = 1000
"""Of the drawn patients; the table's are 0. Nothing of them is in both."""
ORDERS = ("[usual,permuted,inverted]", "[inverted,usual,permuted]", "[permuted,inverted,usual]")
SEEDS = (0, 1, 2)
STEPS = 120
PATIENTS = 48
"""Per hospital, of the budgets: with the table's 6 a thousandth of the bytes holds no patch."""
TRAINING_BYTES = 31_206_363
"""Of their volumes, compressed: `lifelong-ct ingest --config-dir experiments/methods/conf stream=methods
stream.common.train=48`. The table's take 3,875,475."""
BUDGETS = (0.001, 0.01, 0.02, 0.05, 0.2)
POLICIES = ("reservoir", "organ_balanced", "herding")
Command = list[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("tune", "table", "compute", "budgets"))
    parser.add_argument("--only", nargs="+", help="these methods")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one core each")
    chosen = parser.parse_args()
    grids = yaml.safe_load((HERE / "methods.yaml").read_text(encoding="utf-8"))
    names = [name for name in grids if not chosen.only or name in chosen.only]
    folder = chosen.runs / chosen.part
    commands = {"tune": _tuning, "table": _table, "compute": _compute, "budgets": _budgets}[chosen.part]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        ended = list(pool.map(_run, commands(names, grids, folder)))
    if chosen.part == "tune":
        _choose(grids, folder)
    sys.exit(max(ended, default=0))


def _tuning(names: Sequence[str], grids: Mapping[str, Any], folder: Path) -> Iterator[Command]:
    for name in names:
        if grids[name]:
            grid = [f"{key}={','.join(map(str, values))}" for key, values in grids[name].items()]
            yield _command(name, folder, f"stream.common.seed={TUNING_SEED}", *grid)


def _table(names: Sequence[str], grids: Mapping[str, Any], folder: Path) -> Iterator[Command]:
    for name in names:
        yield _command(name, folder, *_chosen(name), _orders(), _seeds())


def _compute(names: Sequence[str], grids: Mapping[str, Any], folder: Path) -> Iterator[Command]:
    with open(OVERHEAD, newline="", encoding="utf-8") as file:
        cost = {row["strategy"]: float(row["ratio"]) for row in csv.DictReader(file)}
    for name in names:
        if (
            cost.get(name, 1.0) > 1.1
        ):  # the others cost what naive does, within the noise, and are in the table
            steps = f"stream.steps={round(STEPS / cost[name])}"
            yield _command(name, folder, *_chosen(name), steps, _orders(), _seeds())


def _budgets(names: Sequence[str], grids: Mapping[str, Any], folder: Path) -> Iterator[Command]:
    patients = f"stream.common.train={PATIENTS}"
    sizes = "memory.exemplars=" + ",".join(str(round(share * TRAINING_BYTES)) for share in BUDGETS)
    for policy in POLICIES:
        yield _command("replay", folder, *_chosen("replay"), patients, f"selection={policy}", sizes, _seeds())
    yield _command("joint,naive", folder, patients, _seeds())


def _orders() -> str:
    return "stream.order=" + ",".join(ORDERS)


def _seeds() -> str:
    return "seed=" + ",".join(map(str, SEEDS))


def _chosen(name: str) -> list[str]:
    found = yaml.safe_load(CHOSEN.read_text(encoding="utf-8")) if CHOSEN.exists() else {}
    return [f"{key}={value}" for key, value in (found.get(name) or {}).items()]


def _command(name: str, folder: Path, *overrides: str) -> Command:
    own = (
        f"strategy={name}",
        "stream=methods",
        f"paths.runs={folder}",
        f"paths.state={folder}/state-{name.replace(',', '-')}",
    )
    conf = ("--config-dir", str(HERE / "conf"))
    return ["lifelong-ct", *conf, *own, "reporter=quiet", *overrides, "-m"]


def _run(command: Command) -> int:
    print(" ".join(command), flush=True)
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode


def _choose(grids: Mapping[str, Any], folder: Path) -> None:
    """The values with the best final mean, per method; a value that no run has is left as in the YAML."""
    best: dict[str, tuple[float, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        name = results["run"]["strategy"]
        config = yaml.safe_load(path.with_name("config.yaml").read_text(encoding="utf-8"))
        if results["status"] != "finished" or not grids.get(name):
            continue
        score = results["summary"]["final_mean"]
        if name not in best or score > best[name][0]:
            best[name] = score, {key: _value(config, key) for key in grids[name]}
    text = "# By `run.py tune`: the best final mean on the tuning stream (stream.common.seed=1000), seed 0.\n"
    CHOSEN.write_text(text + yaml.safe_dump({name: own for name, (_, own) in best.items()}), encoding="utf-8")


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[int(part)] if isinstance(config, list) else config[part]
    return config


if __name__ == "__main__":
    main()
