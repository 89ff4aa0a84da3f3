"""W&B's offline file of a whole run tells what the run folder tells."""

import csv
import json
import math
from pathlib import Path

import pytest
import yaml
from offline import read_offline
from whole_runs import only_run, results, run

from lifelong_ct.evaluation.matrix import ResultMatrix


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wandb")
    wandb = ("reporter.wandb.enabled=true", "reporter.wandb.mode=offline", "reporter.console=false")
    assert run(folder, "strategy=replay", "group=readback", *wandb) == 0
    return only_run(folder)


def test_the_configuration_and_the_name(finished: Path) -> None:
    read = read_offline(finished)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert {key: read["config"][key] for key in config} == config
    assert (read["run"].display_name, read["run"].run_group) == (finished.name, "readback")


def test_the_matrix_and_every_score(finished: Path) -> None:
    rows = {row["cl/after"]: row for row in read_offline(finished)["history"] if "cl/after" in row}
    matrix = ResultMatrix.read_cases_csv(finished / "cases.csv")
    assert sorted(rows) == [0, 1, 2]
    for after, row in rows.items():
        for hospital in ("usual", "permuted"):
            assert row[f"cl/dice/{hospital}"] == pytest.approx(matrix.value(after, hospital))
    tables = next((finished / "wandb").glob("offline-run-*")).glob("files/media/table/matrix/*.json")
    told = {tuple(row[:4]): row[4:] for file in tables for row in json.loads(file.read_text())["data"]}
    scores = results(finished)["scores"]
    assert len(told) == len(scores)
    for score in scores:
        place = tuple(score[key] for key in ("after", "hospital", "organ", "metric"))
        assert told[place] == [pytest.approx(score["mean"]), score["n"]], place


def test_every_other_scalar(finished: Path) -> None:
    summary, document = read_offline(finished)["summary"], results(finished)
    found = 0
    for group in ("run", "summary", "memory", "seconds"):
        for key, value in leaves(document[group], group).items():
            assert summary[key] == (pytest.approx(value) if isinstance(value, float) else value), key
            found += 1
    assert found > 25
    assert (summary["schema"], summary["status"]) == (1, "finished")
    assert summary["hospitals"] == "usual, permuted"
    assert summary["experiences/2/steps"] == document["experiences"][1]["steps"]


def test_the_curve(finished: Path) -> None:
    losses = [row["train/loss"] for row in read_offline(finished)["history"] if "train/loss" in row]
    with open(finished / "train.csv") as file:
        written = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses == pytest.approx(written)
    assert len(losses) == 6
    assert all(map(math.isfinite, losses))


def leaves(value: object, name: str) -> dict[str, object]:
    """Numbers and texts below a key; lists and what is null are left out."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{name}/{key}").items()}
    return {} if value is None or isinstance(value, list) else {name: value}
