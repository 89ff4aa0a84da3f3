"""The verb `evaluate`: scores a checkpoint on the hospitals of any stream, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifelong_ct.cli import arguments, compose
from lifelong_ct.cli.arguments import need, newest_checkpoint, take
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.text import number, table
from lifelong_ct.training.distributed import place
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.scoring import Scorer, told_routing
from lifelong_ct.training.serving import PREDICTING, Served, load_model


def main(args: Sequence[str]) -> int:
    """`from=RUN stream=… [out=cases.csv]`; prints the mean per hospital and organ. Windows and
    autocast are those of the run, unless the command names them (`evaluation.roi`, `overlap`, `precision`, `mirror`,
    `trainer.amp`)."""
    rest = list(args)
    source, out = need(rest, "from", "RUN_FOLDER"), take(rest, "out")
    request = compose.parse(rest)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    named = arguments.named(request.overrides, PREDICTING)
    with blueprint.discreet():
        return _evaluate(blueprint.options(), source, out, named)


def _evaluate(options: RunOptions, source: str, out: str | None, named: set[str]) -> int:
    served = load_model(newest_checkpoint(source), options.new_model)
    ledger = Ledger(options.limits)
    device = place(options.trainer.device, ledger.limits["gpu"])
    foreign = _foreign(options, served)
    scorer = Scorer(
        served.options(options.evaluation, named),
        spacing=served.spacing,
        label_space=served.label_space,
        native=lambda hospital, case: hospital.layout.load(case),
        identity=options.identity,
        ledger=ledger,
        device=device,
        amp=served.autocast(options.trainer.amp, named, device),
    )
    rows = scorer.score(served.model.to(device), served.after, options.stream.scored)
    matrix = ResultMatrix(row for row in rows if row.organ not in foreign)
    if out:
        matrix.write_cases_csv(Path(out))
    _show(matrix, served.after)
    if scorer.routing:
        print(told_routing(scorer.routing))
    if foreign:
        print(f"not scored, for the model has never heard of them: {', '.join(sorted(foreign))}")
    return 0


def _foreign(options: RunOptions, served: Served) -> set[str]:
    """Organs of the hospitals that the stream of the checkpoint does not have. One that it has and has not learnt yet is
    scored as in its run: an empty prediction.

    Raises:
        LifelongCTError: they have no organ in common.
    """
    known = served.label_space.organs
    annotated = {organ for h in options.stream.scored for case in h.test for organ in case.organs}
    if annotated and annotated.isdisjoint(known):
        raise LifelongCTError(
            f"the hospitals annotate {', '.join(sorted(annotated))}, the model knows {', '.join(known)}",
            "stream.organs",
            "give hospitals that annotate one of its organs",
        )
    return annotated.difference(known)


def _show(matrix: ResultMatrix, after: int) -> None:
    """A row per organ: hospitals are few, organs may be many."""
    rows = [["dice", *matrix.hospitals]]
    for organ in (*matrix.organs, None):
        values = (matrix.value(after, hospital, organ) for hospital in matrix.hospitals)
        rows.append([organ or "mean", *map(number, values)])
    print("\n".join(table(rows)))
