import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.acceptance_rules import DEFAULT, Limits, parse_rules, read_rules


def rules(**changes: Any) -> dict[str, Any]:
    return {"metrics": {"dice": {"margin": 0.02}}, **changes}


def test_the_shipped_rules() -> None:
    found = read_rules()
    assert found.limits("any", "liver", "dice") == Limits(0.02, 0.05, 0.10, 0.10)
    assert (found.alpha, found.minimum_patients) == (0.05, 20)
    assert parse_rules(rules()).minimum_patients == found.minimum_patients
    assert found.undecided_blocks
    assert found.missing_blocks
    assert (found.hospitals, found.organs) == (None, None)


def test_the_last_exception_that_fits_counts() -> None:
    found = parse_rules(
        rules(
            metrics={"dice": {"margin": 0.02, "worst_decile": 0.1}, "hd95": {"margin": 2}},
            exceptions=[
                {"organ": "pancreas", "margin": 0.04},
                {
                    "organ": "pancreas",
                    "hospital": "north",
                    "metric": "dice",
                    "margin": 0.05,
                    "worst_decile": None,
                },
            ],
        )
    )
    assert found.limits("south", "liver", "dice") == Limits(0.02, worst_decile=0.1)
    assert found.limits("south", "pancreas", "dice") == Limits(0.04, worst_decile=0.1)
    assert found.limits("north", "pancreas", "dice") == Limits(0.05)
    assert found.limits("north", "pancreas", "hd95") == Limits(0.04)
    assert found.higher == {"dice"}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, ["None", "mapping"]),
        ({}, ["metrics"]),
        (rules(metrics={}), ["metric"]),
        (rules(metrics={"dice": {}}), ["margin", "metrics.dice"]),
        (rules(alfa=0.05), ["alfa", "did you mean alpha?"]),
        (rules(metrics={"dice": {"margn": 0.1}}), ["margn", "did you mean margin?", "metrics.dice"]),
        (rules(metrics={"dice": {"margin": "much"}}), ["much", "metrics.dice.margin"]),
        (rules(metrics={"dice": {"margin": -0.1}}), ["-0.1"]),
        (rules(metrics={"dice": {"margin": True}}), ["True"]),
        (rules(metrics={"dice": {"margin": float("nan")}}), ["nan"]),
        (rules(metrics={"dice": {"margin": 0.1, "negative_flips": {"loss": 0.05}}}), ["share"]),
        (rules(metrics={"dice": {"margin": 0.1, "negative_flips": {"share": 1.5}}}), ["1.5", "from 0 to 1"]),
        (rules(metrics={"dice": {"margin": 0.1, "better": "up"}}), ["up", "higher or lower"]),
        (rules(metrics={"mine": {"margin": 0.1}}), ["mine", "better: higher"]),
        (rules(alpha=0), ["alpha"]),
        (rules(minimum_patients=1), ["minimum_patients"]),
        (rules(undecided="maybe"), ["maybe", "block or allow"]),
        (rules(hospitals="north"), ["north", "list"]),
        (
            rules(exceptions=[{"organs": "liver", "margin": 0.1}]),
            ["organs", "did you mean organ?", "exceptions[0]"],
        ),
        (rules(exceptions=[{"metric": "dise", "margin": 0.1}]), ["dise", "did you mean dice?"]),
        (rules(exceptions={"organ": "liver"}), ["exceptions", "list"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(told: Any, words: list[str]) -> None:
    with pytest.raises(LifelongCTError) as error:
        parse_rules(told)
    for word in words:
        assert word in str(error.value)


def test_metrics_of_one_s_own_say_what_is_better() -> None:
    told = rules(
        metrics={"mine": {"margin": 1, "better": "higher"}, "yours": {"margin": 1, "better": "lower"}}
    )
    assert parse_rules(told).higher == {"mine"}
    less = ["hd95", "asd", "volume_abs_error_ml", "lesion_false_positives"]
    more = ["dice", "dice_told", "iou", "nsd", "lesion_sensitivity"]
    assert parse_rules(rules(metrics={n: {"margin": 1} for n in less + more})).higher == set(more)


def test_files_that_are_no_rules(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path / "bad.yaml", tmp_path / "binary.yaml", tmp_path):
        with pytest.raises(LifelongCTError) as error:
            read_rules(path)
        assert error.value.where == str(path)
    assert DEFAULT.is_file()


def test_the_rules_of_the_page_are_the_shipped_ones_with_exceptions() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "compare.md"
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    told = yaml.safe_load(block)
    found = parse_rules(told)
    assert found.limits("harbour", "liver", "dice") == Limits(0.01, 0.05, 0.10, 0.05)
    assert found.limits("harbour", "pancreas", "dice").margin == 0.03
    assert {**told, "exceptions": []} == yaml.safe_load(DEFAULT.read_text())
