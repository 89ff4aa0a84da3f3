"""An edit of any file that a report is made from is named."""

import json
from pathlib import Path

import pytest

from lifelong_ct.cli.main import main
from lifelong_ct.reporting.checking import check
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.reporting.sweep import write_report


@pytest.fixture
def finished(tmp_path: Path, made_up) -> Path:
    run = made_up()
    run.play(RunFolder(tmp_path / run.name, str))
    return tmp_path / run.name


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def told(folder: Path) -> str:
    return "\n".join(map(str, check(folder)[0]))


def test_nothing_to_tell_of_a_run_as_it_was_written(finished: Path) -> None:
    differences, notes = check(finished)
    assert differences == []
    # 4 rows × 4 hospitals × 2 metrics × (2 organs and their mean): after, n and, but for the distance, a mean
    assert any("numbers computed again" in note for note in notes)


def test_a_digit_of_cases_csv(finished: Path) -> None:
    """a at the end: 0.45 and 0.55 for the liver, so 0.5; with 0.95 instead of 0.55 it is 0.7, and ACC is higher too."""
    edited(finished / "cases.csv", "3,a,a2,liver,0.55", "3,a,a2,liver,0.95")
    text = told(finished)
    assert "cases.csv: xxh3" in text
    assert (
        "results.json: scores[after=3 hospital=a organ=liver metric=dice].mean: found 0.5, expected 0.7"
        in text
    )
    assert "results.json: summary.acc: found 0.7" in text
    assert "hospital=b" not in text


def test_an_edit_that_changes_no_number_is_found_by_the_checksum(finished: Path) -> None:
    edited(finished / "cases.csv", "3,a,a2,liver,0.55", "3,a,a2,liver,0.550")
    (difference,) = check(finished)[0]
    assert difference.place == "cases.csv: xxh3"


def test_a_number_of_results_json(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    results["summary"]["bwt"] = -0.1
    results["scores"] = results["scores"][1:]
    (finished / "results.json").write_text(json.dumps(results))
    text = told(finished)
    assert "results.json: summary.bwt: found -0.1, expected -0.2" in text
    assert "results.json: scores[after=0 hospital=a organ=liver metric=dice]: found nothing" in text
    assert "cases.csv" not in text


@pytest.mark.parametrize("part", ["training", "total"])
def test_the_seconds_add_up(finished: Path, part: str) -> None:
    results = json.loads((finished / "results.json").read_text())
    results["seconds"][part] += 5
    (finished / "results.json").write_text(json.dumps(results))
    assert "seconds.total" in told(finished)


def test_files_that_are_gone_or_damaged(finished: Path) -> None:
    cases = (finished / "cases.csv").read_bytes()
    (finished / "cases.csv").unlink()
    assert "cases.csv: xxh3: found no file" in told(finished)
    (finished / "cases.csv").write_bytes(cases.replace(b"liver", b"liver,", 1))
    assert "cases.csv" in told(finished)
    (finished / "results.json").write_text("{")
    assert "results.json" in told(finished)


def test_a_run_of_before_there_were_checksums(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    for key in ("xxh3", "costs", "evaluation_share"):
        results.pop(key, None)
    for key in ("generalisation", "unseen"):
        del results["summary"][key]
    (finished / "results.json").write_text(json.dumps(results))
    differences, notes = check(finished)
    assert differences == []
    assert "cases.csv: no checksum was recorded" in notes


def test_the_tables_of_a_sweep(tmp_path: Path, made_up, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        run = made_up(
            name=f"toy-naive-s{seed}-0a", seed=seed, config={"strategy": {"name": "naive"}, "seed": seed}
        )
        run.play(RunFolder(tmp_path / run.name, str))
    write_report(tmp_path)
    assert main(["report", "--check", str(tmp_path)]) == 0
    assert "nothing differs" in capsys.readouterr().out
    table = tmp_path / "report" / "comparison.csv"
    edited(table, "0.7", "0.8")
    assert main(["report", "--check", str(tmp_path)]) == 2
    assert "comparison.csv: toy naive.acc_mean: found 0.8" in capsys.readouterr().out
    strata = tmp_path / "report" / "strata.csv"
    assert strata.read_text().splitlines()[1].startswith("toy,a b c,naive,synthetic,0.7")
    edited(strata, "synthetic,0.7", "synthetic,0.9")
    assert "strata.csv: toy naive synthetic.acc: found 0.9" in told(tmp_path)
    table.write_text("stream,label\n")
    assert "a row; run `report` again" in told(tmp_path)


def test_an_edited_run_ends_with_2_and_its_name(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(finished / "cases.csv", "3,a,a2,liver,0.55", "3,a,a2,liver,0.56")
    assert main(["report", "--check", str(finished.parent)]) == 2
    out = capsys.readouterr().out
    assert f"{finished.name}/cases.csv: xxh3" in out
    assert "differences" in out


def test_a_folder_without_runs(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands behind it is looked at all the same."""
    assert main(["report", "--check", str(finished / "none"), str(finished)]) == 2
    shown = capsys.readouterr()
    assert "there is no run" in shown.err
    assert "nothing differs" in shown.out
