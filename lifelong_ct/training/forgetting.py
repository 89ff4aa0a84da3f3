"""A patient withdraws: what a run folder keeps of them is removed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.memory import copies, rows
from lifelong_ct.memory.files import FOLDER, ExemplarFiles
from lifelong_ct.training import checkpoint
from lifelong_ct.training.folder import claimed
from lifelong_ct.training.generations import named, written


@dataclass(frozen=True)
class Forgotten:
    """What was removed.

    Attributes:
        exemplars: checkpoint → how many; those that named none of the patients are not listed.
        files: exemplar files that are gone.
        nbytes: that they held.
    """

    exemplars: Mapping[str, int]
    files: int
    nbytes: int


def forget(run_folder: Path, patients: Collection[str]) -> Forgotten:
    """Removes every exemplar of patients from every checkpoint of a run, and the files that only they needed; likewise
    the patches that Avalanche's own plugins keep.

    Each checkpoint is old or new, whenever this is interrupted, and a second call finishes. A run that goes on from
    the folder goes on without the patients; what the weights have learnt from them stays. A run that is under way
    removes them with `ExemplarMemory.remove`; one with a plugin of Avalanche's that keeps patches has to be stopped.

    Args:
        run_folder: of a run that no process is running.
        patients: keyed hashes, `Identity.of_patient(hospital, patient)`.

    Returns:
        What this call removed.

    Raises:
        LifelongCTError: no run folder, or a process is running in it.
        CheckpointError: a checkpoint cannot be read, or holds patches of which nobody wrote down whose they are (see
            `copies.unattributed`), so that they may be the patients'. What can be done is done everywhere.
    """
    folder = run_folder / "checkpoints"
    if not folder.is_dir():
        raise LifelongCTError("there is no checkpoint", str(run_folder), "give a run folder")
    with claimed(run_folder):
        files = ExemplarFiles(run_folder / FOLDER, 0)
        before = _sizes(files)
        removed, problem = _from_checkpoints(folder, frozenset(patients))
        files.name(named(folder))
        gone = {name: size for name, size in before.items() if name not in _sizes(files)}
    if problem is not None:
        raise problem
    return Forgotten(removed, len(gone), sum(gone.values()))


def _from_checkpoints(
    folder: Path, patients: frozenset[str]
) -> tuple[dict[str, int], CheckpointError | None]:
    removed: dict[str, int] = {}
    problem: CheckpointError | None = None
    for path in written(folder):
        try:
            state = checkpoint.load(path)
        except CheckpointError as error:
            problem = error
            continue
        count, changed = _without(state, patients)
        if changed:
            checkpoint.save(path, state)
        if count:
            removed[path.name] = count
        if left := copies.unattributed(state.get("strategy")):
            problem = CheckpointError(
                f"{left} patches are kept of which nobody knows whose they are",
                str(path),
                "delete this checkpoint; the run goes on from another one, or starts again",
            )
    return removed, problem


def _without(state: dict[str, Any], patients: frozenset[str]) -> tuple[int, bool]:
    """Takes patients out of the state of a run; how many patches, and whether anything changed."""
    found = [rows.without(own, patients) for own in rows.states(state)]
    copied = sum(copies.without(own, patients) for own in rows.states(state, copies.KIND))
    return copied + sum(count for count, _ in found), bool(copied) or any(changed for _, changed in found)


def _sizes(files: ExemplarFiles) -> dict[str, int]:
    there = files.folder.iterdir() if files.folder.exists() else ()
    return {path.name: path.stat().st_size for path in there}
