"""Runs with a router: what is scored, served, resumed and planned."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hospitals import Heard, options, stream
from tiny import model

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.models.parts import Learnt
from lifelong_ct.models.swapped import SwappedModel
from lifelong_ct.strategies.independent import Independent
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.training import checkpoint
from lifelong_ct.training.options import Requires
from lifelong_ct.training.results import Results
from lifelong_ct.training.run import Run
from lifelong_ct.training.serving import load_model

BOUNDARIES = Requires(boundaries=True)


def ran(folder: Path, plugin: Any = Independent, **more: Any) -> Run:
    made = stream({"name": "a"}, {"name": "b"}, unseen=[{"name": "c", "train": []}])
    given = {"new_plugins": lambda: [plugin()], "requires": BOUNDARIES, **more}
    run = Run(options(made, folder, **given), Heard())
    run.execute()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ran(tmp_path_factory.mktemp("run"))


def test_every_score_is_there_with_the_found_and_the_told_hospital(run: Run) -> None:
    matrix = run.results.matrix
    assert matrix.metrics == ["dice", "dice_told"]
    for after in (1, 2):
        for hospital in ("a", "b", "c"):
            assert (
                matrix.cases(after, hospital).keys()
                == matrix.cases(after, hospital, metric="dice_told").keys()
            )
    document = run.results.document("finished")
    assert document["summary_told"].keys() == document["summary"].keys()
    assert document["summary_told"]["acc"] == matrix.summary(run.results.tasks, "dice_told")["acc"]
    assert {s["metric"] for s in document["scores"]} == {"dice", "dice_told"}


def test_the_told_scores_are_those_of_the_hospitals_own_part(run: Run) -> None:
    parted = run.learner.model
    case = run.stream.hospitals[0].test[0]
    raw = run.stream.hospitals[0].layout.load(case)
    found = run.scorer._score_case(parted, raw, "a")
    alone = predict_labels(parted, raw.image[None], (16, 16, 16), 0.0, ranking=(0, 1))
    told = {organ: value for organ, metric, value in found if metric == "dice_told"}
    for i, organ in enumerate(raw.organs, start=1):
        channel = run.space.channel(organ)
        both = ((alone == channel) & (raw.label == i)).sum()
        assert told[organ] == pytest.approx(2 * both / ((alone == channel).sum() + (raw.label == i).sum()))


def test_the_router_is_judged_on_hospitals_that_were_learnt_once_it_has_a_choice(run: Run) -> None:
    router = run.results.document("finished")["router"]
    assert [(row["after"], row["hospital"]) for row in router["cases"]] == [(2, "a"), (2, "b")]
    assert router["accuracy"] == sum(row["right"] for row in router["cases"]) / 2


@pytest.mark.parametrize(
    ("learnt", "expected"),
    [
        (["a", "a"], {}),  # a stream of classes: every part is of the same hospital
        (["a"], {}),
        (["a", "b"], {"a": (1, 2), "b": (0, 1)}),
        (["a", "b", "b"], {"a": (1, 2)}),  # nobody can say which of two parts a case belongs to
        (["a", "b", "-c"], {"a": (1, 2), "b": (0, 1)}),  # c forbids that the router knows it
        (["a", "-b"], {}),
    ],
)
def test_only_hospitals_with_a_part_of_their_own_are_counted(
    run: Run, learnt: list[str], expected: dict[str, tuple[int, int]]
) -> None:
    """Two cases of a, one of which goes there, one of b that does not, and one of c."""
    made, scorer = SwappedModel(model()), copy.copy(run.scorer)
    made.learnt = [Learnt(name.strip("-"), (0, 1), not name.startswith("-")) for name in learnt]
    scorer.routing, last = {}, len(learnt) - 1
    for hospital, first in (("a", 0), ("a", last), ("b", 0), ("c", 0)):
        scorer._count(made, hospital, [first])
    assert scorer.routing == expected


def test_where_nobody_can_be_judged_there_is_no_accuracy(run: Run) -> None:
    results = Results(run.options, ["a"], run.ledger)
    results.load_state_dict(run.results.state_dict())
    results.routed(2, {})
    assert results.document("x")["router"] == {"accuracy": None, "cases": []}


def test_a_plain_model_has_no_router_in_its_document(tmp_path: Path) -> None:
    made = stream({"name": "a"}, {"name": "b"})
    document = Results(options(made, tmp_path), ["a"], Run(options(made, tmp_path), Heard()).ledger).document(
        "x"
    )
    assert not {"router", "summary_told"} & document.keys()


def test_a_repeated_evaluation_counts_once(run: Run) -> None:
    results = Results(run.options, ["a"], run.ledger)
    results.routed(1, {"a": (0, 2)})
    results.routed(1, {"a": (1, 2)})
    again = Results(run.options, ["a"], run.ledger)
    again.load_state_dict(results.state_dict())
    assert again.router == [{"after": 1, "hospital": "a", "right": 1, "cases": 2}]


def test_a_served_model_is_the_trained_one(run: Run) -> None:
    served = load_model(run.options.folder / "checkpoints" / "after_002", lambda: model(seed=99))
    image = torch.randint(-500, 500, (1, 20, 18, 16), dtype=torch.int16)
    expected = predict_labels(run.learner.model, image, (16, 16, 16))
    assert (predict_labels(served.model, image, served.roi) == expected).all()
    assert served.model.route(image) == run.learner.model.route(image)


def test_it_resumes_to_the_same_weights_scores_and_ledger(run: Run, tmp_path: Path) -> None:
    trainer = replace(options(run.stream, tmp_path).trainer, stop_after=1)
    ran(tmp_path, trainer=trainer)
    resumed = ran(tmp_path)
    whole = run.results.document("x")
    document = resumed.results.document("x")
    for key in ("scores", "summary", "summary_told", "router"):
        assert document[key] == whole[key]
    one, two = (
        checkpoint.load(r.options.folder / "checkpoints" / "after_002")["learner"] for r in (run, resumed)
    )
    assert one["structure"] == two["structure"]
    assert all(torch.equal(one["model"][n], two["model"][n]) for n in one["model"])
    assert resumed.ledger.held("gpu") == run.ledger.held("gpu")


def test_the_plan_counts_the_growth_over_the_stream(tmp_path: Path) -> None:
    found = {}
    for count in (2, 5):
        made = stream(*({"name": f"h{i}"} for i in range(count)))
        run = Run(options(made, tmp_path, new_plugins=lambda: [Independent()], requires=BOUNDARIES), Heard())
        found[count] = {(d.kind, d.owner): d.nbytes for d in run.demands()}
    plain = model()
    plain.grow(3)
    network = sum(4 * p.numel() for p in plain.parameters())
    grown = found[5]["gpu", "Independent"] - found[2]["gpu", "Independent"]
    assert grown == 3 * (network + 8 * 8)
    assert (
        found[5]["disk", "checkpoints"] - found[2]["disk", "checkpoints"] == 3 * grown
    )  # two kept, one in writing


def test_beside_another_method_it_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    given = {"new_plugins": lambda: [LwF(1.0), Independent()], "requires": BOUNDARIES}
    run = Run(options(stream({"name": "a"}), tmp_path, **given), Heard())
    with pytest.raises(LifelongCTError, match="cannot be combined with LwF"):
        run.execute()
    assert not (tmp_path / "store").exists()


def test_told_columns_come_back_from_the_table(run: Run, tmp_path: Path) -> None:
    run.results.matrix.write_cases_csv(tmp_path / "cases.csv")
    again = ResultMatrix.read_cases_csv(tmp_path / "cases.csv")
    assert again.metrics == ["dice", "dice_told"]
    assert set(again.rows()) == set(run.results.matrix.rows())
