"""Checkpoints: a folder of safetensors and JSON, checked whole before anything is changed."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.core.files import checksum, new_directory, read_json, remove_scratch

FORMAT = 1
FILES = ("state.json", "tensors.safetensors")
_TENSOR = "__tensor__"
_DAMAGED = "delete this checkpoint; an older one will be used"


def save(path: Path, tree: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors and JSON values as a folder that appears whole.

    Raises:
        LifelongCTError: the folder cannot be written.
        TypeError, ValueError: a value is neither tensor nor JSON, or not finite.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_flatten(tree, "", tensors), allow_nan=False)
    with new_directory(path) as scratch:
        try:
            save_file(tensors, str(scratch / "tensors.safetensors"))
        except SafetensorError as error:
            raise OSError(f"safetensors: {error}") from error
        (scratch / "state.json").write_text(text)
        sums = {name: checksum(scratch / name) for name in FILES}
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
    sums = _sums(path)
    for name in FILES:
        if not (path / name).exists() or checksum(path / name) != sums.get(name):
            raise CheckpointError(f"{name} is missing or damaged", str(path), _DAMAGED)
    try:
        tensors = load_file(str(path / "tensors.safetensors"))
    except SafetensorError as error:
        raise CheckpointError(f"not readable: {error}", str(path), _DAMAGED) from error
    return _unflatten(read_json(path / "state.json"), tensors)


def structure(path: Path) -> dict[str, Any]:
    """What `load` reads, with None in place of the tensors, and unchecked.

    Raises:
        LifelongCTError: there is no such checkpoint, or it is damaged.
    """
    try:
        return _unflatten(read_json(path / "state.json"), defaultdict(lambda: None))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("state.json is damaged", str(path), _DAMAGED) from error


def _sums(path: Path) -> dict[str, str]:
    """File → checksum, from the manifest."""
    try:
        manifest = read_json(path / "manifest.json")
        found, sums = manifest["format"], dict(manifest["xxh3"])
    except (LifelongCTError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError("manifest.json is damaged", str(path), _DAMAGED) from error
    if found != FORMAT:
        raise CheckpointError(
            f"format {found} of the checkpoint is not {FORMAT}", str(path), "install a version that reads it"
        )
    return sums


def nbytes(path: Path) -> int:
    """Bytes on disk of a checkpoint."""
    return sum(file.stat().st_size for file in path.iterdir())


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the last `keep` checkpoints, by name, and what a killed process left behind."""
    remove_scratch(folder)
    for old in sorted(folder.glob("after_*"))[:-keep]:
        shutil.rmtree(old)


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        unique = f"{len(tensors):05d}{name}"  # {"a/b": …} and {"a": {"b": …}} have the same name
        tensors[unique] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: unique}
    if isinstance(value, dict):
        if not all(isinstance(key, (str, int)) for key in value):
            raise TypeError(f"{name}: keys are str or int, not {list(value)}")
        pairs = [[key, _flatten(v, f"{name}/{key}", tensors)] for key, v in value.items()]
        return {"__pairs__": pairs}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} is neither a tensor nor a JSON value")


def _unflatten(value: Any, tensors: Mapping[str, Tensor | None]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _unflatten(v, tensors) for key, v in value["__pairs__"]}
    return [_unflatten(v, tensors) for v in value] if isinstance(value, list) else value
