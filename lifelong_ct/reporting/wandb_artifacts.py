"""Lineage in W&B: what a run has learnt from, and the model that came out. Online only.

No voxel leaves: a dataset is what the configuration may say of a hospital, a model is its weights; exemplars, which a
checkpoint holds beside them, stay here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

TOLD = ("layout", "modality", "organs", "sharing", "licence")
"""Keys of a hospital's configuration that its artifact tells."""
_MODEL = re.compile(r"\d+/learner/model/(.+)")
_ODD = re.compile(r"[^\w.-]")


def hospitals(wandb: Any, config: Mapping[str, Any], names: list[str]) -> Iterator[Any]:
    """An artifact of type `dataset` for each hospital: its entry in the (redacted) configuration, no data.

    Args:
        wandb: the module.
        config: of the run, as reports show it.
        names: hospitals that are trained on.
    """
    entries = _entries(config.get("stream") or {})
    for name in names:
        told = {key: value for key, value in entries.get(name, {}).items() if key in TOLD}
        told = {"name": name, **told}
        artifact = wandb.Artifact(_name(f"hospital-{name}"), type="dataset", metadata=told)
        with artifact.new_file("hospital.json") as file:
            json.dump(told, file, sort_keys=True)
        yield artifact


def model(wandb: Any, folder: Path, run: Mapping[str, Any], scratch: Path) -> Any | None:
    """An artifact of type `model`: the weights of the newest checkpoint, and the scores; None without a checkpoint.

    Args:
        wandb: the module.
        folder: of the run.
        run: `run` and `summary` of results.json, redacted.
        scratch: folder for the file with the weights.
    """
    checkpoints = sorted((folder / "checkpoints").glob("after_*"))
    if not checkpoints:
        return None
    file = scratch / "model.safetensors"
    with safe_open(str(checkpoints[-1] / "tensors.safetensors"), "numpy") as tensors:
        found = ((_MODEL.fullmatch(key), key) for key in tensors.keys())  # noqa: SIM118
        weights = {match[1]: tensors.get_tensor(key) for match, key in found if match}
    scratch.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(file))
    metadata = {"checkpoint": checkpoints[-1].name, **run}
    artifact = wandb.Artifact(_name(f"model-{run['run']['name']}"), type="model", metadata=metadata)
    artifact.add_file(str(file), name="model.safetensors", policy="immutable", skip_cache=True)
    return artifact


def _entries(stream: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Hospital → its options, whichever way the stream lists them."""
    entries, common = stream.get("hospitals") or (), stream.get("common") or {}
    listed = (
        [{"name": name, **(entry or {})} for name, entry in entries.items()]
        if isinstance(entries, Mapping)
        else entries
    )
    return {str(entry["name"]): {**common, **entry} for entry in listed if "name" in entry}


def _name(text: str) -> str:
    """Letters, digits, `_`, `-` and `.` only, 128 at most, as W&B wants it."""
    return _ODD.sub("-", text)[:128]
