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
    assert names == ["note", "step", "step", "note", "close"]
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


class Failing(Recorder):
    """Takes `good` events, then fails; of those that it took it lost one step."""

    hears = ("step", "evaluated", "run_ended")
    copies = True

    def __init__(self, good: int, at_close: bool = False) -> None:
        super().__init__()
        self.good, self.at_close, self.words = good, at_close, ["try again"]

    def event(self, name: str, **data: Any) -> None:
        if name == "note":
            return
        if len(self.heard) == self.good:
            raise ConnectionError("gone")
        super().event(name, **data)

    def close(self, status: str) -> None:
        if self.at_close:
            raise TimeoutError("no answer")

    def lost(self) -> dict[str, int]:
        return {"step": 1}

    def told(self) -> list[str]:
        words, self.words = self.words, []
        return words


def notes(recorder: Recorder) -> list[str]:
    return [data["text"] for name, data in recorder.heard if name == "note"]


def test_what_was_not_sent_is_counted_by_name_at_the_end() -> None:
    recorder = Recorder()
    reporters = Reporters([Failing(2), recorder])
    for name in ("step", "step", "step", "stage", "step", "evaluated", "run_ended"):
        reporters.event(name)
    told = len(notes(recorder))
    reporters.close("finished")
    # taken: 2 steps, 1 of them lost; not taken: 2 steps, 1 evaluated, the end; `stage` is nothing to it
    assert reporters.unsent == {"Failing": {"step": 3, "evaluated": 1, "run_ended": 1}}
    (last,) = notes(recorder)[told:]
    assert last.startswith("Failing was not sent 1 × evaluated, 1 × run_ended, 3 × step")
    assert recorder.heard[-1] == ("close", "finished")


def test_an_end_that_fails_says_what_was_lost() -> None:
    recorder = Recorder()
    reporters = Reporters([Failing(5, at_close=True), recorder])
    reporters.event("step")
    reporters.close("finished")
    assert [text.split(":")[0].split(";")[0] for text in notes(recorder)] == [
        "try again",
        "Failing failed at close and is switched off, the run goes on",
        "Failing was not sent 1 × step",
    ]


@pytest.mark.parametrize(
    ("copies", "left"), [(True, "all of it stands in the run folder"), (False, "missing")]
)
def test_only_a_copy_is_in_the_run_folder_too(copies: bool, left: str) -> None:
    recorder, failing = Recorder(), Failing(0)
    failing.copies = copies
    reporters = Reporters([failing, recorder])
    reporters.event("step")
    reporters.close("finished")
    assert notes(recorder)[-1].startswith(
        "Failing was not sent 2 × step; "
    )  # the one it was sent, the one it lost
    assert notes(recorder)[-1].endswith(left)


def test_what_a_reporter_has_to_tell_is_told_once() -> None:
    recorder = Recorder()
    reporters = Reporters([Failing(1), recorder])
    reporters.event("step")
    reporters.event("note", text="else")
    assert notes(recorder).count("try again") == 1


def test_one_that_cannot_even_tell_stops_nothing() -> None:
    class Mute(Recorder):
        def told(self) -> list[str]:
            raise OSError("mute")

    recorder = Recorder()
    reporters = Reporters([Mute(), recorder])
    reporters.event("step")
    assert reporters.failures == {"Mute": "OSError: mute"}
    assert [name for name, _ in recorder.heard] == ["note", "step"]
