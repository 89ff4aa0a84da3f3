"""TensorBoard: curves, heatmap and summary in the run folder. `tensorboard --logdir runs` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.console import matrix_rows
from lifelong_ct.reporting.curves import MOST
from lifelong_ct.reporting.figures import matrix_heatmap
from lifelong_ct.reporting.run_folder import redacted
from lifelong_ct.reporting.scalars import scalars
from lifelong_ct.reporting.text import sentence

STEPS, EXPERIENCES = "train", "experiences"
HOST = "host"
"""In the place of the machine's name."""


class TensorBoard:
    """Reporter for TensorBoard: `tensorboard/train` on the axis of optimizer steps, `tensorboard/experiences` on the axis
    of experiences.

    A resumed run appends files; what a killed one wrote past its checkpoint is marked as overruled.

    Args:
        folder: of the run.
        redact: removes what is private from a text.
        flush_seconds: how often what is written reaches the disk.
        queue: values that wait for it, at most.
    """

    hears = ("run_started", "step", "evaluated", "note", "run_ended")
    copies = True

    def __init__(
        self, folder: Path, redact: Callable[[str], str], flush_seconds: float = 30, queue: int = 100
    ) -> None:
        self.folder, self.redact = folder / "tensorboard", redact
        self.flush_seconds, self.queue = flush_seconds, queue
        self.step, self.after = 0, -1
        self._writers: dict[str, Any] = {}

    def event(self, name: str, **data: Any) -> None:
        """Writes what an event brings; others are passed over."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None and (self._writers or name == "run_started"):
            handler(**data)

    def close(self, status: str) -> None:
        """The last values reach their files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def state_dict(self) -> dict[str, Any]:
        """Number of the last optimizer step, over all experiences, and of the last experience that was scored."""
        return {"step": self.step, "after": self.after}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after a `state_dict`; before `run_started`."""
        self.step, self.after = int(state["step"]), int(state["after"])

    def _on_run_started(self, *, config: Mapping[str, Any], **_: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with _nameless():
            for name, first in ((STEPS, self.step + 1), (EXPERIENCES, self.after + 1)):
                self._writers[name] = SummaryWriter(
                    str(self.folder / name),
                    purge_step=first,
                    max_queue=self.queue,
                    flush_secs=self.flush_seconds,
                )
        shown = yaml.safe_dump(redacted(config, self.redact), sort_keys=False, allow_unicode=True)
        self._text("configuration", "\n".join(f"    {line}" for line in shown.splitlines()))

    def _on_step(self, *, after: int, loss: float, lr: float, **_: Any) -> None:
        self.step += 1
        for name, value in (("loss", loss), ("lr", lr), ("experience", after)):
            self._writers[STEPS].add_scalar(name, value, self.step)

    def _on_evaluated(
        self, *, after: int, matrix: ResultMatrix, results: Mapping[str, Any], **_: Any
    ) -> None:
        self.after, writer = after, self._writers[EXPERIENCES]
        for metric in matrix.metrics:
            for hospital in matrix.hospitals:
                value = matrix.value(after, hospital, metric=metric)
                if value is not None:
                    writer.add_scalar(f"{metric}/{hospital}", value, after)
        for key, value in scalars({"summary": results.get("summary") or {}}).items():
            if isinstance(value, (int, float)):
                writer.add_scalar(key, value, after)
        writer.add_figure("matrix", matrix_heatmap(results, matrix, most=MOST), after, close=False)

    def _on_note(self, *, text: str) -> None:
        self._text("note", text)

    def _on_run_ended(
        self, *, status: str, results: Mapping[str, Any], matrix: ResultMatrix | None = None, **_: Any
    ) -> None:
        parts = [f"Status: {status}. {sentence(results)}"]
        if matrix is not None and matrix.hospitals:
            header, *rows = matrix_rows(results, matrix)
            parts.append("\n".join(map(_row, [header, ["---"] * len(header), *rows])))
        self._text("summary", "\n\n".join(parts))

    def _text(self, tag: str, text: str) -> None:
        self._writers[EXPERIENCES].add_text(tag, self.redact(text), max(self.after, 0))


@contextmanager
def _nameless() -> Iterator[None]:
    """File names that are made inside do not hold the machine's name, and sort by their number where they are made within a
    second: readers go by names, and read file 10 before file 9. TensorBoard has no option for either."""
    from tensorboard.summary.writer import event_file_writer as files

    own = files.socket, files._global_uid
    files.socket = SimpleNamespace(gethostname=lambda: HOST)
    files._global_uid = SimpleNamespace(get=lambda: f"{own[1].get():09d}")
    try:
        yield
    finally:
        files.socket, files._global_uid = own


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
