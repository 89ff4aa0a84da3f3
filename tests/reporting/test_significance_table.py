from dataclasses import replace

from lifelong_ct.evaluation.ranking import Rank
from lifelong_ct.evaluation.statistics import Interval
from lifelong_ct.reporting.significance import Judged, Verdicts, Versus
from lifelong_ct.reporting.significance_table import legend, mark, significance_table, strata_table

NAIVE = Versus("naive", 0.1, 0.05, 0.15, 0.0004, 20, 3, "better")
BEST = Versus("lwf", -0.01, -0.03, 0.01, 0.4, 20, 3, "not shown")
RANK = Rank(2.0, 1.75, 1.0, 3.0, 0.3)
ROW = Judged(Interval(0.7, 0.65, 0.75, 20), BEST, NAIVE, RANK, {"expert": Interval(0.7, 0.6, 0.8, 20)}, "")


def test_marks() -> None:
    assert mark(ROW) == "+="
    assert mark(replace(ROW, best=replace(BEST, mark="worse"))) == "+"
    assert mark(replace(ROW, baseline=replace(NAIVE, mark="worse"), best=None)) == "-"
    assert mark(replace(ROW, baseline=replace(NAIVE, mark="not shown"), best=None)) == ""
    assert mark(replace(ROW, baseline=None, best=replace(BEST, mark="too few"))) == ""


def test_a_row_says_numbers_and_mark() -> None:
    few = Judged(
        Interval(0.7, None, None, 3),
        None,
        replace(NAIVE, p=None, mark="too few"),
        None,
        {},
        "3 patients: no interval",
    )
    rows = significance_table(Verdicts({"ewc": ROW, "few": few}, 0.8, 0.9))
    assert rows == [
        [
            "ewc",
            "0.700 [0.650, 0.750]",
            "+0.100, p < 0.001: better",
            "-0.010, p = 0.400: not shown",
            "1.8 [1, 3], first 30%",
            "",
        ],
        ["few", "0.700", "+0.100, too few patients to test", "–", "–", "3 patients: no interval"],
    ]


def test_kinds_of_label_have_a_table_where_they_differ() -> None:
    both = replace(ROW, strata={"expert": Interval(0.7, 0.6, 0.8, 20), "model": Interval(0.9, None, None, 2)})
    assert strata_table(Verdicts({"ewc": ROW}, None, None)) == []
    assert strata_table(Verdicts({"ewc": both}, None, None)) == [
        ["ewc", "expert", "20", "0.700 [0.600, 0.800]"],
        ["ewc", "model", "2", "0.900"],
    ]


def test_the_legend_says_how_stable_the_order_is() -> None:
    assert "τ = 0.80; seeds agree on it with W = 0.90." in legend(Verdicts({}, 0.8, 0.9))
    assert "τ = 0.80." in legend(Verdicts({}, 0.8, None))
    assert "τ" not in legend(Verdicts({}, None, None))
