"""One reporter made of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from lifelong_ct.core.protocols import Reporter, Stateful

METHODS = ("close", "state_dict", "load_state_dict")
"""What is asked of a reporter beside its events."""


class Reporters:
    """Hands every event to each reporter, in order.

    A reporter that raises is named once to the others (as a `note`) and switched off; the run goes on, and at its
    end a note counts what that one was not sent. One with a true attribute `essential` is the exception: without
    the run folder nothing would be left of a run, so what it raises goes through.

    Args:
        reporters: the parts. What has `state_dict` and `load_state_dict` is kept over a resume; what else they may
            have, see `Reporter`.
        redact: removes what is private from the text of a failure.

    Attributes:
        failures: class name of each that was switched off → why.
        unsent: class name → number of events, by name, that it was not sent or has lost.
    """

    def __init__(self, reporters: Iterable[Reporter], redact: Callable[[str], str] = str) -> None:
        self._active = list(reporters)
        self._redact = redact
        self._off: dict[str, Reporter] = {}
        self.failures: dict[str, str] = {}
        self.unsent: dict[str, Counter[str]] = {}

    def event(self, name: str, **data: Any) -> None:
        """Sends one event."""
        for owner, reporter in self._off.items():
            if name in getattr(reporter, "hears", (name,)):
                self.unsent[owner][name] += 1
        self._send(name, data)

    def close(self, status: str) -> None:
        """Ends all."""
        for owner in self._off:
            self._count(owner)
        for reporter in list(self._active):
            self._guarded(reporter, "close", reporter.close, status)

    def state_dict(self) -> dict[str, Any]:
        """JSON values, by class name."""
        states = {}
        for reporter in list(self._active):
            if isinstance(reporter, Stateful):
                states[type(reporter).__name__] = self._guarded(reporter, "state_dict", reporter.state_dict)
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; a reporter that was not there then starts anew."""
        for reporter in list(self._active):
            own = state.get(type(reporter).__name__)
            if own is not None and isinstance(reporter, Stateful):
                self._guarded(reporter, "load_state_dict", reporter.load_state_dict, own)

    def _send(self, name: str, data: dict[str, Any]) -> None:
        for reporter in list(self._active):
            self._guarded(reporter, name, reporter.event, name, **data)

    def _tell(self, text: str) -> None:
        """A note of our own, which nobody misses who does not get it."""
        self._send("note", {"text": self._redact(text)})

    def _guarded(
        self, reporter: Reporter, doing: str, call: Callable[..., Any], *args: Any, **data: Any
    ) -> Any:
        if reporter not in self._active:
            return None
        try:
            result = call(*args, **data)
            told = _told(reporter)
        except Exception as error:
            if getattr(reporter, "essential", False):
                raise
            self._switch_off(reporter, doing, error)
            return None
        for text in told:
            self._tell(text)
        return result

    def _switch_off(self, reporter: Reporter, doing: str, error: Exception) -> None:
        self._active.remove(reporter)
        name = type(reporter).__name__
        self._off[name], self.unsent[name] = reporter, Counter()
        with suppress(Exception):  # it has failed already; what it holds shall not stay open
            reporter.close("failed")
        told: list[str] = []
        with suppress(Exception):
            self.unsent[name] += Counter(getattr(reporter, "lost", dict)())
            told = _told(reporter)
        if doing not in METHODS and doing in getattr(reporter, "hears", (doing,)):
            self.unsent[name][doing] += 1
        self.failures[name] = self._redact(f"{type(error).__name__}: {error}")
        for text in (
            f"{name} failed at {doing} and is switched off, the run goes on: {self.failures[name]}",
            *told,
        ):
            self._tell(text)
        if doing == "close":
            self._count(name)

    def _count(self, name: str) -> None:
        if self.unsent[name]:
            counted = ", ".join(f"{n} × {kind}" for kind, n in sorted(self.unsent[name].items()))
            copies = getattr(self._off[name], "copies", False)
            left = "all of it stands in the run folder" if copies else "what it makes of them is missing"
            self._tell(f"{name} was not sent {counted}; {left}")


def _told(reporter: Reporter) -> list[str]:
    return list(getattr(reporter, "told", tuple)())
