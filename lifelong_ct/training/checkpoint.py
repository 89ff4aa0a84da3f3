"""Checkpoints: a folder of safetensors and JSON, checked whole before anything is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.core.files import checksum, new_directory, read_json

FORMAT = 1
_TENSOR = "__tensor__"


def save(path: Path, tree: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors and JSON values as a folder that appears whole.

    Raises:
        LifelongCTError: the folder cannot be written.
        TypeError: a value is neither tensor nor JSON.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(tree, "", tensors)
    with new_directory(path) as scratch:
        save_file(tensors, str(scratch / "tensors.safetensors"))
        (scratch / "state.json").write_text(json.dumps(skeleton, allow_nan=False))
        sums = {file.name: checksum(file) for file in sorted(scratch.iterdir())}
        (scratch / "manifest.json").write_text(json.dumps({"format": FORMAT, "xxh3": sums}))


def load(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged, or the format is newer.
    """
    if not (path / "manifest.json").exists():
        raise CheckpointError(
            "the checkpoint is not complete", str(path), "use an older checkpoint of the run"
        )
    manifest = read_json(path / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"format {manifest.get('format')} of the checkpoint is not {FORMAT}",
            str(path),
            "install a version that reads it",
        )
    for name, expected in manifest["xxh3"].items():
        if not (path / name).exists() or checksum(path / name) != expected:
            raise CheckpointError(
                f"{name} is missing or damaged",
                str(path),
                "delete this checkpoint; an older one will be used",
            )
    try:
        tensors = load_file(str(path / "tensors.safetensors"))
    except SafetensorError as error:
        raise CheckpointError(f"not readable: {error}", str(path), "delete this checkpoint") from error
    return _unflatten(read_json(path / "state.json"), tensors)


def nbytes(path: Path) -> int:
    """Bytes on disk of a checkpoint."""
    return sum(file.stat().st_size for file in path.iterdir())


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the last `keep` checkpoints, by name."""
    for old in sorted(folder.glob("after_*"))[:-keep]:
        shutil.rmtree(old)


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        pairs = [[key, _flatten(v, f"{name}/{key}", tensors)] for key, v in value.items()]
        return {"__pairs__": pairs}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} is neither a tensor nor a JSON value")


def _unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _unflatten(v, tensors) for key, v in value["__pairs__"]}
    return [_unflatten(v, tensors) for v in value] if isinstance(value, list) else value
