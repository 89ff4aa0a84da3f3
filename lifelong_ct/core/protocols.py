"""What rooms ask of each other, without importing each other."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """Has a state of tensors and JSON values, nested in dicts and lists."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Reporter(Protocol):
    """Receives the events of a run. A reporter that raises is reported once and switched off."""

    def event(self, name: str, **data: Any) -> None:
        """One event; `lifelong_ct.training.run` documents names and fields."""

    def close(self, status: str) -> None:
        """The run ended: finished, stopped or failed."""
