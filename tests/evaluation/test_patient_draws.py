import itertools

import numpy as np
import pytest

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.resampling import PatientDraws, contributions, in_both, over_seeds
from lifelong_ct.evaluation.tasks import Task


def matrix(values: dict[tuple[str, str, str, str], float | None], after: int = 1) -> ResultMatrix:
    """(hospital, patient, case, organ) → Dice."""
    return ResultMatrix(
        EvaluationRow(after, hospital, case, organ, "dice", value, patient)
        for (hospital, patient, case, organ), value in values.items()
    )


TWO = matrix(
    {
        ("a", "p", "1", "liver"): 0.2,
        ("a", "p", "2", "liver"): 0.4,
        ("a", "q", "3", "liver"): 0.9,
        ("a", "q", "3", "spleen"): 0.5,
        ("a", "p", "1", "spleen"): None,
        ("b", "p", "4", "liver"): 0.8,
    }
)
TASKS = [Task(("a",)), Task(("b",))]


def test_scans_of_a_patient_move_together() -> None:
    draws = PatientDraws([TWO], resamples=4000)
    assert {hospital: set(names) for hospital, names in draws.patients.items()} == {
        "a": {"p", "q"},
        "b": {"p"},
    }
    found = draws.accuracy(TWO, TASKS)
    assert found[0] == pytest.approx(TWO.summary(TASKS)["acc"]) == pytest.approx((0.5 + 0.5) / 2 / 2 + 0.4)
    # hospital a of p p: liver .3 alone; of q q: (.9 + .5)/2; of both: ((.2 + .4 + .9)/3 + .5)/2
    seen, counts = np.unique(found[1:].round(9), return_counts=True)
    assert seen == pytest.approx([(0.3 + 0.8) / 2, (0.5 + 0.8) / 2, (0.7 + 0.8) / 2])
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_organs_that_nobody_has_taught_do_not_count() -> None:
    tasks = [Task(("a",), ("liver",)), Task(("a",), ("spleen",))]
    assert PatientDraws([TWO], 10).accuracy(TWO, tasks)[0] == pytest.approx(TWO.summary(tasks[:1])["acc"])


def test_patients_are_the_same_for_every_strategy() -> None:
    other = matrix({key: None if v is None else v + 0.1 for key, v in zip(KEYS, VALUES, strict=True)})
    draws = PatientDraws([TWO, other], resamples=50)
    assert draws.accuracy(other, TASKS) - draws.accuracy(TWO, TASKS) == pytest.approx(0.1)


KEYS = [(r.hospital, r.patient, r.case, r.organ) for r in TWO.rows()]
VALUES = [r.value for r in TWO.rows()]


def test_seeds_are_drawn_apart_from_patients() -> None:
    """Two seeds a constant apart: half the draws mix them, and the width of both sources adds."""
    values = np.array([np.full(4001, 0.2), np.full(4001, 0.6)])
    found = over_seeds(values)
    assert found[0] == pytest.approx(0.4)
    seen, counts = np.unique(found[1:].round(9), return_counts=True)
    assert seen == pytest.approx([0.2, 0.4, 0.6])
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    patients = np.random.default_rng(0).normal(0, 0.1, 4001)
    both = over_seeds(values + patients)
    assert both.var() == pytest.approx(0.02 + 0.01, rel=0.1)  # not 0.01/2: the same patients in both seeds
    assert over_seeds(values[:1] + patients) == pytest.approx(0.2 + patients)


def test_what_patients_add_is_the_difference() -> None:
    rng = np.random.default_rng(2)
    keys = list(itertools.product("ab", "pqr", ["liver", "spleen"]))
    one, two = (
        matrix({(h, p, f"{h}{p}{i}", o): rng.random() for h, p, o in keys for i in range(1 + (p == "q"))})
        for _ in range(2)
    )
    found = contributions(one, two, TASKS)
    assert set(found) == set(itertools.product("ab", "pqr"))
    assert sum(found.values()) == pytest.approx(one.summary(TASKS)["acc"] - two.summary(TASKS)["acc"])
    # hospital a has four cases of each organ: p's share is a quarter of its mean over organs, in one of two tasks
    own = [one.cases(1, "a")["ap0"] - two.cases(1, "a")["ap0"]]
    assert found["a", "p"] == pytest.approx(own[0] / 4 / 2)


def test_what_only_one_has_adds_nothing() -> None:
    one = matrix({("a", "p", "1", "liver"): 0.5, ("a", "q", "2", "liver"): 0.9})
    two = matrix({("a", "p", "1", "liver"): 0.4, ("a", "q", "2", "liver"): None})
    assert contributions(one, two, TASKS) == {("a", "p"): pytest.approx(0.1)}
    assert contributions(one, ResultMatrix(), TASKS) == {}


def test_a_prediction_that_only_one_makes_is_no_difference() -> None:
    """q's liver is absent: the second predicts it (0), the first does not (undefined). p alone can be compared."""
    one = matrix({("a", "p", "1", "liver"): 0.9, ("a", "q", "2", "liver"): None})
    two = matrix({("a", "p", "1", "liver"): 0.9, ("a", "q", "2", "liver"): 0.0})
    draws, among = PatientDraws([one, two], 10), in_both(one, two)
    both = [draws.accuracy(each, TASKS, among=among)[0] for each in (one, two)]
    assert both == [0.9, 0.9]
    assert draws.accuracy(two, TASKS)[0] == pytest.approx(0.45), "ACC is over what is defined"
    assert sum(contributions(one, two, TASKS).values()) == 0.0
    assert among == {("a", "liver"): {"1"}} == in_both(two, one)


def test_names_change_no_draw() -> None:
    scores = [(0.2, 0.5), (0.9, 0.1), (0.4, 0.8), (0.7, 0.3)]

    def named(names: str) -> ResultMatrix:
        both = zip(names, scores, strict=True)
        return matrix(
            {("a", n, n * 2, o): v for n, p in both for o, v in zip(("liver", "spleen"), p, strict=True)}
        )

    one, other = named("wxyz"), named("ydca")
    found = [PatientDraws([each], 200).accuracy(each, TASKS) for each in (one, other)]
    assert found[0] == pytest.approx(found[1])
    assert PatientDraws([other], 1).patients == {"a": ["y", "c", "a", "d"]}, "by .2 .4 .7 .9"


def test_a_metric_that_is_defined_where_dice_is_not() -> None:
    one = matrix({("a", "p", "1", "liver"): None})
    one.append([EvaluationRow(1, "a", "1", "liver", "volume_error", 3.0, "p")])
    assert PatientDraws([one], 5).accuracy(one, TASKS, "volume_error").tolist() == [3.0] * 6
