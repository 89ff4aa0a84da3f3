"""The verb `compare`: is a new model no worse than an old one, per hospital and organ?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lifelong_ct.cli.arguments import need, none_left, take
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.evaluation.statistics import Interval, bootstrap_interval


def main(args: Sequence[str]) -> int:
    """`old=RUN new=RUN [margin=0.05]`; 0 where the new one is nowhere worse, 2 otherwise.

    Worse: the lower end of the 95 % bootstrap interval of the mean paired difference in Dice lies below
    -margin. With a single shared case there is no interval and the difference itself is taken.
    """
    rest = list(args)
    margin = _margin(take(rest, "margin") or "0.05")
    old, new = (_matrix(need(rest, key, "RUN_FOLDER")) for key in ("old", "new"))
    none_left(rest)
    table = Table("hospital", "organ", "difference", "95 % interval", "cases", "verdict")
    worse = 0
    for hospital in new.hospitals:
        for organ in new.organs:
            interval = _difference(old, new, hospital, organ)
            if interval.mean is None:
                continue
            low = interval.mean if interval.low is None else interval.low
            worse += low < -margin
            between = "–" if interval.low is None else f"{interval.low:+.3f} … {interval.high:+.3f}"
            verdict = "worse" if low < -margin else "no worse"
            table.add_row(hospital, organ, f"{interval.mean:+.3f}", between, str(interval.patients), verdict)
    if not table.row_count:
        raise LifelongCTError("the runs share no scored case", "compare", "compare runs of the same stream")
    Console().print(table)
    return 2 if worse else 0


def _difference(old: ResultMatrix, new: ResultMatrix, hospital: str, organ: str) -> Interval:
    before, after = (m.cases(m.last, hospital, organ) for m in (old, new))
    return bootstrap_interval([after[case] - before[case] for case in sorted(before.keys() & after.keys())])


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = -1.0
    if not 0 <= margin <= 1:
        raise LifelongCTError(
            f"margin={text!r}", "the command line", "write a difference in Dice, such as 0.05"
        )
    return margin


def _matrix(folder: str) -> ResultMatrix:
    return ResultMatrix.read_cases_csv(Path(folder) / "cases.csv")
