"""May a new model replace an old one? Judged per hospital, organ and metric on the patients that both have scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.acceptance_cell import Cell, Decision, decided, scored
from lifelong_ct.evaluation.acceptance_rules import Rules, nearest
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.statistics import holm

_SEVERITY: tuple[Decision, ...] = ("accepted", "undecided", "blocked")


@dataclass(frozen=True)
class Judgement:
    """Of a new model.

    Attributes:
        decision: blocked where any cell is; else undecided where any cell is; else accepted.
        cells: every hospital, organ and metric.
        only_new: `hospital`, or `hospital: organ`, that only the new model has scores of; not compared.
        exit_code: 0 where the new model may be used under the rules, 2 otherwise.
    """

    decision: Decision
    cells: tuple[Cell, ...]
    only_new: tuple[str, ...]
    exit_code: int

    def told(self) -> list[str]:
        """A sentence per reason; of what is undecided one per hospital, metric and reason."""
        places: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for cell in sorted(self.cells, key=lambda cell: -_SEVERITY.index(cell.decision)):
            for reason in cell.reasons:
                own = cell.organ if cell.decision == "blocked" else ""
                places[cell.decision, cell.hospital, own, cell.metric, reason].append(cell.organ)
        return [
            f"{decision}: {hospital}, {' '.join(organs)}, {metric}: {reason}"
            for (decision, hospital, _, metric, reason), organs in places.items()
        ]


def judge(old: ResultMatrix, new: ResultMatrix, rules: Rules) -> Judgement:
    """Applies rules to what both models score at their end.

    A cell is blocked where its patients are enough and non-inferiority is not shown, where too many patients lose too
    much, where the worst tenth loses too much, or where patients miss a score; with too few patients where their mean
    lost more than the margin; else too few patients leave it undecided.

    Raises:
        LifelongCTError: they share no scored patient, the old one knows a hospital, organ or metric that the new one
            does not, a hospital was scored before the end and not at it, or the rules name what no cell has.
    """
    _to_the_end(old, new, rules)
    _same_hospitals(old, new, rules)
    cells = [
        cell
        for hospital in _chosen(rules.hospitals, _hospitals(old))
        for organ in _chosen(rules.organs, old.organs)
        for metric in rules.metrics
        if (cell := scored(old, new, hospital, organ, metric, rules)) is not None
    ]
    if not any(cell.patients for cell in cells):
        raise LifelongCTError(
            "the two share no scored case",
            "compare",
            "score both models on the same stream, with the same paths.state: its key makes the pseudonyms of cases",
        )
    _all_used(rules, cells)
    adjusted = iter(holm([cell.test.p for cell in cells if cell.test]))
    cells = [decided(replace(cell, p=next(adjusted)) if cell.test else cell, rules) for cell in cells]
    decisions = {cell.decision for cell in cells}
    decision: Decision = max(decisions, key=_SEVERITY.index)
    stops = decision == "blocked" or (decision == "undecided" and rules.undecided_blocks)
    return Judgement(decision, tuple(cells), _only(new, old, cells), 2 if stops else 0)


def _hospitals(matrix: ResultMatrix) -> list[str]:
    """Scored at the end."""
    return [hospital for hospital in matrix.hospitals if matrix.scored(matrix.last, hospital)]


def _to_the_end(old: ResultMatrix, new: ResultMatrix, rules: Rules) -> None:
    """Nobody may leave the comparison by not being scored any more."""
    for name, matrix in (("old", old), ("new", new)):
        lost = [h for h in _chosen(rules.hospitals, matrix.hospitals) if h not in _hospitals(matrix)]
        if lost := [hospital for hospital in lost if hospital in matrix.hospitals]:
            raise LifelongCTError(
                f"the {name} model was scored on {', '.join(lost)} before, and not after experience {matrix.last}",
                "compare",
                "score it there with `lifelong-ct evaluate`, or name in the rules the hospitals that count",
            )


def _all_used(rules: Rules, cells: Sequence[Cell]) -> None:
    """A rule that no cell uses guards nobody."""
    there = [{"hospital": cell.hospital, "organ": cell.organ, "metric": cell.metric} for cell in cells]
    named = {"hospital": rules.hospitals or (), "organ": rules.organs or (), "metric": tuple(rules.metrics)}
    for what, names in named.items():
        has = list(dict.fromkeys(cell[what] for cell in there))
        for name in names:
            if name not in has:
                raise LifelongCTError(
                    f"the {what} {name!r} of the rules has no score to compare",
                    "compare",
                    f"take it out of the rules, or score both models on it; compared are {', '.join(has)}",
                )
    for keys, _ in rules.exceptions:
        if not any(keys.items() <= cell.items() for cell in there):
            raise LifelongCTError(
                f"no cell is of {' '.join(keys.values())}",
                "exceptions of the rules",
                "there are " + ", ".join(" ".join(cell.values()) for cell in there),
            )


def _same_hospitals(old: ResultMatrix, new: ResultMatrix, rules: Rules) -> None:
    known = {"hospital": _hospitals(old), "organ": old.organs, "metric": old.metrics}
    theirs = {"hospital": _hospitals(new), "organ": new.organs, "metric": new.metrics}
    named: dict[str, Sequence[str]] = {
        "hospital": rules.hospitals or known["hospital"],
        "organ": rules.organs or known["organ"],
        "metric": list(rules.metrics),
    }
    for what, names in named.items():
        for name in names:
            for model, has in (("old", known[what]), ("new", theirs[what])):
                if name not in has:
                    raise LifelongCTError(
                        f"the {model} model has no score of the {what} {name!r}",
                        "compare",
                        f"{nearest(name, has)}score both models on the same hospitals, or name in the rules what "
                        f"counts; the {model} one has {', '.join(has) or 'nothing'}",
                    )
    for keys, _ in rules.exceptions:
        for what, name in keys.items():
            if name not in known[what]:
                raise LifelongCTError(
                    f"no {what} is called {name!r}",
                    "exceptions of the rules",
                    f"{nearest(name, known[what])}there are {', '.join(known[what])}",
                )


def _chosen(names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    return known if names is None else names


def _only(new: ResultMatrix, old: ResultMatrix, cells: Sequence[Cell]) -> tuple[str, ...]:
    """What only the new model has scores of."""
    known, compared = _hospitals(old), {(cell.hospital, cell.organ) for cell in cells}
    found = []
    for hospital in _hospitals(new):
        if hospital not in known:
            found.append(hospital)
            continue
        for organ in new.organs:
            scored = (
                any(m.cases(m.last, hospital, organ, metric) for metric in m.metrics) for m in (new, old)
            )
            if tuple(scored) == (True, False) and (hospital, organ) not in compared:
                found.append(f"{hospital}: {organ}")
    return tuple(found)
