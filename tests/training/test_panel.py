from dataclasses import replace
from pathlib import Path

import pytest
from hospitals import stream

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case, EvaluationRow
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.panel import Panel, chosen

NAMES = [f"h{i}" for i in range(1, 9)]


def case(folder: Path, i: int, organs: tuple[str, ...] = ("liver",), name: str = "case") -> Case:
    path = folder / f"{name}_{i}.nii.gz"
    path.write_bytes(bytes([i]) * 100)
    return Case("h", f"{name}_{i}", f"patient {i}", "test", organs, (path,))


def test_what_is_chosen_does_not_depend_on_names_or_order(tmp_path: Path) -> None:
    cases = [case(tmp_path, i) for i in range(12)]
    first = {c.images[0].read_bytes() for c in chosen(cases, 4)}
    assert len(first) == 4
    turned = chosen(cases[::-1], 4)
    assert {c.images[0].read_bytes() for c in turned} == first
    assert [cases.index(c) for c in turned] == sorted((cases.index(c) for c in turned), reverse=True)
    (tmp_path / "other").mkdir()
    renamed = [case(tmp_path / "other", i, name=f"z{11 - i}") for i in range(12)]
    assert {c.images[0].read_bytes() for c in chosen(renamed, 4)} == first


def test_a_smaller_panel_is_part_of_a_larger_one_and_a_large_one_is_all(tmp_path: Path) -> None:
    cases = [case(tmp_path, i) for i in range(6)]
    two, three = ({c.id for c in chosen(cases, count)} for count in (2, 3))
    assert two < three
    assert chosen(cases, None) == chosen(cases, 6) == chosen(cases, 99) == tuple(cases)


@pytest.mark.parametrize("rare", range(6))
def test_an_organ_that_one_case_annotates_is_in_the_panel(tmp_path: Path, rare: int) -> None:
    cases = [case(tmp_path, i) for i in range(6)]
    cases[rare] = replace(cases[rare], organs=("liver", "spleen"))
    assert cases[rare] in chosen(cases, 2)


def scored(panel: Panel, upto: int) -> dict[int, list[str]]:
    """Hospitals by row, as a run over all of the stream would score them."""
    matrix, found = ResultMatrix(), {}
    for after in range(upto + 1):
        found[after] = [h.name for h in panel.after(after, after == len(NAMES), matrix)]
        matrix.append(EvaluationRow(after, name, "1", "liver", "dice", 0.5) for name in found[after])
    return found


def test_the_hospitals_in_between_are_those_near_and_then_the_oldest_scores() -> None:
    """Four of eight: the one just learnt, the next one, and two in turn."""
    made = stream(*({"name": name} for name in NAMES))
    found = scored(Panel(made, hospitals=4), 8)
    assert found[0] == found[8] == NAMES
    assert found[1] == ["h1", "h2", "h3", "h4"]
    assert found[2] == ["h2", "h3", "h5", "h6"]
    assert found[3] == ["h3", "h4", "h7", "h8"]
    assert found[4] == ["h1", "h2", "h4", "h5"]
    assert all({NAMES[i - 1], NAMES[i]} <= set(found[i]) for i in range(1, 8)), (
        "the diagonal, and the one above"
    )


def test_what_is_scored_grows_with_the_hospitals_not_with_their_square() -> None:
    made = stream(*({"name": name, "test": [16] * 5} for name in NAMES))
    whole, bounded = Panel(made), Panel(made, cases=2, hospitals=4)
    counts = [
        sum(len(h.test) for after in range(9) for h in panel.after(after, after == 8, ResultMatrix()))
        for panel in (whole, bounded)
    ]
    assert counts == [9 * 8 * 5, 8 * 2 + 7 * 4 * 2 + 8 * 5]


def test_within_an_experience_the_hospitals_learnt_so_far() -> None:
    made = stream(*({"name": name, "test": [16] * 3} for name in NAMES[:3]), unseen=[{"name": "u"}])
    panel = Panel(made, cases=1)
    assert [(h.name, len(h.test)) for h in panel.within(2)] == [("h1", 1), ("h2", 1)]


def test_within_an_experience_of_a_long_stream_the_hospitals_learnt_last() -> None:
    panel = Panel(stream(*({"name": name} for name in NAMES)), hospitals=3)
    assert [h.name for h in panel.within(2)] == ["h1", "h2"]
    assert [h.name for h in panel.within(8)] == ["h6", "h7", "h8"]


def test_all_of_the_present_hospitals_are_scored_within_however_few_are_allowed() -> None:
    made = stream(*({"name": name} for name in NAMES[:3]))
    made.experiences = [replace(made.experiences[0], task=Task(tuple(NAMES[:3])))]
    assert [h.name for h in Panel(made, hospitals=2).within(1)] == NAMES[:3]


@pytest.mark.parametrize("key", ["panel", "panel_hospitals", "within"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_what_is_no_number_of_cases_hospitals_or_steps_is_told(key: str, value: object) -> None:
    with pytest.raises(LifelongCTError, match=f"{key}=") as error:
        EvaluationOptions([Dice()], roi=(8, 8, 8), **{key: value})
    assert error.value.where == f"evaluation.{key}"
