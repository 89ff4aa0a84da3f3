"""A run folder: whose it is, whether it is done, and who is in it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.folder import claimed, finished

HOLD = (
    "import sys; from pathlib import Path; from lifelong_ct.training.folder import claimed\n"
    "with claimed(Path(sys.argv[1])):\n    print('in', flush=True); sys.stdin.read()"
)


def results(folder: Path, status="finished", config_hash="abcd1234") -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"status": status, "run": {"config_hash": config_hash}}
    (folder / "results.json").write_text(json.dumps(content))
    return content


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- whose it is ----------------------------------------------------------------------------------------


def test_a_folder_that_is_new_or_empty_is_to_be_started(tmp_path):
    assert finished(tmp_path / "new", "abcd1234") is None
    assert finished(tmp_path, "abcd1234") is None
    (tmp_path / ".lock").touch()
    (tmp_path / ".tmp-cut").write_text("{")  # a kill left it
    assert finished(tmp_path, "abcd1234") is None


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_a_run_that_is_not_done_goes_on(tmp_path, status):
    results(tmp_path, status)
    assert finished(tmp_path, "abcd1234") is None


def test_a_run_that_is_done_gives_its_results(tmp_path):
    assert finished(tmp_path, "abcd1234") is None
    written = results(tmp_path)
    assert finished(tmp_path, "abcd1234") == written


@pytest.mark.parametrize("status", ["finished", "running"])
def test_a_run_of_another_configuration_is_refused(tmp_path, status):
    results(tmp_path, status)
    with pytest.raises(LifelongCTError, match="configuration abcd1234, this is 99999999") as error:
        finished(tmp_path, "99999999")
    assert error.value.where == str(tmp_path)


@pytest.mark.parametrize("text", [None, "[]", '{"run": null}', '{"run": [1]}', "3"])
def test_a_folder_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "thesis.tex").write_text("important")
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(LifelongCTError, match="no run folder"):
        finished(tmp_path, "abcd1234")


def test_results_that_are_no_json_are_told(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(LifelongCTError, match="not valid JSON"):
        finished(tmp_path, "abcd1234")


def command(tmp_path: Path, run: Path) -> list[str]:
    paths = [f"paths.{key}={tmp_path / 'p' / key}" for key in ("data", "runs", "state", "store")]
    return ["debug=tiny", "reporter=quiet", f"paths.run={run}", *paths]


def test_the_command_leaves_the_folder_of_another_configuration_untouched(tmp_path, capsys):
    run = tmp_path / "run"
    results(run, "stopped", "00000000")
    (run / "checkpoints" / "after_001").mkdir(parents=True)
    (run / "checkpoints" / "after_001" / "state.json").write_text("{}")
    before = content(run)
    assert main(command(tmp_path, run)) == 2
    assert "configuration 00000000" in capsys.readouterr().err
    assert content(run) == before
    assert not (tmp_path / "p" / "store").exists()


@pytest.mark.parametrize("where", ["file", "file/run"])
def test_the_command_names_a_place_that_cannot_be_a_folder_once(tmp_path, capsys, where):
    (tmp_path / "file").write_text("mine")
    assert main(command(tmp_path, tmp_path / where)) == 2
    told = capsys.readouterr().err
    assert told.count("error:") == told.count("where:") == 1
    assert "cannot write" in told
    assert "Traceback" not in told
    assert (tmp_path / "file").read_text() == "mine"


# --- who is in it ---------------------------------------------------------------------------------------


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(LifelongCTError, match="another process") as error, claimed(tmp_path / "run"):
            pytest.fail("both are in")
        assert error.value.where == str(tmp_path / "run")
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
    with claimed(tmp_path / "run"):
        pass


def test_what_a_kill_left_half_written_is_cleared(tmp_path):
    kept = tmp_path / "checkpoints" / "after_001"
    kept.mkdir(parents=True)
    (tmp_path / ".tmp-a").write_text("{")
    (tmp_path / "checkpoints" / ".tmp-b").mkdir()
    with claimed(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", "after_001", "checkpoints"]


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ValueError), claimed(tmp_path):
        raise ValueError
    with claimed(tmp_path), claimed(tmp_path / "another"):
        assert finished(tmp_path / "another", "abcd1234") is None


def test_the_command_refuses_a_folder_in_use(tmp_path, capsys):
    run = tmp_path / "run"
    with claimed(run):
        assert main(command(tmp_path, run)) == 2
    assert "another process is running" in capsys.readouterr().err
    assert sorted(content(run)) == [".lock"]


@pytest.mark.parametrize("where", ["file", "file/run"])
def test_a_place_that_cannot_be_a_folder_is_one_error(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(LifelongCTError, match="cannot write"), claimed(tmp_path / where):
        pass
