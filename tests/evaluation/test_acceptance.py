import math
from typing import Any

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.acceptance import Judgement, judge
from lifelong_ct.evaluation.acceptance_cell import Cell
from lifelong_ct.evaluation.acceptance_rules import Rules, parse_rules
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.noninferiority import non_inferiority
from lifelong_ct.evaluation.statistics import holm

Values = dict[tuple[str, str], list[float | None]]
"""(hospital, organ) → one score per patient."""


def matrix(values: Values, metric: str = "dice", after: int = 1, patients: int = 0) -> ResultMatrix:
    """The i-th value is of case i; with `patients`, of patient i mod that."""
    return ResultMatrix(
        EvaluationRow(
            after, hospital, f"{hospital}{i}", organ, metric, value, f"p{i % patients}" if patients else ""
        )
        for (hospital, organ), each in values.items()
        for i, value in enumerate(each)
    )


def rules(minimum: int = 4, **more: Any) -> Rules:
    told = {
        "minimum_patients": minimum,
        "metrics": {"dice": {"margin": 0.05, **more.pop("dice", {})}},
        **more,
    }
    return parse_rules(told)


def only(found: Judgement) -> Cell:
    (cell,) = found.cells
    return cell


OLD = [0.90, 0.85, 0.80, 0.88, 0.91, 0.79, 0.84, 0.86, 0.93, 0.87]
NOISE = [0.004, -0.003, 0.006, -0.005, 0.001, 0.002, -0.004, 0.003, -0.002, 0.005]
SAME = [a + b for a, b in zip(OLD, NOISE, strict=True)]
WORSE = [a - 0.08 + b for a, b in zip(OLD, NOISE, strict=True)]


def test_a_model_that_is_as_good_is_accepted() -> None:
    found = judge(matrix({("north", "liver"): OLD}), matrix({("north", "liver"): SAME}), rules())
    cell = only(found)
    assert (found.decision, found.exit_code) == (cell.decision, 0) == ("accepted", 0)
    assert cell.gain == pytest.approx(0.0007)
    assert (cell.old, cell.new) == (pytest.approx(np.mean(OLD)), pytest.approx(np.mean(SAME)))
    assert cell.reasons == ()


def test_a_regression_of_one_organ_at_one_hospital_is_named() -> None:
    cells = [(h, o) for h in ("north", "south") for o in ("liver", "spleen", "pancreas")]
    old = matrix(dict.fromkeys(cells, OLD))
    new = matrix({cell: WORSE if cell == ("south", "spleen") else SAME for cell in cells})
    found = judge(old, new, rules())
    assert (found.decision, found.exit_code) == ("blocked", 2)
    (bad,) = [cell for cell in found.cells if cell.decision != "accepted"]
    assert (bad.hospital, bad.organ, bad.decision) == ("south", "spleen", "blocked")
    assert "0.079" in bad.reasons[0]


def test_holm_is_over_all_cells() -> None:
    rng = np.random.default_rng(0)
    cells = [(h, o) for h in "abc" for o in ("liver", "spleen")]
    gains = {cell: rng.normal(-0.03, 0.03, 10) for cell in cells}
    old = matrix(dict.fromkeys(cells, OLD))
    new = matrix({cell: [a + g for a, g in zip(OLD, gains[cell], strict=True)] for cell in cells})
    found = judge(old, new, rules())
    raw = [non_inferiority(gains[cell], 0.05).p for cell in cells]
    assert [cell.test.p for cell in found.cells] == pytest.approx(raw)
    assert [cell.p for cell in found.cells] == pytest.approx(holm(raw))
    assert {cell.decision for cell in found.cells} == {"accepted", "blocked"}


def test_too_few_patients_are_undecided_unless_they_lose_more_than_the_margin() -> None:
    for allowed, code in (("block", 2), ("allow", 0)):
        few = rules(minimum=11, undecided=allowed)
        found = judge(matrix({("h", "liver"): OLD}), matrix({("h", "liver"): SAME}), few)
        assert (found.decision, found.exit_code) == ("undecided", code)
        assert only(found).reasons == ("10 patients, 11 are needed",)
        assert only(found).test is None
        found = judge(matrix({("h", "liver"): OLD}), matrix({("h", "liver"): WORSE}), few)
        assert (found.decision, found.exit_code) == ("blocked", 2)


def test_reasons_are_told_the_worst_first_and_what_is_undecided_once_per_hospital() -> None:
    few: Values = {("a", "liver"): OLD[:3], ("a", "spleen"): OLD[:3], ("b", "liver"): OLD}
    new = {**few, ("b", "liver"): WORSE}
    first, second = judge(matrix(few), matrix(new), rules()).told()
    assert first.startswith(
        "blocked: b, liver, dice: not shown to lose less than the margin 0.05: mean gain -0.0793, p"
    )
    assert second == "undecided: a, liver spleen, dice: 3 patients, 4 are needed"


def test_what_is_undecided_is_no_part_of_holm() -> None:
    old = matrix({("a", "liver"): OLD, ("b", "liver"): OLD[:3]})
    new = matrix({("a", "liver"): SAME, ("b", "liver"): SAME[:3]})
    first, second = judge(old, new, rules()).cells
    assert first.p == first.test.p
    assert second.p is None


def test_scans_of_one_patient_are_one_witness() -> None:
    old, new = (matrix({("h", "liver"): v}, patients=5) for v in (OLD, SAME))
    cell = only(judge(old, new, rules()))
    assert cell.patients == 5
    means = [(SAME[i] - OLD[i] + SAME[i + 5] - OLD[i + 5]) / 2 for i in range(5)]
    assert cell.test.p == pytest.approx(non_inferiority(means, 0.05).p)
    # an old file does not know the patients; the new one does
    assert only(judge(matrix({("h", "liver"): OLD}), new, rules())).patients == 5


def test_negative_flips() -> None:
    new = [a + 0.03 for a in OLD]
    new[0], new[1] = OLD[0] - 0.06, OLD[1] - 0.05  # a loss of just 0.05 is none of more than 0.05
    pair = matrix({("h", "liver"): OLD}), matrix({("h", "liver"): new})
    allowed = judge(*pair, rules(dice={"negative_flips": {"loss": 0.05, "share": 0.1}}))
    assert (only(allowed).flips, allowed.decision) == (1, "accepted")
    found = judge(*pair, rules(dice={"negative_flips": {"loss": 0.05, "share": 0.09}}))
    assert found.decision == "blocked"
    assert only(found).reasons == ("1 of 10 patients lost more than 0.05",)


def test_the_worst_tenth() -> None:
    """Of 11 patients the worst two: old 0.5 and 0.6, new 0.4 and 0.4."""
    old = [0.5, 0.6] + [0.9] * 9
    new = [0.95, 0.95] + [0.9] * 7 + [0.4, 0.4]
    pair = matrix({("h", "liver"): old}), matrix({("h", "liver"): new})
    found = judge(*pair, rules(dice={"margin": 0.9, "worst_decile": 0.14}))
    cell = only(found)
    assert (cell.worst_old, cell.worst_new) == (pytest.approx(0.55), pytest.approx(0.4))
    assert cell.reasons == ("the worst tenth of 11 patients lost 0.15, more than 0.14",)
    assert judge(*pair, rules(dice={"margin": 0.9, "worst_decile": 0.15})).decision == "accepted"


def test_less_is_better_for_distances() -> None:
    old = [2.0, 3.0, 2.5, 4.0, 3.5, 2.2]
    told = {
        "minimum_patients": 4,
        "metrics": {"hd95": {"margin": 1, "negative_flips": {"loss": 5, "share": 0}, "worst_decile": 5}},
    }
    pair = [matrix({("h", "liver"): v}, "hd95") for v in (old, [v + 8 for v in old], [v - 1 for v in old])]
    worse = judge(pair[0], pair[1], parse_rules(told))
    cell = only(worse)
    assert (worse.decision, cell.flips) == ("blocked", 6)
    assert (cell.worst_old, cell.worst_new) == (4.0, 12.0)
    assert cell.gain == pytest.approx(-8)
    assert len(cell.reasons) == 3
    assert judge(pair[0], pair[2], parse_rules(told)).decision == "accepted"


def test_a_score_that_the_new_model_lacks_blocks() -> None:
    new: Values = {("h", "liver"): [*SAME[:9], None]}
    pair = matrix({("h", "liver"): OLD}), matrix(new)
    found = judge(*pair, rules())
    assert (found.decision, only(found).missing) == ("blocked", 1)
    assert only(found).reasons == ("the new model lacks a score of 1 patient",)
    assert judge(*pair, rules(missing="allow")).decision == "accepted"


def test_an_organ_that_lost_all_its_scores_at_a_hospital() -> None:
    old = matrix({("a", "liver"): OLD, ("b", "liver"): OLD})
    new = matrix({("a", "liver"): SAME, ("b", "liver"): [None] * 10, ("b", "spleen"): SAME})
    cell = judge(old, new, rules()).cells[1]
    assert (cell.hospital, cell.patients, cell.missing, cell.decision) == ("b", 0, 10, "blocked")
    assert math.isnan(cell.gain)


@pytest.mark.parametrize("metric", ["dice", "iou", "nsd", "dice_told"])
def test_an_absent_organ_that_only_one_model_draws(metric: str) -> None:
    """Nobody has a spleen: who draws none has no score, who draws one has 0."""
    told = parse_rules({"minimum_patients": 4, "metrics": {metric: {"margin": 0.05}}})
    drawn: Values = {("a", "liver"): OLD, ("a", "spleen"): [0.0] * 10}
    left_out: Values = {("a", "liver"): SAME, ("a", "spleen"): [None] * 10}
    worse = judge(matrix(left_out, metric), matrix(drawn, metric), told)
    (cell,) = [cell for cell in worse.cells if cell.organ == "spleen"]
    assert (cell.gain, cell.patients, cell.missing, cell.decision) == (-1.0, 10, 0, "blocked")
    assert (cell.old, cell.new, worse.only_new) == (1.0, 0.0, ())
    better = judge(matrix(drawn, metric), matrix(left_out, metric), told)
    (cell,) = [cell for cell in better.cells if cell.organ == "spleen"]
    assert (cell.gain, cell.patients, cell.missing, cell.decision) == (1.0, 10, 0, "accepted")
    assert better.decision == "accepted"


def test_present_and_absent_organs_share_a_cell() -> None:
    """Losses: 0 of three with the organ, 1 of the one whose absent organ the new model draws; the one that neither
    draws tells nothing."""
    old = matrix({("a", "spleen"): [0.9, 0.8, 0.7, None, None]})
    new = matrix({("a", "spleen"): [0.9, 0.8, 0.7, 0.0, None]})
    found = judge(old, new, rules(dice={"negative_flips": {"loss": 0.5, "share": 0.2}}))
    cell = only(found)
    assert (cell.patients, cell.gain, cell.flips, cell.missing) == (4, -0.25, 1, 0)
    assert found.decision == "blocked"
    assert only(judge(new, old, rules())).gain == 0.25


def test_a_hospital_where_every_organ_is_absent() -> None:
    old, new = matrix({("a", "spleen"): [None] * 5}), matrix({("a", "spleen"): [0.0] * 5})
    assert (judge(old, new, rules()).decision, judge(new, old, rules()).decision) == ("blocked", "accepted")


def test_an_absent_organ_of_a_case_that_the_new_model_never_saw_is_missing() -> None:
    old = matrix({("a", "spleen"): [*OLD, None]})
    assert only(judge(old, matrix({("a", "spleen"): SAME}), rules())).missing == 1


def test_distances_say_nothing_of_absent_organs() -> None:
    told = parse_rules({"minimum_patients": 4, "metrics": {"hd95": {"margin": 1}}})
    old, new = [2.0, 3.0, 2.5, 4.0, None], [2.0, 3.0, 2.5, 4.0, 0.0]
    pair = matrix({("a", "liver"): old}, "hd95"), matrix({("a", "liver"): new}, "hd95")
    assert (only(judge(*pair, told)).patients, only(judge(*pair, told)).missing) == (4, 0)
    assert only(judge(*pair[::-1], told)).missing == 1


def test_the_last_experience_of_each_counts() -> None:
    old = matrix({("h", "liver"): OLD}, after=2)
    old.append(EvaluationRow(1, "h", f"h{i}", "liver", "dice", 0.1) for i in range(10))
    assert only(judge(old, matrix({("h", "liver"): SAME}, after=5), rules())).old == pytest.approx(
        np.mean(OLD)
    )


def test_what_only_the_new_one_knows_is_told() -> None:
    new = matrix({("a", "liver"): SAME, ("b", "liver"): SAME, ("a", "colon"): SAME})
    found = judge(matrix({("a", "liver"): OLD}), new, rules())
    assert (found.decision, found.only_new) == ("accepted", ("a: colon", "b"))


@pytest.mark.parametrize(
    ("old", "new", "more", "words"),
    [
        (("a", "liver"), ("b", "liver"), {}, ["'a'", "new model"]),
        (("north", "liver"), ("nroth", "liver"), {}, ["'north'", "did you mean nroth?"]),
        (("a", "liver"), ("a", "spleen"), {}, ["organ 'liver'", "new model"]),
        (("a", "liver"), ("a", "liver"), {"hospitals": ["z"]}, ["hospital 'z'", "old model"]),
        (("a", "liver"), ("a", "liver"), {"organs": ["livr"]}, ["'livr'", "did you mean liver?"]),
        (
            ("a", "liver"),
            ("a", "liver"),
            {"exceptions": [{"organ": "livr", "margin": 1}]},
            ["did you mean liver?"],
        ),
        (("a", "liver"), ("a", "liver"), {"metrics": {"iou": {"margin": 1}}}, ["metric 'iou'", "dice"]),
    ],
)
def test_models_that_cannot_be_compared(
    old: tuple[str, str], new: tuple[str, str], more: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(LifelongCTError) as error:
        judge(matrix({old: OLD}), matrix({new: SAME}), rules(**more))
    for word in words:
        assert word in str(error.value)


def test_no_shared_case() -> None:
    other = ResultMatrix([EvaluationRow(1, "h", "elsewhere", "liver", "dice", 0.9)])
    with pytest.raises(LifelongCTError, match=r"paths\.state"):
        judge(matrix({("h", "liver"): OLD}), other, rules())


def test_rules_may_choose_hospitals_and_organs() -> None:
    old = matrix({("a", "liver"): OLD, ("b", "liver"): OLD, ("a", "spleen"): OLD})
    new = matrix({("a", "liver"): SAME, ("c", "liver"): SAME, ("a", "spleen"): WORSE})
    assert judge(old, new, rules(hospitals=["a"], organs=["liver"])).decision == "accepted"


def test_a_hospital_that_is_no_longer_scored_at_the_end_is_told() -> None:
    """Between experiences only some hospitals may be scored; of a run that stops there the others would drop out."""
    whole = matrix({("a", "liver"): SAME}, after=2)
    lost = matrix({("a", "liver"): OLD}, after=2)
    lost.append(matrix({("b", "liver"): OLD}, after=1).rows())
    for pair, name in (((lost, whole), "old"), ((whole, lost), "new")):
        with pytest.raises(
            LifelongCTError, match=f"the {name} model was scored on b before, and not after experience 2"
        ):
            judge(*pair, rules())
        assert judge(*pair, rules(hospitals=["a"])).decision == "accepted"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"hospitals": ["a", "b"], "organs": ["liver"]}, ["hospital 'b'", "compared are a"]),
        ({"hospitals": ["b"], "organs": ["liver", "spleen"]}, ["organ 'liver'", "compared are spleen"]),
        (
            {"metrics": {"dice": {"margin": 0.1}, "hd95": {"margin": 1}}},
            ["metric 'hd95'", "compared are dice"],
        ),
        (
            {"exceptions": [{"hospital": "b", "organ": "liver", "margin": 0.01}]},
            ["no cell is of b liver", "a liver dice, b spleen dice"],
        ),
        ({"exceptions": [{"hospital": "b", "margin": 0.01}], "hospitals": ["a"]}, ["no cell is of b"]),
    ],
)
def test_rules_that_guard_nothing_are_told(more: dict[str, Any], words: list[str]) -> None:
    """Each name is known, but liver is scored at a and spleen at b, and no distance has a value."""
    values: Values = {("a", "liver"): OLD, ("b", "spleen"): OLD}
    pair = [matrix(values), matrix(values)]
    for model in pair:
        model.append(matrix(dict.fromkeys(values, [None] * 10), "hd95").rows())
    with pytest.raises(LifelongCTError) as error:
        judge(*pair, rules(**more))
    for word in words:
        assert word in str(error.value)
