"""The gate before an update, from run folders to exit code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lifelong_ct.cli.main import main
from lifelong_ct.core.files import checksum, write_json
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.acceptance_rules import DEFAULT
from lifelong_ct.evaluation.matrix import ResultMatrix

HOSPITALS, ORGANS = ("north", "south", "harbour"), ("liver", "spleen", "pancreas")


def model(
    folder: Path,
    drop: dict[tuple[str, str], float] | None = None,
    seed: int = 0,
    patients: int = 20,
    **run: Any,
) -> Path:
    """A run folder: every patient's Dice is their own, near 0.9, plus what this model adds."""
    rng, rows = np.random.default_rng(7), []
    for hospital in HOSPITALS:
        for organ in ORGANS:
            own = 1 - rng.gamma(2, 0.05, patients)
            noise = np.random.default_rng((seed, hash_of(hospital + organ))).normal(0, 0.01 * seed, patients)
            values = np.clip(own + noise - (drop or {}).get((hospital, organ), 0.0), 0, 1)
            rows += [
                EvaluationRow(
                    3, hospital, f"{hospital}{i}", organ, "dice", float(v), f"{hospital}-{i}", "expert"
                )
                for i, v in enumerate(values)
            ]
    folder.mkdir(parents=True)
    ResultMatrix(rows).write_cases_csv(folder / "cases.csv")
    info = {"name": f"model-{seed}", "strategy": "replay", "stream": "s", "seed": seed, "config_hash": "ab"}
    info |= {"label_kinds": ["expert"], "training_cases": 120, "synthetic": False, **run}
    told = {"schema": 1, "status": "finished", "run": info, "organs": list(ORGANS)}
    write_json(folder / "results.json", {**told, "hospitals": ["north", "south"], "unseen": ["harbour"]})
    return folder


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def test_a_model_as_good_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new", seed=1)
    assert main(["compare", str(old), str(new), "--accept", str(DEFAULT)]) == 0
    assert "accepted: nowhere worse" in capsys.readouterr().out
    record = json.loads((new / "acceptance.json").read_text())
    assert (record["decision"], record["exit_code"], record["schema"]) == ("accepted", 0, 1)
    assert record["old"]["checksums"] == {n: checksum(old / n) for n in ("cases.csv", "results.json")}
    assert record["new"]["run"]["name"] == "model-1"
    assert record["rules"] == {"checksum": checksum(DEFAULT), "content": yaml.safe_load(DEFAULT.read_text())}
    assert {(c["hospital"], c["organ"]) for c in record["cells"]} == {
        (h, o) for h in HOSPITALS for o in ORGANS
    }
    assert all(c["p"] <= 0.05 and c["patients"] == 20 and c["test"]["bound"] > -0.02 for c in record["cells"])
    assert set(record["versions"]) == {"lifelong_ct", "python", "numpy", "scipy"}


@pytest.mark.parametrize("drop", [0.03, 0.06, 0.2])
def test_a_planted_regression_is_blocked_and_named(
    drop: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new", {("south", "pancreas"): drop}, seed=1)
    assert main(["compare", str(old), str(new)]) == 2
    told = capsys.readouterr().out
    assert "blocked: south, pancreas, dice: not shown to lose less than the margin 0.02" in told
    assert "blocked: the new model must not replace the old one" in told
    record = json.loads((new / "acceptance.json").read_text())
    blocked = {(c["hospital"], c["organ"]) for c in record["cells"] if c["decision"] == "blocked"}
    assert (record["decision"], blocked) == ("blocked", {("south", "pancreas")})
    assert "blocked: south, pancreas, dice" in (new / "model_card.md").read_text()


def test_few_patients_are_undecided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = model(tmp_path / "old", patients=3), model(tmp_path / "new", seed=1, patients=3)
    rules = tmp_path / "rules.yaml"
    rules.write_text("undecided: allow\nmetrics: {dice: {margin: 0.05}}\n")
    assert main(["compare", str(old), str(new)]) == 2
    assert (
        "undecided: south, liver spleen pancreas, dice: 3 patients, 20 are needed" in capsys.readouterr().out
    )
    assert main(["compare", str(old), str(new), f"--accept={rules}"]) == 0
    assert capsys.readouterr().out.count("undecided: too few patients") == 1
    assert json.loads((new / "acceptance.json").read_text())["decision"] == "undecided"
    assert "(3 patients: no interval)" in (new / "model_card.md").read_text()


def test_tables_of_cases_do_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(model(tmp_path / n, seed=s) / "cases.csv") for s, n in enumerate(("old", "new"))]
    assert main(["compare", *files, f"out={tmp_path}/record"]) == 0
    record = json.loads((tmp_path / "record" / "acceptance.json").read_text())
    assert (record["new"]["run"], list(record["new"]["checksums"])) == ({}, ["cases.csv"])
    card = (tmp_path / "record" / "model_card.md").read_text()
    assert "how the model was trained: **[ to be filled in by the hospital ]**" in card
    assert not (tmp_path / "new" / "acceptance.json").exists()


def test_the_model_card(tmp_path: Path) -> None:
    old = model(tmp_path / "old")
    new = model(tmp_path / "Doe_Jane", seed=1, label_kinds=["expert", "model"])
    assert main(["compare", str(old), str(new)]) == 0
    card = (new / "model_card.md").read_text()
    for words in (
        "# Model card: model-1",
        "**ACCEPTED**",
        "Purpose: **[ to be filled in by the hospital ]**",
        "in the order of training: north, south\n",
        "never trained on: harbour\n",
        "Labels, of training and test: expert, model\n",
        "Training scans: 120, of patients",
        "The old model is model-0. Test scans by kind of label: expert 60.",
        "some labels made by models",
        "a failure that befalls 14% of patients can stay unseen",
    ):
        assert words in card
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| north")]
    assert [row[1] for row in rows] == list(ORGANS)
    assert all(row[4].count("[") == 1 and row[7] == "accepted |" for row in rows)
    for text in (card, (new / "acceptance.json").read_text()):
        assert str(tmp_path) not in text
        assert "Doe" not in text


def test_drawn_scans_are_called_so(tmp_path: Path) -> None:
    old, new = (model(tmp_path / n, synthetic=True, label_kinds=["synthetic"]) for n in ("old", "new"))
    assert main(["compare", str(old), str(new)]) == 0
    assert "drawn by a program: no patient is in them" in (new / "model_card.md").read_text()


def test_a_run_that_has_not_ended_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new")
    results = json.loads((new / "results.json").read_text())
    write_json(new / "results.json", {**results, "status": "running"})
    assert main(["compare", str(old), str(new)]) == 2
    assert "the run is running" in capsys.readouterr().err
    assert not (new / "acceptance.json").exists()


def test_a_changed_table_of_cases_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new")
    results = json.loads((new / "results.json").read_text())
    write_json(new / "results.json", {**results, "xxh3": {"cases.csv": checksum(new / "cases.csv")}})
    assert main(["compare", str(old), str(new)]) == 0
    (new / "acceptance.json").unlink()
    lines = (new / "cases.csv").read_text().splitlines(keepends=True)
    (new / "cases.csv").write_text("".join(lines[:-1]))
    assert main(["compare", str(old), str(new)]) == 2
    told = capsys.readouterr().err
    assert "cases.csv is not the file that results.json was written with" in told
    assert "run lifelong-ct report --check" in told
    assert not (new / "acceptance.json").exists()


@pytest.mark.parametrize(
    ("status", "learnt", "panel", "words"),
    [
        ("finished", [1, 2, 3], 4, ""),
        ("finished", [1, 2, 3, 4], 4, "learnt 4 experiences, its last scores are after 3"),
        ("stopped", [1, 2, 3, 4], None, "learnt 4 experiences, its last scores are after 3"),
        ("stopped", [1, 2, 3], 20, "scored no more than 20 cases of each hospital"),  # 20 cases were scored
        ("stopped", [1, 2, 3], 21, ""),  # fewer than the panel: that is all of them
        ("stopped", [1, 2, 3], None, ""),
    ],
)
def test_only_scores_of_the_end_are_judged(
    status: str,
    learnt: list[int],
    panel: int | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new")
    results = json.loads((new / "results.json").read_text())
    rows = [{"after": after} for after in learnt]
    write_json(new / "results.json", {**results, "status": status, "experiences": rows})
    (new / "config.yaml").write_text(yaml.safe_dump({"evaluation": {"panel": panel}}))
    assert main(["compare", str(old), str(new)]) == (2 if words else 0)
    assert words in capsys.readouterr().err
    assert (new / "acceptance.json").exists() == (not words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["{old}"], ["compare OLD NEW --accept"]),
        (["{old}", "{new}", "--accept"], ["--accept"]),
        (["{old}", "{new}", "--frob"], ["--frob"]),
        (["{old}", "{new}", "frob=1"], ["frob=1"]),
        (["{old}", "{new}", "--accept", "{old}/none.yaml"], ["cannot read"]),
        (["{old}", "{new}/none"], ["does not exist"]),
        (["{old}", "{new}", "--accept", "{rules}"], ["margn", "did you mean margin?"]),
        (["old={old}", "margin=0.1"], ["new="]),
    ],
)
def test_mistakes(
    args: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("metrics: {dice: {margn: 0.1}}")
    places = {"old": model(tmp_path / "Doe" / "old"), "new": model(tmp_path / "Doe" / "new"), "rules": rules}
    assert main(["compare", *(arg.format(**places) for arg in args)]) == 2
    told = capsys.readouterr().err
    assert [told.count(word) for word in ("error:", "where:", "fix:", "Traceback", "Doe")] == [1, 1, 1, 0, 0]
    for word in words:
        assert word in told


def test_the_quick_look_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = model(tmp_path / "old"), model(tmp_path / "new", {("south", "pancreas"): 0.06}, seed=1)
    assert main(["compare", f"old={old}", f"new={new}"]) == 2
    assert "blocked: south, pancreas" in capsys.readouterr().out
    assert main(["compare", f"old={old}", f"new={new}", "margin=0.1"]) == 0
    assert not (new / "acceptance.json").exists()
