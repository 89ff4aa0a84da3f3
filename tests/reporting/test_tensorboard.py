"""What TensorBoard's own reader finds."""

import itertools
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.tensorboard import TensorBoard


def read(folder: Path, axis: str) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard" / axis), {"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def curve(found: EventAccumulator, tag: str) -> dict[int, float]:
    """Step → value; a step that is there twice fails."""
    events = found.Scalars(tag)
    assert len({event.step for event in events}) == len(events)
    return {event.step: event.value for event in events}


def text(found: EventAccumulator, tag: str) -> str:
    return b"".join(
        event.tensor_proto.string_val[0] for event in found.Tensors(f"{tag}/text_summary")
    ).decode()


def test_scores_stand_on_the_axis_of_experiences(tmp_path: Path, made_up) -> None:
    run = made_up()
    run.play(TensorBoard(tmp_path, str))
    found = read(tmp_path, "experiences")
    for column, hospital in enumerate("abcd"):
        expected = {after: row[column] for after, row in enumerate(run.dice)}
        assert curve(found, f"dice/{hospital}") == pytest.approx(expected)
    assert curve(found, "summary/bwt")[3] == pytest.approx(-0.2)
    assert not any(tag.startswith("hd95/") for tag in found.Tags()["scalars"])  # undefined in every case


def test_losses_stand_on_the_axis_of_steps(tmp_path: Path, made_up) -> None:
    made_up().play(TensorBoard(tmp_path, str))
    found = read(tmp_path, "train")
    assert curve(found, "loss")[8] == pytest.approx(1 / 4)  # experience 2, third step
    assert list(curve(found, "loss")) == list(range(1, 16))
    assert curve(found, "experience")[11] == 3


def test_the_heatmap_is_an_image_and_the_summary_a_text(tmp_path: Path, made_up) -> None:
    run = made_up(config={"strategy": {"name": "naive"}})
    run.play(TensorBoard(tmp_path, str))
    found = read(tmp_path, "experiences")
    assert [event.step for event in found.Images("matrix")] == [0, 1, 2, 3]
    assert all(e.encoded_image_string.startswith(b"\x89PNG") for e in found.Images("matrix"))
    told = text(found, "summary")
    assert "Status: finished" in told
    assert "| after 3 c | 0.500 | 0.700 | 0.900 | 0.540 |" in told
    assert "name: naive" in text(found, "configuration")


def test_a_resumed_run_appends_and_overrules_what_a_kill_left(tmp_path: Path, made_up) -> None:
    run, first = made_up(), TensorBoard(tmp_path, str)
    run.start(first)
    run.experience(first, 1)
    state = json.loads(json.dumps(first.state_dict()))
    assert state == {"step": 5, "after": 1}
    run.dice[2] = [0.0, 0.0, 0.0, 0.0]
    run.experience(first, 2)  # was never saved
    first.close("failed")
    run, second = made_up(), TensorBoard(tmp_path, str)
    second.load_state_dict(state)
    run.start(second, done=1)
    run.experience(second, 2)
    run.experience(second, 3)
    run.end(second)
    assert list(curve(read(tmp_path, "train"), "loss")) == list(range(1, 16))
    assert curve(read(tmp_path, "experiences"), "dice/a") == pytest.approx({1: 0.8, 2: 0.6, 3: 0.5})


def test_files_of_one_second_are_read_in_their_order(tmp_path: Path, made_up, monkeypatch) -> None:
    """A run makes two, and one more each when it goes on; their numbers are 8 to 11, and as texts 10 comes before 8."""
    numbers = itertools.count(8)
    monkeypatch.setattr(event_file_writer, "_global_uid", SimpleNamespace(get=lambda: next(numbers)))
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: 1e9))
    test_a_resumed_run_appends_and_overrules_what_a_kill_left(tmp_path, made_up)


def test_what_is_private_is_in_no_file(tmp_path: Path, made_up) -> None:
    def redact(text: str) -> str:
        return text.replace("CANARY", "<hidden>")

    run = made_up(config={"root": "/data/CANARY"})
    reporters = Reporters([TensorBoard(tmp_path, redact)], redact)
    run.start(reporters)
    reporters.event("note", text="CANARY is odd")
    run.experience(reporters, 1)
    run.end(reporters, "failed", upto=1, error="cannot read CANARY")
    assert reporters.failures == {}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(b"CANARY" in file.read_bytes() for file in files)


def test_no_file_name_tells_the_machine(tmp_path: Path, made_up, monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ct-console-7.ward")
    run, first = made_up(), TensorBoard(tmp_path, str)
    run.start(first)
    run.experience(first, 1)
    state = first.state_dict()  # killed here: nothing is closed
    second = TensorBoard(tmp_path, str)
    second.load_state_dict(state)
    run.start(second, done=1)
    run.end(second)
    first.close("failed")
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 4
    for name in names:
        assert re.fullmatch(r"events\.out\.tfevents\.\d+\.host\.\d+\.\d+", name)
    assert event_file_writer.socket is socket  # whoever else writes for TensorBoard names files as ever


def test_it_is_imported_when_a_run_starts_and_not_before() -> None:
    code = "import sys, lifelong_ct.reporting.tensorboard; sys.exit('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_that_never_began_writes_nothing(tmp_path: Path) -> None:
    reporter: Any = TensorBoard(tmp_path, str)
    reporter.event("run_ended", status="failed", results={"run": {}}, matrix=None, error="x")
    reporter.close("failed")
    assert list(tmp_path.iterdir()) == []
