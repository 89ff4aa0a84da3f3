"""What must not leave: the redactor of a configuration, and the configuration that reports may show."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import Identity, Redactor
from lifelong_ct.core.paths import below, is_url, open_path, read_bytes
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.splits import SIDES

FOLDER_KEYS = ("root", "anatomy")
FILE_KEYS = ("manifest", "test", "split", "splits", "patients")
MODEL_FILES = ("plans", "weights")
"""Options of a model that name files of another data set."""
LISTS = ("test", "split", "patients")
"""Options of a hospital that name cases or patients."""
GROUPS = (
    "paths",
    "stream",
    "strategy",
    "model",
    "loss",
    "memory",
    "data",
    "sampling",
    "trainer",
    "checkpoint",
    "evaluation",
    "reporter",
)
PLACES = ("runs", "state", "store")
UNHASHED = ("paths", "reporter", "group", "checkpoint")
"""Groups that do not change what a run computes."""
UNHASHED_KEYS = {
    "trainer": ("stop_after", "keep_checkpoints", "checkpointing", "optimizer_state"),
    "data": ("cache", "workers", "worker_kind", "read_ahead", "timeout", "ingest_workers"),
    "memory": ("exemplar_tier", "gpu_available", "smaller_patch"),
    "strategy": ("overhead", "grows"),
}
"""Keys of other groups that do not either: a run may go on with other workers, and what a strategy promises is no part of
what it computes."""
_USUAL = ("manifest.json", "manifest.csv")
_NAME = re.compile(r"\w[\w.-]*")


def redactor(config: Mapping[str, Any], identity: Identity) -> Redactor:
    """Knows the roots of a configuration, and the identifiers of its hospitals even if those are broken."""
    redact = without_paths(config)
    for entry in hospitals(config):
        _hide_manifest(redact, _name(entry), entry, identity)
        _hide_names(redact, _name(entry), entry, identity)
        _hide_folders(redact, _name(entry), entry, identity)
    return redact


def without_paths(config: Mapping[str, Any]) -> Redactor:
    """Knows the roots of a configuration only."""
    entries = list(hospitals(config))
    organs = config["stream"].get("organs")
    public = [
        str(config[group]["name"]) for group in ("stream", "strategy") if "name" in config.get(group, {})
    ]
    public += [*map(_name, entries), *(map(str, organs) if isinstance(organs, (list, tuple)) else ())]
    redact = Redactor(public)
    for name, path in config["paths"].items():
        if isinstance(path, str) and path:
            redact.hide_root(path, name)
    for key in MODEL_FILES:
        if isinstance(path := config.get("model", {}).get(key), str):
            redact.hide_root(path.rpartition("/")[0], "model")
    for entry in entries:
        for key in (*FOLDER_KEYS, *FILE_KEYS):
            if isinstance(path := entry.get(key), str):
                folder, _, file = path.rpartition("/")
                redact.hide_root(path if key in FOLDER_KEYS else folder, _name(entry))
                alone = key == "manifest" or not folder  # can stand in a text without its folder
                if alone and file not in _USUAL:
                    redact.hide_words([(file, f"<{_name(entry)}>")])
    return redact


def public(config: Mapping[str, Any], neutral: Mapping[str, Any], redact: Redactor) -> dict[str, Any]:
    """What reports show: `neutral` (the configuration with placeholders for `paths`), redacted.

    Manifests and splits that stand in the configuration name patients, so only their size is shown; of paths
    nothing is.
    """
    shown = _redacted({**neutral, "stream": _without_names(neutral["stream"])}, redact)
    assert isinstance(shown, dict)
    return shown


def configuration_hash(neutral: Mapping[str, Any]) -> str:
    """8 hex digits that identify what a run computes, wherever its folders are."""
    kept: dict[str, Any] = {key: value for key, value in neutral.items() if key not in UNHASHED}
    for group, keys in UNHASHED_KEYS.items():
        kept[group] = _without(kept.get(group) or {}, keys)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _without(values: Mapping[str, Any], keys: Container[str]) -> dict[str, Any]:
    """A mapping without some keys, in the mappings inside it too (a strategy may be made of parts)."""
    kept = ((key, value) for key, value in values.items() if key not in keys)
    return {key: _without(value, keys) if isinstance(value, Mapping) else value for key, value in kept}


def check_form(config: Mapping[str, Any]) -> None:
    """Refuses a configuration that lacks the parts every verb needs.

    Raises:
        LifelongCTError: a group that is missing or no mapping, a path that is none, or a name that cannot be
            part of a folder's.
    """
    for group in GROUPS:
        given = config.get(group)
        if group == "trainer" and isinstance(given, Mapping) and set(given) == {"augment"}:
            given = None  # `augment=` writes there too
        if not isinstance(given, Mapping):
            raise LifelongCTError(
                f"{group} is {_kind(given)}, not a group of keys",
                group,
                f"choose one: {group}=…; --help",
            )
    for key, path in config["paths"].items():
        if not isinstance(path, str) and (path is not None or key in PLACES):
            raise LifelongCTError(
                f"paths.{key} is {_kind(path)}", f"paths.{key}", "write the path of a folder"
            )
    lacking = [key for key in PLACES if key not in config["paths"]]
    if lacking:
        raise LifelongCTError(
            f"paths.{lacking[0]} is missing", "paths", "keep the keys of conf/paths/default.yaml"
        )
    for group in ("stream", "model", "loss"):
        if "_target_" not in config[group]:
            raise LifelongCTError("it has no _target_", group, f"copy one of conf/{group}/ and change it")
    for key in ("hospitals", "unseen"):
        entries = config["stream"].get(key) or ()
        listed = list(entries.values()) if isinstance(entries, Mapping) else entries
        if not isinstance(listed, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in listed):
            raise LifelongCTError(
                "a hospital is no group of keys", f"stream.{key}", "list each as {name: …, layout: …, …}"
            )
    for group in ("stream", "strategy"):
        name = config[group].get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LifelongCTError(
                f"the name {name!r} cannot be part of a folder's name",
                f"{group}.name",
                "write letters, digits, _ and - in the YAML",
            )


def hospitals(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every hospital entry of the stream, trained or unseen, with its name."""
    stream = config["stream"]
    for key in ("hospitals", "unseen"):
        entries, common = stream.get(key) or (), stream.get("common") or {}
        if isinstance(entries, Mapping):
            entries = [{"name": n, **entry} for n, entry in entries.items() if isinstance(entry, Mapping)]
        if not isinstance(entries, (list, tuple)) or not isinstance(common, Mapping):
            continue  # the stream says what is wrong
        for entry in entries:
            if isinstance(entry, Mapping):
                yield {**common, **entry}


def _manifest_rows(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    manifest = entry.get("manifest")
    if isinstance(manifest, str):
        places = [below(open_path(entry["root"]), manifest)] if entry.get("root") else []
        manifest = next(filter(None, map(_read, (*places, open_path(manifest)))), None)
    rows = manifest.get("cases") if isinstance(manifest, Mapping) else manifest
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _read(path: Path) -> Any:
    """A manifest as far as it can be read; its layout reports what is wrong with it."""
    try:
        text = read_bytes(path).decode("utf-8-sig", errors="replace")
        return list(csv.DictReader(text.splitlines())) if path.suffix == ".csv" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None


def _hide_manifest(redact: Redactor, name: str, entry: Mapping[str, Any], identity: Identity) -> None:
    root = _root(entry)
    outside = []
    for row in _manifest_rows(entry):
        pseudonym = identity.pseudonym(name, str(row.get("id") or row.get("patient")))
        redact.hide_words((str(row[key]), pseudonym) for key in ("id", "patient") if row.get(key))
        owner = str(row.get("patient") or row.get("id"))
        for file in (str(row[key]) for key in ("image", "label") if row.get(key)):
            path = below(root, file)
            redact.hide_path(path, owner, pseudonym, root)
            if is_url(file):
                redact.hide_root(str(path.parent), name)
            elif os.path.isabs(file) and not path.is_relative_to(root):
                outside.append(path.parent)
    if outside:
        redact.hide_root(os.path.commonpath(outside), name)


def _hide_names(redact: Redactor, name: str, entry: Mapping[str, Any], identity: Identity) -> None:
    """The identifiers that options name or a layout tells without looking at its cases, so that errors of its
    listing show none."""
    names = set(_named([entry.get(key) for key in LISTS]))
    if isinstance(entry.get("root"), str) and "manifest" not in entry:
        with suppress(Exception):  # whatever is wrong is reported when the hospital is opened
            layout: Any = open_layout({key: value for key, value in entry.items() if key != "sharing"})
            names |= set(layout.names()) if hasattr(layout, "names") else set()
    redact.hide_words((each, identity.pseudonym(name, each)) for each in names)


def _named(value: Any) -> Iterator[str]:
    """Texts in nested lists and tables."""
    if isinstance(value, Mapping):
        yield from (key for key in value if key not in SIDES)
    for item in value.values() if isinstance(value, Mapping) else value:
        if isinstance(item, (list, tuple, Mapping)):
            yield from _named(item)
        elif isinstance(item, str):
            yield item


def _hide_folders(redact: Redactor, name: str, entry: Mapping[str, Any], identity: Identity) -> None:
    """Folders of DICOM are named after patients; so are the entries of a split."""
    if entry.get("layout") != "dicom" or not entry.get("root"):
        return
    root = Path(entry["root"])
    try:
        folders = [path.relative_to(root) for path in root.glob(str(entry.get("series") or "*"))]
    except (OSError, ValueError, NotImplementedError):  # its layout reports what is wrong
        folders = []
    for folder in folders:
        pseudonym = identity.pseudonym(name, folder.as_posix())
        redact.hide_words([(folder.as_posix(), pseudonym)])
        redact.hide_path(root / folder, folder.parts[0], pseudonym, root)
    split = entry.get("split")
    for value in split.values() if isinstance(split, Mapping) else ():
        for case in value if isinstance(value, list) else ():
            redact.hide_words((part, identity.pseudonym(name, str(case))) for part in str(case).split("/"))


def _kind(value: Any) -> str:
    """What stands there, without its content."""
    return "missing" if value is None else f"a {type(value).__name__}"


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", "hospital"))


def _root(entry: Mapping[str, Any]) -> Path:
    """Where the paths of a manifest start."""
    manifest = entry.get("manifest")
    if entry.get("root"):
        return open_path(entry["root"])
    return open_path(manifest).parent if isinstance(manifest, str) else Path()


def _without_names(value: Any) -> Any:
    """Without paths, and without what names cases and patients."""
    if isinstance(value, Mapping):
        return {k: _counted(k, v) for k, v in value.items()}
    return [_without_names(item) for item in value] if isinstance(value, (list, tuple)) else value


def _counted(key: str, value: Any) -> Any:
    if key == "manifest" and isinstance(value, Mapping):
        return f"<{len(value.get('cases') or [])} cases>"
    if key == "split" and isinstance(value, Mapping):
        return f"<{sum(map(len, value.values()))} entries>"
    if key in LISTS and isinstance(value, (list, tuple, Mapping)):
        return f"<{len(value)} entries>"
    if key in (*FOLDER_KEYS, *FILE_KEYS) and isinstance(value, str):
        return f"<{key}>"
    return _without_names(value)


def _redacted(value: Any, redact: Redactor) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item, redact) for item in value]
    return redact(value) if isinstance(value, str) else value
