"""The result matrix R: after every experience the score on every hospital."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_text
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.tasks import Task, seen_after
from lifelong_ct.evaluation.transfer import Summary, summarise

MEAN = "mean"
"""Organ name of the mean over organs, in results.json."""
_KEYS = ("after", "hospital", "case", "organ")
_ABOUT = ("patient", "label_kind")
"""Last columns of cases.csv, where they are known: whose case it is, as a pseudonym, and who labelled it."""
_Key = tuple[int, str, str, str]  # after, hospital, metric, organ


class ResultMatrix:
    """Scores per experience, hospital, case, organ and metric, and what follows from them.

    An undefined value (None) is kept, and enters no mean. A score that is given twice is replaced, so that
    an evaluation which is repeated after a resume counts once.
    """

    def __init__(self, rows: Iterable[EvaluationRow] = ()) -> None:
        self._values: dict[_Key, dict[str, float | None]] = {}
        self._about: dict[tuple[str, str], tuple[str, str]] = {}
        self.append(rows)

    def append(self, rows: Iterable[EvaluationRow]) -> None:
        """Adds scores.

        Raises:
            LifelongCTError: a value is NaN or infinite; an undefined one is None.
        """
        for row in rows:
            if row.value is not None and not math.isfinite(row.value):
                raise LifelongCTError(
                    f"the metric {row.metric} gave {row.value}",
                    f"case {row.case}, {row.organ}, {row.hospital} after {row.after}",
                    "a metric returns None where it is undefined",
                )
            key = (row.after, row.hospital, row.metric, row.organ)
            self._values.setdefault(key, {})[row.case] = row.value
            if row.patient or row.label_kind:
                self._about[row.hospital, row.case] = (row.patient, row.label_kind)

    def rows(self) -> list[EvaluationRow]:
        """All scores, in the order of their first appearance."""
        return [
            EvaluationRow(after, hospital, case, organ, metric, value, *self.about(hospital, case))
            for (after, hospital, metric, organ), cases in self._values.items()
            for case, value in cases.items()
        ]

    def about(self, hospital: str, case: str) -> tuple[str, str]:
        """Pseudonym of the patient and kind of label of a case; empty where nobody knows."""
        return self._about.get((hospital, case), ("", ""))

    @property
    def hospitals(self) -> list[str]:
        """Hospitals that were scored, in the order of their first appearance."""
        return list(dict.fromkeys(hospital for _, hospital, _, _ in self._values))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, likewise."""
        return list(dict.fromkeys(metric for _, _, metric, _ in self._values))

    @property
    def organs(self) -> list[str]:
        """Organs that were scored, likewise."""
        return list(dict.fromkeys(organ for _, _, _, organ in self._values))

    @property
    def last(self) -> int:
        """The last experience after which anything was scored; 0 in an empty matrix."""
        return max((after for after, _, _, _ in self._values), default=0)

    def cases(
        self, after: int, hospital: str, organ: str | None = None, metric: str = "dice"
    ) -> dict[str, float]:
        """Case → value where defined; the case's mean over its organs where `organ` is None."""
        per_case: dict[str, list[float]] = {}
        for name in self.organs if organ is None else [organ]:
            for case, value in self._values.get((after, hospital, metric, name), {}).items():
                if value is not None:
                    per_case.setdefault(case, []).append(value)
        return {case: sum(values) / len(values) for case, values in per_case.items()}

    def value(
        self, after: int, hospital: str, organ: str | None = None, metric: str = "dice"
    ) -> float | None:
        """Mean over cases of an organ; the mean over organs of those means where `organ` is None.

        Returns:
            None where nothing is defined.
        """
        if organ is not None:
            return _mean(self.cases(after, hospital, organ, metric).values())
        return self._mean_over(after, hospital, None, metric)

    def table(
        self, metric: str = "dice", organ: str | None = None
    ) -> tuple[npt.NDArray[np.float64], list[str]]:
        """The matrix as numbers.

        Returns:
            float64 `[T+1, H]` with row i after experience i (row 0 before any training) and NaN where
            nothing was scored, and the hospitals of its columns.
        """
        hospitals = self.hospitals
        values = [[self.value(i, h, organ, metric) for h in hospitals] for i in range(self.last + 1)]
        return _numbers(values, len(hospitals)), hospitals

    def task_value(
        self, after: int, task: Task, seen: frozenset[str] | None = None, metric: str = "dice"
    ) -> float | None:
        """Score of a task: the mean over its hospitals of the mean over its organs.

        Args:
            after: experience.
            task: hospitals and organs.
            seen: organs that count; None for all of the task.
            metric: name.

        Returns:
            None where nothing is defined.
        """
        organs = task.organs if seen is None else task.learnable(seen)
        means = (self._mean_over(after, hospital, organs, metric) for hospital in task.hospitals)
        return _mean(mean for mean in means if mean is not None)

    def summary(self, tasks: Sequence[Task | str], metric: str = "dice", organ: str | None = None) -> Summary:
        """ACC, BWT, FWT, forgetting and more; formulas in `evaluation.transfer`.

        Args:
            tasks: what each experience that the matrix may know is scored on, in order; a name stands for a hospital
                with all its organs. One without test cases has no column and is skipped.
            metric: one of which more is better.
            organ: the measures of this one alone; of all where None.
        """
        whole = [task if isinstance(task, Task) else Task((task,)) for task in tasks]
        if organ is not None:
            whole = [task.of(organ) for task in whole]
        seen = [seen_after(whole, after) for after in range(self.last + 1)]
        values = [
            [self.task_value(after, task, seen[after] if after else None, metric) for task in whole]
            for after in range(self.last + 1)
        ]
        untrained = [self.task_value(0, task, seen_after(whole, j), metric) for j, task in enumerate(whole)]
        taught = None if any(task.organs is None for task in whole) else tuple(sorted(seen[-1]))
        final = [self._mean_over(self.last, hospital, taught, metric) for hospital in self.hospitals]
        return summarise(
            _numbers(values, len(whole)),
            range(len(whole)),
            _numbers([untrained], len(whole))[0],
            _numbers([final], len(final))[0],
        )

    def _mean_over(
        self, after: int, hospital: str, organs: Sequence[str] | None, metric: str
    ) -> float | None:
        means = (self.value(after, hospital, o, metric) for o in (self.organs if organs is None else organs))
        return _mean(mean for mean in means if mean is not None)

    def to_scores(self) -> list[dict[str, Any]]:
        """The `scores` of results.json: {after, hospital, organ, metric, mean, n}.

        n counts the cases with a defined value. The organ "mean" is the mean over organs of per-organ
        means; its n counts the cases in which at least one organ has a value.
        """
        groups: dict[tuple[int, str, str], list[str]] = {}
        for after, hospital, metric, organ in self._values:
            groups.setdefault((after, hospital, metric), []).append(organ)
        return [
            {
                "after": after,
                "hospital": hospital,
                "organ": organ or MEAN,
                "metric": metric,
                "mean": self.value(after, hospital, organ, metric),
                "n": len(self.cases(after, hospital, organ, metric)),
            }
            for (after, hospital, metric), organs in groups.items()
            for organ in [*organs, None]
        ]

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        fields = ("after", "hospital", "case", "organ", "metric", "value")
        return {
            "fields": list(fields),
            "rows": [[getattr(r, f) for f in fields] for r in self.rows()],
            "about": [[*case, *told] for case, told in self._about.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces everything by a `state_dict`."""
        self._values = {}
        self.append(EvaluationRow(**dict(zip(state["fields"], row, strict=True))) for row in state["rows"])
        self._about = {(h, case): (patient, kind) for h, case, patient, kind in state.get("about", ())}

    def write_cases_csv(self, path: Path) -> None:
        """One line per (after, hospital, case, organ), one column per metric, empty where undefined; then the
        pseudonym of the patient and the kind of label, where they are known.

        Numbers are written in full, so that every aggregate can be computed again from the file.
        """
        lines: dict[tuple[int, str, str, str], dict[str, Any]] = {}
        for row in self.rows():
            key = (row.after, row.hospital, row.case, row.organ)
            line = lines.setdefault(key, dict(zip(_KEYS, key, strict=True)))
            line[row.metric] = "" if row.value is None else repr(float(row.value))
            line.update(zip(_ABOUT, self.about(row.hospital, row.case), strict=True))
        text = io.StringIO()
        columns = [*_KEYS, *self.metrics, *(_ABOUT if self._about else ())]
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines.values())
        write_text(path, text.getvalue())

    @classmethod
    def read_cases_csv(cls, path: Path) -> ResultMatrix:
        """The matrix of a `cases.csv`; an empty field is an undefined value.

        Raises:
            LifelongCTError: missing, or not such a file.
        """
        try:
            with open(path, newline="", encoding="utf-8") as file:
                return cls(row for line in csv.DictReader(file) for row in _rows_of(line))
        except FileNotFoundError as error:
            raise LifelongCTError("the file does not exist", str(path), "check the path") from error
        except (KeyError, ValueError, TypeError) as error:
            raise LifelongCTError(
                f"not a table of cases: {error!r}", str(path), "give the cases.csv of a run folder"
            ) from error


def _rows_of(line: dict[str, str]) -> list[EvaluationRow]:
    after, hospital, case, organ = (line[key] for key in _KEYS)
    about = [line.get(key) or "" for key in _ABOUT]
    return [
        EvaluationRow(int(after), hospital, case, organ, metric, float(value) if value else None, *about)
        for metric, value in line.items()
        if metric not in (*_KEYS, *_ABOUT)
    ]


def _numbers(rows: Sequence[Sequence[float | None]], width: int) -> npt.NDArray[np.float64]:
    """float64 `[rows, width]`, NaN where there is none."""
    numbers = [[math.nan if value is None else value for value in row] for row in rows]
    return np.array(numbers, dtype=np.float64).reshape(len(rows), width)


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
