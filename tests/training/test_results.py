"""What results.json holds, before and after a resume."""

import json

import pytest
from hospitals import Heard, options, stream

from lifelong_ct.core.ledger import KINDS, Ledger
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.training.results import Results
from lifelong_ct.training.run import Run


@pytest.fixture
def opts(tmp_path):
    made = stream(
        {"name": "a", "train": [16, 16]}, {"name": "b"}, unseen=[{"name": "u", "train": [], "test": [16]}]
    )
    return options(made, tmp_path, group="sweep")


def row(after, hospital, value):
    return EvaluationRow(after, hospital, "case", "liver", "dice", value)


def filled(opts, ledger):
    results = Results(opts, ["a", "b"], ledger)
    scores = {(1, "a"): 0.8, (1, "b"): 0.3, (2, "a"): 0.5, (2, "b"): 0.9}
    results.matrix.append(row(*key, value) for key, value in scores.items())
    results.experiences.append({"after": 1, "hospital": "a", "steps": 2, "anonymous_peak": 7})
    results.seconds["training"] = 2.5
    results.anonymous_peak = 900
    return results


def test_the_document_names_the_run_and_its_scores(opts):
    document = filled(opts, Ledger()).document("finished")
    assert document == json.loads(json.dumps(document))
    assert document["schema"] == 1
    assert document["status"] == "finished"
    assert document["error"] is None
    assert document["run"] == {
        "name": "run",
        "strategy": "naive",
        "stream": "noise",
        "seed": 0,
        "group": "sweep",
        "config_hash": "abcd1234",
        "synthetic": False,
        "label_kinds": ["synthetic"],
        "training_cases": 3,
        "command": "lifelong-ct",
    }
    assert (document["hospitals"], document["unseen"]) == (["a", "b"], ["u"])
    assert document["organs"] == ["liver", "spleen"]
    assert document["seconds"] == {"reading": 0, "training": 2.5, "evaluation": 0, "total": 2.5}
    means = {(s["after"], s["hospital"]): s["mean"] for s in document["scores"] if s["organ"] == "mean"}
    assert means == {(1, "a"): 0.8, (1, "b"): 0.3, (2, "a"): 0.5, (2, "b"): 0.9}
    assert document["summary"]["acc"] == pytest.approx((0.5 + 0.9) / 2)
    assert document["summary"]["bwt"] == pytest.approx(0.5 - 0.8)
    assert document["summary"]["forgetting"] == pytest.approx(0.3)


def test_a_failure_keeps_its_error(opts):
    assert Results(opts, [], Ledger()).document("failed", "what\n  where: x")["error"] == "what\n  where: x"


def test_memory_is_told_per_kind_beside_its_limit(opts):
    ledger = Ledger({"ram": "1MiB"})
    results = Results(opts, ["a"], ledger)
    with ledger.reserve("ram", "x", 500):
        ledger.use("ram", "x", 300)
    ledger.admit("disk", "y", 40)
    results.anonymous_peak = 12345
    assert set(results.memory()) == set(KINDS)
    assert results.memory()["ram"] == {"limit": 1 << 20, "peak": 500, "used": 300, "measured": 12345}
    assert results.memory()["disk"] == {"limit": None, "peak": 40, "used": 0}


@pytest.mark.parametrize(("before", "after"), [(500, 200), (200, 500)])
def test_peaks_are_of_all_sessions(opts, before, after):
    first, second = Ledger({"ram": 600}), Ledger({"ram": 700})
    first.admit("ram", "x", before)
    first.use("ram", "x", before - 100)
    state = json.loads(json.dumps(filled(opts, first).state_dict()))
    resumed = Results(opts, ["a", "b"], second)
    resumed.load_state_dict(state)
    second.admit("ram", "x", after)
    second.use("ram", "x", after - 100)
    assert resumed.memory()["ram"] == {"limit": 700, "peak": 500, "used": 400, "measured": 900}


def test_a_resume_keeps_everything(opts):
    old = filled(opts, Ledger())
    new = Results(opts, ["a", "b"], Ledger())
    new.load_state_dict(json.loads(json.dumps(old.state_dict())))
    assert new.document("running") == old.document("running")
    new.seconds["training"] += 1
    assert new.document("running")["seconds"]["total"] == 3.5


def test_a_run_fills_it(opts):
    document = Run(opts, Heard()).execute()
    assert document["status"] == "finished"
    assert {(s["after"], s["hospital"]) for s in document["scores"]} == {
        (i, h) for i in range(3) for h in "abu"
    }
    assert [(e["after"], e["hospital"], e["steps"]) for e in document["experiences"]] == [
        (1, "a", 2),
        (2, "b", 2),
    ]
    assert [e["held"] for e in document["experiences"]] == [{}, {}]  # by no method
    assert set(document["summary_per_organ"]) == set(document["organs"])
    assert document["memory"]["ram"]["measured"] > 0
    assert document["seconds"]["training"] > 0
