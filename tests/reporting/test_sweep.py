import os
from pathlib import Path

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.reporting.collecting import GOES_ON, collect
from lifelong_ct.reporting.comparison import compare
from lifelong_ct.reporting.run_folder import PAGE, RunFolder
from lifelong_ct.reporting.sweep import sentence, write_report
from lifelong_ct.reporting.sweep_figures import met_so_far, sweep_figures
from lifelong_ct.reporting.sweep_tables import to_latex, to_markdown

KEPT = [[0.1] * 4, [0.8, 0.4, 0.3, 0.3], [0.75, 0.8, 0.4, 0.4], [0.78, 0.78, 0.9, 0.5]]
"""What a better strategy leaves: ACC (.78 + .78 + .9) / 3 = .82, BWT ((.78 - .8) + (.78 - .8)) / 2 = -.02."""


@pytest.fixture
def runs(tmp_path: Path, made_up) -> Path:
    """naive and replay with two seeds, a joint run, a failed one, one that is running, and a broken folder."""
    for seed in (0, 1):
        for strategy, dice, exemplars in (("naive", None, 0), ("replay", KEPT, 3 << 20)):
            config = {"strategy": {"name": strategy}, "seed": seed}
            run = made_up(name=f"toy-{strategy}-s{seed}-0a", strategy=strategy, seed=seed, config=config)
            run.dice, run.exemplars = dice or run.dice, exemplars
            run.play(RunFolder(tmp_path / run.name, str))
            (tmp_path / run.name / PAGE).write_text("fresh: a page costs a second")
    needs = {"past_data": True, "reinitialise": True}
    joint = made_up(name="toy-joint-s0-0a", strategy="joint", first=3)
    joint.config = {"strategy": {"name": "joint", "requires": needs}, "seed": 0}
    folder = RunFolder(tmp_path / joint.name, str)
    joint.start(folder)
    joint.experience(folder, 3)
    joint.end(folder)
    failed, running = made_up(name="toy-ewc-s0-0a"), made_up(name="toy-lwf-s0-0a")
    for run in (failed, running):
        folder = RunFolder(tmp_path / run.name, str)
        run.start(folder)
        run.experience(folder, 1)
        if run is failed:
            run.end(folder, "failed", upto=1, error="needs 5 GiB of ram")
    (tmp_path / "toy-mas-s0-0a").mkdir()
    (tmp_path / "toy-mas-s0-0a" / ".lock").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text("{")
    (tmp_path / "notes.txt").write_text("not a run")
    (tmp_path / "Anna Beispiel 1950").mkdir()
    (tmp_path / "Anna Beispiel 1950" / "ct.nii.gz").write_bytes(b"no run either")
    return tmp_path


def test_what_is_not_finished_is_listed(runs: Path) -> None:
    found = collect(runs)
    assert [run.path.name for run in found.finished] == [
        "toy-joint-s0-0a",
        "toy-naive-s0-0a",
        "toy-naive-s1-0a",
        "toy-replay-s0-0a",
        "toy-replay-s1-0a",
    ]
    left = {run.name: run for run in found.left_out}
    failed, running = left["toy-ewc-s0-0a"], left["toy-lwf-s0-0a"]
    assert (failed.status, failed.why) == ("failed", "needs 5 GiB of ram")
    assert (running.status, running.progress, running.why) == ("running", "1 of 3 experiences", GOES_ON)
    assert running.score == "0.500"  # (.8 + .4 + .3) / 3: so far
    assert left["broken"].status == "not readable"
    assert left["toy-mas-s0-0a"].status == "starting"
    assert len(left) == 4


def test_the_report_of_a_sweep(runs: Path, parse) -> None:
    path = write_report(runs)
    assert path == runs / "report" / "comparison.html"
    page = parse(path)
    assert (
        "3 strategies learnt 3 hospitals of the stream toy, up to 2 seeds each. At the end replay has the highest "
        "mean Dice, 0.820; naive training has 0.700. naive forgets most: backward transfer -0.200."
    ) in page.text
    assert "replay 2 0.820 ± 0.000 -0.020 ± 0.000" in page.text
    assert "joint, all data at once 1 0.700 – – –" in page.text
    assert "toy-ewc-s0-0a failed 1 of 3 experiences 0.500" in page.text
    assert "needs 5 GiB of ram" in page.text
    assert "Synthetic" in page.text
    links = [a for a in page.addresses if not a.startswith(("data:", "#"))]
    assert "../toy-replay-s1-0a/report.html" in links
    assert all((path.parent / link).is_file() for link in links)
    assert sorted(file.name for file in (runs / "report" / "figures").iterdir()) == [
        "1-bytes.png",
        "1-each.png",
        "1-final.png",
        "1-forgetting.png",
        "1-learning.png",
    ]
    assert (runs / "report" / "comparison.csv").read_text().count("\n") == 4
    html = path.read_text()
    assert '<td class="best">0.820' in html
    assert '<td class="best">0.700' not in html  # neither naive nor the upper bound


def test_the_page_says_what_is_significant_and_what_is_not(runs: Path, made_up, parse) -> None:
    """replay is no better than naive on c: four of six patients differ, p = 2 · 4 / 2⁶. lwf, in a
    sweep of its own, is better on all: p = 2 / 2⁶."""
    text = parse(write_report(runs)).text
    assert "Marks of ACC: + better, - worse than naive training" in text
    assert "replay 0.820 [0.820, 0.820] +0.120, p = 0.125: not shown – 1.0 [1, 1], first 100%" in text
    assert "naive 0.700 [0.700, 0.700] – -0.120, p = 0.125: not shown" in text
    assert "joint 0.700 [0.700, 0.700] – – – 1 seed: the interval says nothing about other seeds" in text
    (runs / "better").mkdir()
    for strategy, more in (("naive", 0.0), ("lwf", 0.05)):
        run = made_up(name=f"toy-{strategy}-s0-0a", strategy=strategy)
        run.config = {"strategy": {"name": strategy}, "seed": 0}
        run.dice = [[value + more for value in row] for row in run.dice]
        run.play(RunFolder(runs / "better" / run.name, str))
    text = parse(write_report(runs / "better")).text
    assert "lwf 1 0.750 +" in text
    assert "lwf 0.750 [0.750, 0.750] +0.050, p = 0.031: better" in text


def test_pages_of_runs_are_rebuilt_when_old(runs: Path) -> None:
    comparison = write_report(runs)
    first = comparison.read_bytes()
    page = runs / "toy-naive-s0-0a" / "report.html"
    page.write_text("mine")
    write_report(runs)
    assert page.read_text() == "mine"
    os.utime(page, (1, 1))
    write_report(runs)
    assert "naive" in page.read_text()
    assert comparison.read_bytes() == first


def test_a_run_whose_page_cannot_be_made_is_left_out(runs: Path, parse) -> None:
    damaged = runs / "toy-naive-s0-0a"
    (damaged / "overlays").mkdir()
    (damaged / "overlays" / "index.json").write_text("[{}]")
    (damaged / PAGE).unlink()
    text = parse(write_report(runs)).text
    assert "toy-naive-s0-0a finished 3 of 3 experiences" in text
    assert "its page cannot be made: the overlays are damaged" in text
    assert "naive 1 0.700" in text  # the other seed


def test_a_run_folder_gets_its_own_page_only(runs: Path) -> None:
    assert write_report(runs / "toy-naive-s0-0a") == runs / "toy-naive-s0-0a" / "report.html"
    assert not (runs / "report").exists()


def test_streams_in_one_folder_get_a_section_each(runs: Path, made_up, parse) -> None:
    other = made_up(name="other-naive-s0-0a", stream="other", synthetic=False)
    other.play(RunFolder(runs / other.name, str))
    text = parse(write_report(runs)).text
    assert "Stream toy" in text
    assert "Stream other" in text
    assert "a working pipeline, not science" in text


def test_a_folder_without_finished_runs(tmp_path: Path, parse) -> None:
    (tmp_path / "empty").mkdir()
    page = parse(write_report(tmp_path, tmp_path / "elsewhere"))
    assert "No run in this folder has finished yet." in page.text
    assert (tmp_path / "elsewhere" / "comparison.csv").exists()


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LifelongCTError, match="no such folder"):
        write_report(tmp_path / "none")


def test_one_run_is_a_comparison_too(tmp_path: Path, made_up) -> None:
    made_up().play(RunFolder(tmp_path / "only", str))
    sections = compare(collect(tmp_path).finished)
    assert sentence(sections[0]).startswith("1 strategy learnt 3 hospitals of the stream toy, 1 seed each.")
    assert list(sweep_figures(sections[0])) == ["final", "forgetting", "learning", "each"]
    assert write_report(tmp_path).exists()


def test_hospitals_met_so_far_by_hand(tmp_path: Path, made_up) -> None:
    made_up().play(RunFolder(tmp_path / "only", str))
    (run,) = collect(tmp_path).finished
    # .8; (.6 + .8) / 2; (.5 + .7 + .9) / 3
    assert met_so_far(run) == pytest.approx([0.8, 0.7, 0.7])


def test_the_table_as_markdown_and_latex(runs: Path) -> None:
    write_report(runs)
    markdown = (runs / "report" / "comparison.md").read_text()
    assert "| replay | 2 | **0.820** ± 0.000 | **-0.020** ± 0.000 |" in markdown
    assert "| toy-ewc-s0-0a | failed | 1 of 3 experiences |" in markdown
    widths = {
        line.count(" | ") for line in markdown.splitlines() if line.startswith("| replay") or ":--" in line
    }
    assert widths == {11, 5}
    latex = (runs / "report" / "comparison.tex").read_text()
    assert r"replay & 2 & \textbf{0.820} $\pm$ 0.000 & \textbf{$-$0.020} $\pm$ 0.000" in latex
    assert latex.count(r"\begin{tabular}{l" + "r" * 11 + "}") == 1
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {11}


def test_names_cannot_break_a_table() -> None:
    section = {
        "stream": "s", "sentence": "a\nb", "caveats": ["c"], "significance": {"legend": "l"}, "header": ["strategy", "seeds", "100 %"],
        "rows": [{"label": r"a|b_c & \d", "seeds": 1, "cells": [{"mean": "+1.5", "sd": "", "best": False, "mark": "*"}]}],
    }  # fmt: skip
    assert "| a\\|b\\_c & \\\\d | 1 | +1.5\\* |" in to_markdown([section], [])
    latex = to_latex([section])
    assert r"a|b\_c \& \textbackslash{}d & 1 & $+$1.5$^{\mathrm{*}}$ \\" in latex
    assert r"100 \%" in latex
    assert "% s: a b\n" in latex
