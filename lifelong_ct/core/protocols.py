"""What rooms ask of each other, without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Stateful(Protocol):
    """Has a state of tensors and JSON values, nested in dicts and lists."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Undoable(Protocol):
    """Can go back to how it was, so that an optimizer step that ran out of memory can be made again."""

    def mark(self) -> Callable[[], None]:
        """What brings it back to how it is now. Called before every step: cheap, and good until the next call."""
        ...


@runtime_checkable
class Reporter(Protocol):
    """Receives the events of a run. A reporter that raises is reported once and switched off.

    It may have besides: `state_dict` and `load_state_dict`; `hears`, the names of the events that it keeps something of;
    `copies`, true where all that it is sent stands in the run folder too;
    `told()`, texts since the last call that a user should know; `lost()`, number of events by name that it took and does
    not hold, asked when it was closed after a failure.
    """

    def event(self, name: str, **data: Any) -> None:
        """One event; `lifelong_ct.training.telling` documents names and fields."""

    def close(self, status: str) -> None:
        """The run ended: finished, stopped, failed or refused."""


@dataclass
class Batch:
    """What a source gives for one micro-batch.

    Attributes:
        x: int16 `[B,C,D,H,W]`.
        y: codes `[B,1,D,H,W]`.
        cases: content digest of each sample's case.
        patients: keyed hash of each sample's patient; empty where the source does not tell.
        corners: first voxel `(D, H, W)` of each sample in its stored volume; likewise.
        replayed: whether its patches are exemplars of a memory.
    """

    x: Tensor
    y: Tensor
    cases: Sequence[str]
    patients: Sequence[str] = ()
    corners: Sequence[tuple[int, int, int]] = ()
    replayed: bool = False


class PatchSource(Protocol):
    """Batches as a pure function of their number, so that any step can be resumed."""

    def batch(self, step: int) -> Batch:
        """The batch with this number."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of a range, read ahead."""
        ...
