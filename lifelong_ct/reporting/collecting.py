"""The runs of a folder, whatever state each is in."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.reporting.run_folder import CONFIG, LOG, RESULTS, TRAIN, Run, read_run
from lifelong_ct.reporting.text import UNDEFINED, number, plural

REPORT = "report"
LOCK = ".lock"
OURS = (RESULTS, CONFIG, TRAIN, LOG, LOCK)
"""Files by one of which a folder is known as a run's. The name of any other folder is nobody's business: it may be a
patient's."""
GOES_ON = "the same command goes on"


class LeftOut(NamedTuple):
    """A run that is not compared: folder, status, how far it came, mean Dice so far, last sign of life, and why."""

    name: str
    status: str
    progress: str = UNDEFINED
    score: str = UNDEFINED
    written: str = UNDEFINED
    why: str = ""


@dataclass
class Collection:
    """Run folders of a folder.

    Attributes:
        finished: what is compared.
        left_out: the others; none is dropped.
    """

    finished: list[Run] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def collect(runs: Path) -> Collection:
    """Reads every run folder directly below `runs`; a damaged one is listed, not fatal; what is none is passed over.

    Raises:
        LifelongCTError: there is no such folder.
    """
    if not runs.is_dir():
        raise LifelongCTError("there is no such folder", str(runs), "give paths.runs, or the folder of a run")
    found = Collection()
    for path in sorted(runs.iterdir()):
        if not any((path / name).exists() for name in OURS):
            continue
        if not (path / RESULTS).exists() and (path / LOCK).exists():
            found.left_out.append(LeftOut(path.name, "starting", written=_written(path), why=GOES_ON))
            continue
        try:
            run = read_run(path)
        except LifelongCTError as error:
            found.left_out.append(LeftOut(path.name, "not readable", why=error.what))
            continue
        if run.status == "finished":
            found.finished.append(run)
        else:
            found.left_out.append(left_out(run, str(run.results.get("error") or GOES_ON)))
    return found


def read_runs(runs: Path) -> list[Run]:
    """Every run folder that can be read, finished or not."""
    found = []
    for path in sorted(runs.iterdir()):
        if (path / RESULTS).is_file():
            with suppress(LifelongCTError):
                found.append(read_run(path))
    return found


def left_out(run: Run, why: str) -> LeftOut:
    """A run that can be read and is not compared."""
    done = len(run.results.get("experiences") or ())
    return LeftOut(
        run.path.name,
        run.status,
        f"{done} of {plural(len(run.tasks), 'experience')}" if run.tasks else UNDEFINED,
        number((run.results.get("summary") or {}).get("acc")),
        _written(run.path),
        why,
    )


def _written(path: Path) -> str:
    """When the run last wrote something: who waits for one that says it is running wants to know."""
    times = [file.stat().st_mtime for name in (RESULTS, TRAIN, LOG, LOCK) if (file := path / name).exists()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else UNDEFINED
