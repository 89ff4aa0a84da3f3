"""What W&B wrote while it was offline, and the process that writes it."""

import json
from pathlib import Path
from typing import Any

from lifelong_ct.reporting.wandb_file import records


def read_offline(folder: Path) -> dict[str, Any]:
    """Config, history rows, summary, axes (glob of keys → key of their axis) and the run's own fields of the only run in
    `folder`/wandb."""
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "axes": {}}

    def value(item: Any) -> tuple[str, Any]:
        return item.key or "/".join(item.nested_key), json.loads(item.value_json)

    for record in records(file):
        if record.HasField("run"):
            found["run"] = record.run
            found["config"] = dict(map(value, record.run.config.update))
        found["history"] += [dict(map(value, record.history.item))] if record.HasField("history") else []
        if record.HasField("metric") and record.metric.step_metric:
            found["axes"][record.metric.glob_name] = record.metric.step_metric
        found["summary"] |= dict(map(value, record.summary.update))
    return found


def services(pid: int) -> list[int]:
    """Processes of W&B that a process has started, by whichever of its threads. Linux only."""
    children = [
        child
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [int(child) for child in children if "wandb" in Path(f"/proc/{child}/comm").read_text()]
