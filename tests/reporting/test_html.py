import platform
from pathlib import Path

import pytest

from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.html import HtmlReport, write_run_page
from lifelong_ct.reporting.run_folder import RunFolder, read_run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, made_up, parse):
    run, tmp_path = made_up(), tmp_path_factory.mktemp("run")
    run.play(Reporters([RunFolder(tmp_path, str), HtmlReport(tmp_path)]))
    return parse(tmp_path / "report.html")


def test_the_page_needs_nothing_else(page) -> None:
    assert "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.tags.count("svg") == 4  # hospitals, memory, time, loss; the matrix is a table


def test_the_page_says_what_came_out(page) -> None:
    assert "The strategy naive learnt 3 hospitals of the stream toy, seed 0." in page.text
    assert "Synthetic" in page.text
    assert "BWT -0.200" in page.text
    assert "2 b 0.600 0.800 0.400 0.450" in page.text  # a row of the matrix
    assert "d (unseen)" in page.text
    assert "ram 1.0 GiB 200.0 MiB 300.0 MiB 900.0 MiB" in page.text
    assert "lifelong-ct strategy=naive seed=0" in page.text


def test_few_test_cases_are_told(page) -> None:
    assert "Few test cases: every hospital, 2 test cases each." in page.text


def test_the_page_says_what_it_ran_on(page) -> None:
    assert f"Python {platform.python_version()}" in page.text
    assert platform.node() not in page.text


def test_organs_and_lowest_scores(page) -> None:
    # mean over the two cases of (mean ± 0.05) is the mean, for both organs
    assert "liver 0.500 0.700 0.900 0.540" in page.text
    assert "spleen 0.500 0.700 0.900 0.540" in page.text
    assert "hd95" in page.text  # undefined everywhere: dashes
    assert "a a1 liver 0.450" in page.text  # the lowest score of all, 0.5 - 0.05


def test_a_failed_run_shows_its_error(tmp_path: Path, made_up, parse) -> None:
    run = made_up(synthetic=False)
    reporters = Reporters([RunFolder(tmp_path, str), HtmlReport(tmp_path)])
    run.start(reporters)
    run.experience(reporters, 1)
    run.end(reporters, "failed", upto=1, error="needs <b>5 GiB</b>")
    text = (tmp_path / "report.html").read_text()
    assert "needs &lt;b&gt;5 GiB&lt;/b&gt;" in text
    assert "a working pipeline, not science" in parse(tmp_path / "report.html").text


def test_a_run_that_never_began_has_a_page(tmp_path: Path, made_up, parse) -> None:
    results = {
        "schema": 1,
        "status": "failed",
        "run": made_up().run,
        "scores": [],
        "summary": {},
        "error": "x",
    }
    reporters = Reporters([RunFolder(tmp_path, str), HtmlReport(tmp_path)])
    reporters.event("run_ended", status="failed", results=results, matrix=None, error="no such organ: livr")
    assert reporters.failures == {}
    assert "no such organ: livr" in parse(tmp_path / "report.html").text


def test_the_page_is_rebuilt_from_the_files(tmp_path: Path, made_up) -> None:
    made_up().play(Reporters([RunFolder(tmp_path, str), HtmlReport(tmp_path)]))
    before = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert write_run_page(read_run(tmp_path)).read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "hospitals.png",
        "loss.png",
        "matrix.png",
        "memory.png",
        "time.png",
    ]
