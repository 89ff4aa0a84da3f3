"""What seeds of one configuration have in common, and what configurations have apart."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lifelong_ct.evaluation.costs import costs
from lifelong_ct.reporting.contenders import Contender
from lifelong_ct.reporting.run_folder import Run
from lifelong_ct.reporting.significance import Judged, Verdicts, judge

SAME = ("seed", "paths", "reporter", "group")
"""Keys of the configuration that do not make another method."""
SUMMARY = ("acc", "bwt", "fwt", "forgetting", "final_mean", "diagonal_mean", "retained")
COLUMNS = (*SUMMARY, "exemplar_bytes", "held_bytes", "seconds")
JUDGED = (
    *("acc_low", "acc_high", "patients"),
    *(f"{part}_{other}" for other in ("best", "naive") for part in ("over", "p", "versus")),
    *("rank_mean", "rank_low", "rank_high", "first", "note"),
)
"""Last columns of the CSV: the interval of ACC, difference to the best and to naive training with p and mark, ranks."""


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and sample standard deviation (n − 1); None where there are too few values."""

    mean: float | None
    sd: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One method: runs that differ in their seed only.

    Attributes:
        label: strategy, and what sets it apart from other rows of the same strategy.
        strategy: its name.
        runs: by seed.
        spreads: per name of `COLUMNS`.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    spreads: Mapping[str, Spread]

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""
        return [int(run.info.get("seed", 0)) for run in self.runs]

    @property
    def at_once(self) -> bool:
        """Whether all hospitals were trained on together: the upper bound, not a method for streams."""
        needs = (self.runs[0].config.get("strategy") or {}).get("requires") or {}
        return bool(needs.get("past_data") and needs.get("reinitialise"))

    def hospital(self, name: str) -> Spread:
        """Score on a hospital at the end."""
        return spread(run.matrix.value(run.matrix.last, name) for run in self.runs)


@dataclass(frozen=True)
class Section:
    """Rows that learnt the same in the same order.

    Attributes:
        stream: its name.
        hospitals, unseen: trained on or not.
        learnt: names of the experiences.
        rows: one per method.
    """

    stream: str
    hospitals: tuple[str, ...]
    unseen: tuple[str, ...]
    learnt: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def verdicts(self) -> Verdicts:
        """By label of a row: intervals, what is significant against the best and against naive training, ranks, and
        scores per kind of label."""
        return judge([Contender(r.label, r.runs, not r.at_once, r.strategy == "naive") for r in self.rows])


def compare(runs: Iterable[Run]) -> list[Section]:
    """Groups runs by stream, then by everything but the seed; the order is that of their names."""
    streams: dict[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], list[Run]] = defaultdict(
        list
    )
    for run in sorted(runs, key=lambda run: run.path.name):
        key = str(run.info.get("stream")), tuple(run.trained), tuple(run.unseen), tuple(run.tasks)
        streams[key].append(run)
    return [Section(*key, rows=tuple(comparison(members))) for key, members in streams.items()]


def comparison(runs: Sequence[Run]) -> list[Row]:
    """Rows of one stream, the best mean at the end first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[_key(run)].append(run)
    labels = _labels([members[0] for members in groups.values()])
    rows = [
        _row(label, sorted(members, key=lambda run: (run.info.get("seed", 0), run.path.name)))
        for label, members in zip(labels, groups.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: -(row.spreads["acc"].mean or 0.0))


def spread(values: Iterable[float | None]) -> Spread:
    """Mean and sample standard deviation of what is defined."""
    known = tuple(float(value) for value in values if value is not None)
    return Spread(
        statistics.fmean(known) if known else None, statistics.stdev(known) if len(known) > 1 else None, known
    )


def measured(run: Run, name: str) -> float | None:
    """A column's value of one run."""
    if name == "exemplar_bytes":
        return ((run.results.get("memory") or {}).get("exemplars") or {}).get("used")
    if name == "held_bytes":
        return costs(run.results.get("experiences") or ())["held_bytes"]
    if name == "seconds":
        return (run.results.get("seconds") or {}).get("total")
    if name == "diagonal_mean" and (run.results.get("summary") or {}).get("bwt") is None:
        return None  # of joint training it would be the last hospital's score alone
    return (run.results.get("summary") or {}).get(name)


def to_csv(sections: Iterable[Section]) -> str:
    """One line per row: stream, hospitals, label, seeds, then mean, sd and n per column, then `JUDGED`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"{name}_{part}" for name in COLUMNS for part in ("mean", "sd", "n")]
    writer.writerow(["stream", "hospitals", "label", "strategy", "seeds", *parts, *JUDGED])
    for section in sections:
        for row in section.rows:
            numbers: list[Any] = []
            for name in COLUMNS:
                cell = row.spreads[name]
                numbers += [_full(cell.mean), _full(cell.sd), len(cell.values)]
            seeds = " ".join(map(str, row.seeds))
            first = [section.stream, " ".join(section.hospitals), row.label, row.strategy, seeds]
            writer.writerow([*first, *numbers, *_judged(section.verdicts.rows[row.label])])
    return text.getvalue()


def strata_csv(sections: Iterable[Section]) -> str:
    """One line per row and kind of label: ACC on the cases of that kind alone, its interval and patients."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stream", "hospitals", "label", "label_kind", "acc", "low", "high", "patients"])
    for section in sections:
        for label, judged in section.verdicts.rows.items():
            for kind, (mean, low, high, patients) in judged.strata.items():
                numbers = [_full(mean), _full(low), _full(high), patients]
                writer.writerow([section.stream, " ".join(section.hospitals), label, kind, *numbers])
    return text.getvalue()


def _judged(judged: Judged) -> list[Any]:
    """What `JUDGED` names."""
    interval, rank = judged.interval, judged.rank
    cells: list[Any] = [_full(interval.low), _full(interval.high), interval.patients]
    for versus in (judged.best, judged.baseline):
        if versus is None:
            cells += ["", "", ""]
        else:
            cells += [_full(versus.difference), _full(versus.p), versus.mark]
    cells += (
        ["", "", "", ""] if rank is None else [repr(x) for x in (rank.mean, rank.low, rank.high, rank.first)]
    )
    return [*cells, judged.note]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping → dotted keys."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            out.update(flat(value, f"{name}."))
        else:
            out[name] = value
    return out


def _row(label: str, runs: Sequence[Run]) -> Row:
    spreads = {name: spread(measured(run, name) for run in runs) for name in COLUMNS}
    return Row(label, str(runs[0].info.get("strategy")), tuple(runs), spreads)


def _method(run: Run) -> dict[str, Any]:
    """Dotted keys; a part that takes over the run's seed is no other method, another stream seed is."""
    kept = flat({key: value for key, value in run.config.items() if key not in SAME})
    seed = run.config.get("seed")
    return {
        k: v for k, v in kept.items() if not (k.endswith(".seed") and v == seed) or k.startswith("stream.")
    }


def _key(run: Run) -> str:
    return json.dumps([run.info.get("strategy"), _method(run)], sort_keys=True, default=str)


def _labels(firsts: Sequence[Run]) -> list[str]:
    """Strategy names, with the keys in which configurations of the same strategy differ; each of them once."""
    by_strategy: dict[str, list[Run]] = defaultdict(list)
    for run in firsts:
        by_strategy[str(run.info.get("strategy"))].append(run)
    labels = [_label(run, by_strategy[str(run.info.get("strategy"))]) for run in firsts]
    return [
        f"{label} #{labels[: i + 1].count(label)}" if label in labels[:i] else label
        for i, label in enumerate(labels)
    ]


def _label(run: Run, siblings: Sequence[Run]) -> str:
    name = str(run.info.get("strategy"))
    if len(siblings) == 1:
        return name
    mine, all_of_them = _method(run), [_method(other) for other in siblings]
    keys = dict.fromkeys(key for other in all_of_them for key in other)
    differing = [k for k in keys if len({json.dumps(o.get(k), default=str) for o in all_of_them}) > 1]
    return f"{name} ({', '.join(f'{key}={mine.get(key)}' for key in differing[:4])})"


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)
