"""Weights & Biases: a copy of the run folder's numbers. The only importer of wandb, and only when it is used.

Offline where no API key is present: nothing leaves the machine until `wandb sync` is called. What is logged
is redacted; code, git, host, user name, console output and paths are not recorded.
"""

from __future__ import annotations

import io
import logging
import netrc
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.figures import matrix_heatmap
from lifelong_ct.reporting.run_folder import redacted
from lifelong_ct.reporting.style import png

TABLE = ("after", "hospital", "organ", "metric", "mean", "n")


class WandB:
    """Reporter for Weights & Biases.

    Args:
        folder: of the run; W&B's own files go into `<folder>/wandb`.
        redact: removes what is private from a text.
        project: of W&B.
        entity: team; None is the default of the key.
        mode: online or offline; None is online where an API key is present.
        group: name of the sweep.
    """

    def __init__(
        self,
        folder: Path,
        redact: Callable[[str], str],
        project: str = "lifelong-ct",
        entity: str | None = None,
        mode: str | None = None,
        group: str | None = None,
    ) -> None:
        self.folder, self.redact = folder, redact
        self.project, self.entity, self.group = project, entity, group
        self.mode = mode or os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
        self.run_id, self.step = uuid.uuid4().hex[:8], 0
        self._resumed = False
        self._run: Any = None

    def event(self, name: str, **data: Any) -> None:
        """Logs what an event brings; others are passed over."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None and (self._run is not None or name == "run_started"):
            handler(**data)

    def close(self, status: str) -> None:
        """Finishes the run of W&B, whatever happened."""
        run, self._run = self._run, None
        if run is None:
            return
        logs = Path(run.settings.log_dir)
        try:
            run.finish(exit_code=1 if status == "failed" else 0)
        finally:
            self._end_service()
        shutil.rmtree(logs, ignore_errors=True)  # W&B's own diary, of no use after a good end

    def _end_service(self) -> None:
        """Its end is what makes the offline file complete, and a broken one must not serve the next run."""
        wandb = _wandb(self.mode)
        if wandb.run is None:  # else somebody else in this process uses it
            with suppress(Exception):
                wandb.teardown()

    def state_dict(self) -> dict[str, Any]:
        """Id of the run and number of the last optimizer step, over all experiences."""
        return {"run_id": self.run_id, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the run of a `state_dict`; before `run_started`."""
        self.run_id, self.step, self._resumed = str(state["run_id"]), int(state["step"]), True

    def _on_run_started(self, *, run: Mapping[str, Any], config: Mapping[str, Any], **_: Any) -> None:
        wandb = _wandb(self.mode)
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=run.get("group") or self.group,
            job_type="train",
            name=self.redact(str(run["name"])),
            id=self.run_id,
            resume="allow" if self._resumed and self.mode == "online" else None,
            dir=str(self.folder),
            mode=self.mode,
            config=redacted(config, self.redact),
            settings=_settings(wandb),
        )
        self._run.define_metric("train/step")
        self._run.define_metric("train/*", step_metric="train/step")
        self._run.define_metric("cl/after")
        self._run.define_metric("cl/*", step_metric="cl/after")

    def _on_step(self, *, after: int, loss: float, lr: float, **_: Any) -> None:
        self.step += 1
        row = {"train/loss": loss, "train/lr": lr, "train/experience": after, "train/step": self.step}
        self._run.log(row, step=self.step)

    def _on_evaluated(
        self, *, after: int, matrix: ResultMatrix, results: Mapping[str, Any], **_: Any
    ) -> None:
        row: dict[str, Any] = {"cl/after": after}
        for metric in matrix.metrics:
            for hospital in matrix.hospitals:
                value = matrix.value(after, hospital, metric=metric)
                if value is not None:
                    row[f"cl/{metric}/{hospital}"] = value
        row |= {f"cl/{k}": v for k, v in (results.get("summary") or {}).items() if v is not None}
        row["matrix/table"] = self._table(results)
        row["matrix/heatmap"] = _image(png(matrix_heatmap(results, matrix)))
        self._run.log(row, step=self.step)

    def _on_note(self, *, text: str) -> None:
        self._run.summary["note"] = self.redact(text)

    def _on_run_ended(self, *, results: Mapping[str, Any], **_: Any) -> None:
        self._run.summary.update(scalars(redacted(results, self.redact)))

    def _table(self, results: Mapping[str, Any]) -> Any:
        wandb = _wandb(self.mode)
        table = wandb.Table(columns=list(TABLE), data=[[s[key] for key in TABLE] for s in results["scores"]])
        if self.mode != "online":
            # As an artifact it would be staged outside the run folder, with that path in the log.
            table._log_type = None
        return table


def scalars(results: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """results.json as one level of `a/b/c` → number, text or bool; what is null is left out.

    A score is `scores/<after>/<hospital>/<organ>/<metric>/{mean,n}`, an experience `experiences/<after>/…`, a
    skipped case `skipped/<number>/…`, a list of words one text.
    """
    flat: dict[str, Any] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(scalars(value, f"{name}/"))
        elif key == "scores" and not prefix:
            for s in value:
                place = f"scores/{s['after']}/{s['hospital']}/{s['organ']}/{s['metric']}/"
                flat.update(scalars({"mean": s["mean"], "n": s["n"]}, place))
        elif key == "experiences" and not prefix:
            for e in value:
                flat.update(scalars({k: v for k, v in e.items() if k != "after"}, f"{name}/{e['after']}/"))
        elif key == "skipped" and not prefix:
            for i, row in enumerate(value):
                flat.update(scalars(row, f"{name}/{i}/"))
        elif isinstance(value, (list, tuple)):
            flat[name] = ", ".join(map(str, value))
        elif value is not None:
            flat[name] = value
    return flat


def has_api_key() -> bool:
    """Whether W&B could log in: WANDB_API_KEY, or an entry of the netrc file for its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _wandb(mode: str) -> Any:
    if mode != "online":
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would use the network even offline
    import wandb

    return wandb


def _settings(wandb: Any) -> Any:
    settings = wandb.Settings(
        silent=True,
        console="off",
        symlink=False,
        reinit="create_new",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="-",
        username="-",
        program="-",
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    wandb.setup(settings)
    logging.getLogger("wandb").setLevel(logging.CRITICAL + 1)  # its diary begins with our paths
    return settings


def _image(data: bytes) -> Any:
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(data)))
