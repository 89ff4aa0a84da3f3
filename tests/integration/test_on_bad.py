"""A case that cannot be used ends a run, unless the user says to go on without it."""

from pathlib import Path

import pytest
import scans
from whole_runs import only_run, places, results

from lifelong_ct.cli.main import main

ROWS = {split: scans.entry(f"{split}-case", split) for split in ("train", "test")}


@pytest.fixture
def args(tmp_path: Path) -> list[str]:
    """Two hospitals; the second has a third case whose image is cut, and a fourth without a label."""
    scans.write(tmp_path / "a", ROWS)
    scans.write(tmp_path / "b", ROWS)
    cut = scans.entry("Doe^Cut", "train", image="cut.nii.gz", label="train-case/seg.nii.gz")
    gone = scans.entry("Roe^Gone", "test", image="test-case/ct.nii.gz", label="gone.nii.gz")
    whole = (tmp_path / "b/train-case/ct.nii.gz").read_bytes()
    (tmp_path / "b/cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    scans.add(tmp_path / "b", cut, gone)
    hospitals = {n: {"root": str(tmp_path / n), "manifest": "manifest.json"} for n in ("a", "b")}
    stream = scans.conf(tmp_path / "conf", **hospitals)
    return [*stream, "debug=tiny", "stream.limit=null", *places(tmp_path)]


def test_it_is_an_error(args, tmp_path, capfd):
    assert main([*args, "reporter=quiet"]) == 2
    assert "cut" in capfd.readouterr().err or results(only_run(tmp_path))["status"] == "failed"


def test_it_is_skipped_and_listed_where_the_user_says_so(args, tmp_path, capfd):
    assert main([*args, "data.on_bad=skip"]) == 0
    folder = only_run(tmp_path)
    document = results(folder)
    assert document["status"] == "finished"
    assert [(row["hospital"], row["code"]) for row in document["skipped"]] == [
        ("b", "corrupt"),
        ("b", "missing"),
    ]
    page, log = (folder / "report.html").read_text(), (folder / "log.txt").read_text()
    assert "Skipped cases" in page
    assert log.count("is skipped") == 2
    shown = capfd.readouterr()
    for text in (str(document), page, log, shown.out, shown.err):
        assert "Doe^" not in text
        assert "Roe^" not in text


def test_a_hospital_of_which_nothing_is_left_is_an_error(args, tmp_path, capfd):
    (tmp_path / "b/train-case/ct.nii.gz").write_bytes(b"")
    assert main([*args, "data.on_bad=skip", "reporter=quiet"]) == 2
    assert "none of its training cases can be used" in capfd.readouterr().err
