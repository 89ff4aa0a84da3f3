"""The result matrix R: after every experience the score on every hospital."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.cases_csv import read_rows, write_rows
from lifelong_ct.evaluation.summary import Among, numbers, summary_of
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.evaluation.transfer import Summary

MEAN = "mean"
"""Organ name of the mean over organs, in results.json."""
_Key = tuple[int, str, str, str]  # after, hospital, metric, organ


class ResultMatrix:
    """Scores per experience, hospital, case, organ and metric, and what follows from them.

    An undefined value (None) is kept, and enters no mean. A score that is given twice is replaced, so that
    an evaluation which is repeated after a resume counts once.

    Attributes:
        within: (experience, optimizer step) → the scores that were made then, within the experience, as a matrix with
            this one row; in the order of time.
    """

    def __init__(self, rows: Iterable[EvaluationRow] = ()) -> None:
        self._values: dict[_Key, dict[str, float | None]] = {}
        self._about: dict[tuple[str, str], tuple[str, str]] = {}
        self._step: int | None = None
        self._derived: dict[str, Any] = {}  # what was asked of the present scores already
        self.within: dict[tuple[int, int], ResultMatrix] = {}
        self.append(rows)

    def append(self, rows: Iterable[EvaluationRow]) -> None:
        """Adds scores.

        Raises:
            LifelongCTError: a value is NaN or infinite; an undefined one is None.
        """
        self._derived = {}
        for row in rows:
            if row.value is not None and not math.isfinite(row.value):
                raise LifelongCTError(
                    f"the metric {row.metric} gave {row.value}",
                    f"case {row.case}, {row.organ}, {row.hospital} after {row.after}",
                    "a metric returns None where it is undefined",
                )
            if row.patient or row.label_kind:
                self._about[row.hospital, row.case] = (row.patient, row.label_kind)
            values = self._values if row.step is None else self._moment(row.after, row.step)._values
            values.setdefault((row.after, row.hospital, row.metric, row.organ), {})[row.case] = row.value

    def _moment(self, after: int, step: int) -> ResultMatrix:
        if (after, step) not in self.within:
            moment = ResultMatrix()
            moment._step, moment._about = step, self._about
            self.within = dict(
                sorted([*self.within.items(), ((after, step), moment)], key=lambda item: item[0])
            )
        moment = self.within[after, step]
        moment._derived = {}
        return moment

    def _once(self, key: str, find: Callable[[], Any]) -> Any:
        if key not in self._derived:
            self._derived[key] = find()
        return self._derived[key]

    def rows(self) -> list[EvaluationRow]:
        """All scores but those within experiences, in the order of their first appearance."""
        return [
            EvaluationRow(
                after, hospital, case, organ, metric, value, *self.about(hospital, case), self._step
            )
            for (after, hospital, metric, organ), cases in self._values.items()
            for case, value in cases.items()
        ]

    def about(self, hospital: str, case: str) -> tuple[str, str]:
        """Pseudonym of the patient and kind of label of a case; empty where nobody knows."""
        return self._about.get((hospital, case), ("", ""))

    @property
    def hospitals(self) -> list[str]:
        """Hospitals that were scored, in the order of their first appearance."""
        return list(self._once("hospitals", lambda: dict.fromkeys(key[1] for key in self._values)))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, likewise."""
        return list(self._once("metrics", lambda: dict.fromkeys(key[2] for key in self._values)))

    @property
    def organs(self) -> list[str]:
        """Organs that were scored, likewise."""
        return list(self._once("organs", lambda: dict.fromkeys(key[3] for key in self._values)))

    @property
    def last(self) -> int:
        """The last experience after which anything was scored; 0 in an empty matrix."""
        last: int = self._once("last", lambda: max((key[0] for key in self._values), default=0))
        return last

    def cases(
        self,
        after: int,
        hospital: str,
        organ: str | None = None,
        metric: str = "dice",
        among: Collection[str] | None = None,
    ) -> dict[str, float]:
        """Case → value where defined; the case's mean over its organs where `organ` is None; of the cases `among`."""
        per_case: dict[str, list[float]] = {}
        for name in self.organs if organ is None else [organ]:
            for case, value in self._values.get((after, hospital, metric, name), {}).items():
                if value is not None and (among is None or case in among):
                    per_case.setdefault(case, []).append(value)
        return {case: sum(values) / len(values) for case, values in per_case.items()}

    def outcomes(self, after: int, hospital: str, organ: str, metric: str) -> Mapping[str, float | None]:
        """Case → value, None where it is undefined; cases that were not scored are not in it."""
        return self._values.get((after, hospital, metric, organ), {})

    def value(
        self,
        after: int,
        hospital: str,
        organ: str | None = None,
        metric: str = "dice",
        among: Collection[str] | None = None,
    ) -> float | None:
        """Mean over cases of an organ, of the cases `among` where given; the mean over organs of those means where
        `organ` is None.

        Returns:
            None where nothing is defined.
        """
        if organ is not None:
            return _mean(self.cases(after, hospital, organ, metric, among).values())
        every = None if among is None else {(hospital, name): among for name in self.organs}
        return self.mean_over(after, hospital, None, metric, every)

    def scored(self, after: int, hospital: str) -> frozenset[str]:
        """Cases of a hospital that were scored then, whatever came out."""
        return self.scored_cases().get((after, hospital), frozenset())

    def scored_cases(self) -> dict[tuple[int, str], frozenset[str]]:
        """(after, hospital) → likewise."""
        cases: dict[tuple[int, str], frozenset[str]] = self._once("scored", self._find_scored)
        return cases

    def _find_scored(self) -> dict[tuple[int, str], frozenset[str]]:
        found: dict[tuple[int, str], set[str]] = {}
        for (after, hospital, _, _), values in self._values.items():
            found.setdefault((after, hospital), set()).update(values)
        return {key: frozenset(cases) for key, cases in found.items()}

    def defined(self, metric: str = "dice") -> Mapping[tuple[int, str], Mapping[str, frozenset[str]]]:
        """(after, hospital) → organ → cases with a value, where the metric was computed."""
        cases: dict[tuple[int, str], dict[str, frozenset[str]]]
        cases = self._once(f"defined {metric}", lambda: self._find_defined(metric))
        return cases

    def _find_defined(self, metric: str) -> dict[tuple[int, str], dict[str, frozenset[str]]]:
        found: dict[tuple[int, str], dict[str, frozenset[str]]] = {}
        for (after, hospital, name, organ), values in self._values.items():
            if name == metric:
                cases = frozenset(case for case, value in values.items() if value is not None)
                found.setdefault((after, hospital), {})[organ] = cases
        return found

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
        return numbers(values, len(hospitals)), hospitals

    def task_value(
        self,
        after: int,
        task: Task,
        seen: frozenset[str] | None = None,
        metric: str = "dice",
        among: Among | None = None,
    ) -> float | None:
        """Score of a task: the mean over its hospitals of the mean over its organs.

        Args:
            after: experience.
            task: hospitals and organs.
            seen: organs that count; None for all of the task.
            metric: name.
            among: the cases that count; all where None.

        Returns:
            None where nothing is defined.
        """
        organs = task.organs if seen is None else task.learnable(seen)
        means = (self.mean_over(after, h, organs, metric, among) for h in task.hospitals)
        return _mean(mean for mean in means if mean is not None)

    def summary(self, tasks: Sequence[Task | str], metric: str = "dice", organ: str | None = None) -> Summary:
        """ACC, BWT, FWT, forgetting and more; formulas in `evaluation.transfer`.

        Args:
            tasks: what each experience that the matrix may know is scored on, in order; a name stands for a hospital
                with all its organs. One without test cases has no column and is skipped.
            metric: one of which more is better.
            organ: the measures of this one alone; of all where None.
        """
        return summary_of(self, tasks, metric, organ)

    def mean_over(
        self,
        after: int,
        hospital: str,
        organs: Sequence[str] | None,
        metric: str,
        among: Among | None = None,
    ) -> float | None:
        """Mean over some organs, all where None, of the means over cases; None where nothing is defined."""
        wanted, kept = self.organs if organs is None else organs, among or {}
        means = (self.value(after, hospital, organ, metric, kept.get((hospital, organ))) for organ in wanted)
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
        fields = ["after", "hospital", "case", "organ", "metric", "value", *(["step"] if self.within else [])]
        return {
            "fields": fields,
            "rows": [[getattr(r, f) for f in fields] for r in self._every()],
            "about": [[*case, *told] for case, told in self._about.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces everything by a `state_dict`."""
        self._values, self.within = {}, {}
        self._about = {(h, case): (patient, kind) for h, case, patient, kind in state.get("about", ())}
        self.append(EvaluationRow(**dict(zip(state["fields"], row, strict=True))) for row in state["rows"])

    def write_cases_csv(self, path: Path) -> None:
        """One line per (after, hospital, case, organ), one column per metric, empty where undefined; scores made within
        an experience say after which `step`. Then the pseudonym of the patient and the kind of label, where they are
        known."""
        every = self._every()
        write_rows(path, every, list(dict.fromkeys([*self.metrics, *(row.metric for row in every)])))

    @classmethod
    def read_cases_csv(cls, path: Path) -> ResultMatrix:
        """The matrix of a `cases.csv`.

        Raises:
            LifelongCTError: missing, or not such a file.
        """
        rows = read_rows(path)
        try:
            return cls(rows)
        except LifelongCTError as error:
            raise LifelongCTError(error.what, f"{path}, {error.where}", "mend or replace the file") from error

    def _every(self) -> list[EvaluationRow]:
        return [*self.rows(), *(row for moment in self.within.values() for row in moment.rows())]


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
