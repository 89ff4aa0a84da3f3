from typing import Any

import pytest

from lifelong_ct.core.protocols import Reporter
from lifelong_ct.reporting.fanout import Reporters


class Recorder:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def event(self, name: str, **data: Any) -> None:
        self.heard.append((name, data))

    def close(self, status: str) -> None:
        self.heard.append(("close", status))

    def state_dict(self) -> dict[str, Any]:
        return {"heard": len(self.heard)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heard = [None] * state["heard"]


class Broken:
    def __init__(self) -> None:
        self.asked = 0

    def event(self, name: str, **data: Any) -> None:
        self.asked += 1
        raise ConnectionError("no route to DOE")

    def close(self, status: str) -> None:
        self.asked += 1


class BrokenFolder(Broken):
    essential = True


def test_a_failing_reporter_is_named_once_and_left_out() -> None:
    broken, recorder = Broken(), Recorder()
    reporters = Reporters([broken, recorder], lambda text: text.replace("DOE", "<x>"))
    reporters.event("step", loss=1.0)
    reporters.event("step", loss=0.5)
    reporters.close("finished")
    assert broken.asked == 2  # the event, and the end: what it holds is given back at once
    names = [name for name, _ in recorder.heard]
    assert names == ["note", "step", "step", "close"]
    note = recorder.heard[0][1]["text"]
    assert "Broken failed at step" in note
    assert "ConnectionError: no route to <x>" in note
    assert reporters.failures == {"Broken": "ConnectionError: no route to <x>"}


def test_a_failure_between_two_loses_nothing() -> None:
    before, after = Recorder(), Recorder()
    Reporters([before, Broken(), after]).event("step", loss=1.0)
    assert [name for name, _ in before.heard] == ["step", "note"]
    assert [name for name, _ in after.heard] == ["note", "step"]


def test_the_run_folder_may_not_fail_in_silence() -> None:
    with pytest.raises(ConnectionError):
        Reporters([BrokenFolder(), Recorder()]).event("step")


def test_an_interruption_goes_through() -> None:
    class Interrupted(Recorder):
        def event(self, name: str, **data: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reporters([Interrupted()]).event("step")


def test_state_goes_back_to_whom_it_belongs() -> None:
    first = Reporters([Recorder(), Broken()])
    first.event("step")  # Recorder hears the step and the note about Broken
    state = first.state_dict()
    assert state == {"Recorder": {"heard": 2}}
    second = Recorder()
    Reporters([second]).load_state_dict({**state, "Gone": {}})
    assert second.heard == [None, None]


def test_it_is_a_reporter() -> None:
    assert isinstance(Reporters([]), Reporter)
