"""One reporter made of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from lifelong_ct.core.protocols import Reporter, Stateful


class Reporters:
    """Hands every event to each reporter, in order.

    A reporter that raises is named once to the others (as a `note`) and switched off; the run goes on. One
    with a true attribute `essential` is the exception: without the run folder nothing would be left of a
    run, so what it raises goes through.

    Args:
        reporters: the parts. What has `state_dict` and `load_state_dict` is kept over a resume.
        redact: removes what is private from the text of a failure.
    """

    def __init__(self, reporters: Iterable[Reporter], redact: Callable[[str], str] = str) -> None:
        self._active = list(reporters)
        self._redact = redact
        self.failures: dict[str, str] = {}

    def event(self, name: str, **data: Any) -> None:
        """Sends one event."""
        for reporter in list(self._active):
            self._guarded(reporter, name, reporter.event, name, **data)

    def close(self, status: str) -> None:
        """Ends all."""
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

    def _guarded(
        self, reporter: Reporter, doing: str, call: Callable[..., Any], *args: Any, **data: Any
    ) -> Any:
        if reporter not in self._active:
            return None
        try:
            return call(*args, **data)
        except Exception as error:
            if getattr(reporter, "essential", False):
                raise
            self._switch_off(reporter, doing, error)
            return None

    def _switch_off(self, reporter: Reporter, doing: str, error: Exception) -> None:
        self._active.remove(reporter)
        name = type(reporter).__name__
        with suppress(Exception):  # it has failed already; what it holds shall not stay open
            reporter.close("failed")
        self.failures[name] = self._redact(f"{type(error).__name__}: {error}")
        self.event(
            "note",
            text=f"{name} failed at {doing} and is switched off, the run goes on: {self.failures[name]}",
        )
