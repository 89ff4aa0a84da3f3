"""The verb `compare`: may a new model replace an old one? The gate before an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lifelong_ct.cli.arguments import need, none_left, take
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_json, write_text
from lifelong_ct.evaluation.acceptance import Judgement, judge
from lifelong_ct.evaluation.acceptance_rules import DEFAULT, parse_rules, read_rules
from lifelong_ct.reporting.acceptance_record import audit, read_scored
from lifelong_ct.reporting.model_card import model_card
from lifelong_ct.reporting.text import number, table

AUDIT, CARD = "acceptance.json", "model_card.md"
_SAYS = {
    "accepted": "accepted: nowhere worse by a margin",
    "blocked": "blocked: the new model must not replace the old one",
    "undecided": "undecided: too few patients",
}


def main(args: Sequence[str]) -> int:
    """`OLD NEW [--accept rules.yaml] [out=FOLDER]`, or `old=OLD new=NEW [margin=0.05]` for a quick look.

    OLD and NEW are run folders or tables of cases. With rules (the shipped ones where none are given) an audit record
    and a model card are written, beside the new model's scores or to `out`. Exit code 0: accepted, or undecided where the
    rules allow it; 2: blocked or undecided, or an error, which leaves no record.
    """
    rest = list(args)
    if any(arg.startswith(("old=", "new=", "margin=")) for arg in rest):
        return _quick_look(rest)
    rules_file = Path(_option(rest, "accept") or DEFAULT)
    out = _option(rest, "out")
    odd = [arg for arg in rest if arg.startswith("-") or ("=" in arg and not Path(arg).exists())]
    if odd or len(rest) != 2:
        raise LifelongCTError(
            f"{odd[0]!r} is not understood" if odd else f"two models are compared, {len(rest)} are given",
            "the command line",
            "lifelong-ct compare OLD NEW --accept rules.yaml, where OLD and NEW are run folders or cases.csv",
        )
    rules = read_rules(rules_file)
    old_path, new_path = map(Path, rest)
    old, new = read_scored(old_path), read_scored(new_path)
    judgement = judge(old.matrix, new.matrix, rules)
    folder = Path(out) if out else new_path if new_path.is_dir() else new_path.parent
    write_json(folder / AUDIT, audit(old, new, rules, judgement, rules_file))
    write_text(folder / CARD, model_card(old, new, rules, judgement))
    _show(judgement)
    print(f"{AUDIT} and {CARD} say how that was found; they lie {_beside(out)}")
    return judgement.exit_code


def _quick_look(rest: list[str]) -> int:
    """Margins alone, whatever the number of patients; nothing is written."""
    margin = _margin(take(rest, "margin") or "0.05")
    paths = [Path(need(rest, key, "RUN_FOLDER")) for key in ("old", "new")]
    none_left(rest)
    old, new = (read_scored(path).matrix for path in paths)
    told = {"metrics": {"dice": {"margin": margin}}, "minimum_patients": 2}
    judgement = judge(old, new, replace(parse_rules(told), undecided_blocks=False, missing_blocks=False))
    _show(judgement)
    return judgement.exit_code


def _show(judgement: Judgement) -> None:
    rows = [["hospital", "organ", "metric", "patients", "old", "new", "gain", "at least", "p", "decision"]]
    for cell in judgement.cells:
        scores = [number(cell.old), number(cell.new), number(cell.gain, signed=True)]
        bound = number(cell.test.bound if cell.test else None, signed=True)
        where = [cell.hospital, cell.organ, cell.metric, str(cell.patients)]
        p = "<0.001" if cell.p is not None and cell.p < 0.001 else number(cell.p)
        rows.append([*where, *scores, bound, p, cell.decision])
    print("\n".join(table(rows)))
    print("\n".join(judgement.told()) or "no reason against it")
    if judgement.only_new:
        print(f"not compared, only the new model has scores: {', '.join(judgement.only_new)}")
    print(_SAYS[judgement.decision])


def _option(rest: list[str], name: str) -> str | None:
    """Takes `--name VALUE`, `--name=VALUE` or `name=VALUE` off the arguments."""
    flag = f"--{name}"
    if flag in rest:
        at = rest.index(flag)
        if at + 1 == len(rest):
            raise LifelongCTError(f"{flag} has no value", "the command line", f"write {flag} VALUE")
        value = rest.pop(at + 1)
        rest.pop(at)
        return value
    return take(rest, flag) or take(rest, name)


def _beside(out: str | None) -> str:
    return "in the folder that out= names" if out else "beside the new model's scores"


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
