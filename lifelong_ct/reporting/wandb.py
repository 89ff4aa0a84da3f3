"""Weights & Biases: a copy of the run folder's numbers.

Offline where no API key is present: nothing leaves the machine until `wandb sync` is called. What is logged is redacted.
"""

from __future__ import annotations

import io
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lifelong_ct.evaluation.matrix import MEAN, ResultMatrix
from lifelong_ct.reporting import wandb_artifacts, wandb_service
from lifelong_ct.reporting.bounded import within
from lifelong_ct.reporting.curves import MOST
from lifelong_ct.reporting.figures import matrix_heatmap
from lifelong_ct.reporting.overlays import OVERLAYS
from lifelong_ct.reporting.run_folder import redacted
from lifelong_ct.reporting.scalars import scalars
from lifelong_ct.reporting.style import png
from lifelong_ct.reporting.wandb_file import keys

TABLE = ("after", "hospital", "organ", "metric", "mean", "n")
SIGNS = {"step": "train/loss", "evaluated": "cl/after", "run_ended": "summary/status"}
"""Event → the key by which W&B's file shows that it holds it."""
ROWS = 10_000
"""W&B cuts a table after so many."""
LONGER = {"run_started": 3, "run_ended": 5, "close": 5}
"""What may take a multiple of `timeout`: beginning offline after online in vain; what is uploaded."""


class WandB:
    """Reporter for Weights & Biases.

    Args:
        folder: of the run; W&B's own files go into `<folder>/wandb`.
        redact: removes what is private from a text.
        project: of W&B.
        entity: team; None is the default of the key.
        mode: online or offline; None is online where an API key is present.
        group: name of the sweep.
        images: show the run's overlays, which picture patients.
        artifacts: online, what was learnt from and the weights that came out.
        timeout: seconds that W&B may take for a call, a few times as many at start and end; then it is switched off.
    """

    hears = ("run_started", "step", "evaluated", "note", "run_ended")
    copies = True

    def __init__(
        self,
        folder: Path,
        redact: Callable[[str], str],
        project: str = "lifelong-ct",
        entity: str | None = None,
        mode: str | None = None,
        group: str | None = None,
        images: bool = False,
        artifacts: bool = True,
        timeout: float = 60.0,
    ) -> None:
        self.folder, self.redact = folder, redact
        self.project, self.entity, self.group = project, entity, group
        self.mode = mode or wandb_service.usual_mode()
        self.images, self.artifacts, self.timeout = images, artifacts, timeout
        self.run_id, self.step = uuid.uuid4().hex[:8], 0
        self._resumed = self._hangs = False
        self._run: Any = None
        self._file: Path | None = None
        self._given: Counter[str] = Counter()
        self._told: list[str] = []

    def event(self, name: str, **data: Any) -> None:
        """Logs what an event brings; others are passed over."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None and (self._run is not None or name == "run_started"):
            self._within(name, handler(**data))
            self._given[name] += 1

    def close(self, status: str) -> None:
        """Finishes the run of W&B, whatever happened."""
        run, self._run = self._run, None
        if self._hangs:
            wandb_service.kill(wandb_service.client(self.mode))
        if run is None or self._hangs:
            return
        wandb = wandb_service.client(self.mode)
        try:
            self._within("close", partial(run.finish, exit_code=1 if status == "failed" else 0))
        finally:  # its end makes the offline file complete; a broken one must not serve the next run
            (wandb_service.kill if self._hangs else wandb_service.end)(wandb)
        shutil.rmtree(run.settings.log_dir, ignore_errors=True)  # its diary, of no use after a good end

    def told(self) -> list[str]:
        """What a user should know, once."""
        told, self._told = self._told, []
        return told

    def lost(self) -> dict[str, int]:
        """Events that were handed to W&B and do not stand in its file."""
        given = Counter({name: self._given[name] for name in SIGNS})
        if self._file is None or not self._file.exists():
            return dict(given)
        found = keys(self._file)
        self._told.append(
            f"`wandb sync {self._file.parent.name}` in the run's folder wandb/ sends what W&B holds"
        )
        return dict(given - Counter({name: found[key] for name, key in SIGNS.items()}))

    def state_dict(self) -> dict[str, Any]:
        """Id of the run and number of the last optimizer step, over all experiences."""
        return {"run_id": self.run_id, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the run of a `state_dict`; before `run_started`."""
        self.run_id, self.step, self._resumed = str(state["run_id"]), int(state["step"]), True

    def _within(self, name: str, call: Callable[[], Any]) -> None:
        try:
            within(self.timeout * LONGER.get(name, 1), call)
        except TimeoutError:
            self._hangs = True
            raise

    # Each `_on_…` does our own work, which may take its time, and returns the call into W&B, which may not.

    def _on_run_started(
        self, *, run: Mapping[str, Any], config: Mapping[str, Any], **data: Any
    ) -> Callable[[], None]:
        hospitals = list(data.get("hospitals") or ())
        return partial(self._start, run, redacted(config, self.redact), hospitals)

    def _start(self, run: Mapping[str, Any], shown: Any, hospitals: list[str]) -> None:
        try:
            self._run = self._begin(run, shown)
        except Exception as error:
            if self.mode != "online" or self._hangs:
                raise
            wandb_service.kill(wandb_service.client(self.mode))
            self.mode = "offline"
            self._told.append(
                f"W&B cannot be reached and writes offline; `wandb sync` sends it later ({error})"
            )
            self._run = self._begin(run, shown)
        self._file = Path(self._run.settings.sync_file)
        self._run.define_metric("train/step")
        self._run.define_metric("train/*", step_metric="train/step")
        self._run.define_metric("cl/after")
        self._run.define_metric("cl/*", step_metric="cl/after")
        self._run.define_metric("matrix/*", step_metric="cl/after")
        self._lineage(partial(self._use_hospitals, shown, hospitals))

    def _begin(self, run: Mapping[str, Any], config: Any) -> Any:
        wandb = wandb_service.client(self.mode)
        begun = wandb.init(
            project=self.project,
            entity=self.entity,
            group=run.get("group") or self.group,
            job_type="train",
            name=self.redact(str(run["name"])),
            id=self.run_id,
            resume="allow" if self._resumed and self.mode == "online" else None,
            dir=str(self.folder),
            mode=self.mode,
            config=config,
            settings=wandb_service.settings(wandb, self.timeout),
        )
        if self._hangs:  # it came too late, and nobody else would end its service
            wandb_service.kill(wandb)
            raise TimeoutError("W&B began too late")
        return begun

    def _on_step(self, *, after: int, loss: float, lr: float, **_: Any) -> Callable[[], None]:
        self.step += 1
        row = {"train/loss": loss, "train/lr": lr, "train/experience": after, "train/step": self.step}
        return partial(self._run.log, row, step=self.step)

    def _on_evaluated(
        self, *, after: int, matrix: ResultMatrix, results: Mapping[str, Any], **_: Any
    ) -> Callable[[], None]:
        row: dict[str, Any] = {"cl/after": after}
        for metric in matrix.metrics:
            for hospital in matrix.hospitals:
                value = matrix.value(after, hospital, metric=metric)
                if value is not None:
                    row[f"cl/{metric}/{hospital}"] = value
        row |= scalars(results.get("summary") or {}, "cl/")
        row["matrix/table"] = self._table([s for s in results["scores"] if s["after"] == after])
        row["matrix/heatmap"] = self._image(png(matrix_heatmap(results, matrix, most=MOST)))
        return partial(self._run.log, row, step=self.step)

    def _on_note(self, *, text: str) -> Callable[[], None]:
        return partial(self._run.summary.update, {"note": self.redact(text)})

    def _on_run_ended(self, *, results: Mapping[str, Any], **_: Any) -> Callable[[], None]:
        shown = redacted(results, self.redact)
        told = scalars({key: value for key, value in shown.items() if key != "scores"})
        pictures = sorted((self.folder / OVERLAYS).glob("*.png")) if self.images else []
        images = [self._image(path.read_bytes(), self.redact(path.stem)) for path in pictures]
        model = self._lineage(partial(self._model, {key: shown.get(key) for key in ("run", "summary")}))
        return partial(self._end, images, told, model)

    def _end(self, images: list[Any], told: Mapping[str, Any], model: Any) -> None:
        if images:
            self._run.log({OVERLAYS: images}, step=self.step)
        self._run.summary.update(told)
        if model is not None:
            self._lineage(partial(self._run.log_artifact, model))

    def _lineage(self, call: Callable[[], Any]) -> Any:
        """Online only, else None; what goes wrong here costs the artifact, not the curves."""
        if not self.artifacts or self.mode != "online":
            return None
        try:
            return call()
        except Exception as error:
            self._told.append(f"W&B has not taken an artifact: {type(error).__name__}: {error}")
            return None

    def _use_hospitals(self, config: Mapping[str, Any], names: list[str]) -> None:
        for artifact in wandb_artifacts.hospitals(wandb_service.client(self.mode), config, names):
            self._run.use_artifact(artifact)

    def _model(self, told: Mapping[str, Any]) -> Any:
        scratch = Path(self._run.settings.log_dir)
        return wandb_artifacts.model(wandb_service.client(self.mode), self.folder, told, scratch)

    def _table(self, scores: Sequence[Mapping[str, Any]]) -> Any:
        """Of one experience: a table of all would be written anew after each, and be cut. Without the organs where it
        would be cut even so."""
        wandb = wandb_service.client(self.mode)
        kept = scores if len(scores) <= ROWS else [s for s in scores if s["organ"] == MEAN]
        table = wandb.Table(columns=list(TABLE), data=[[s[key] for key in TABLE] for s in kept])
        if self.mode != "online":
            # As an artifact it would be staged outside the run folder, with that path in the log.
            table._log_type = None
        return table

    def _image(self, data: bytes, caption: str | None = None) -> Any:
        from PIL import Image

        wandb = wandb_service.client(self.mode)
        return wandb.Image(Image.open(io.BytesIO(data)), caption=caption)
