"""How a run was made to fit stands in its folder, so that it goes on as it began, wherever it goes on."""

from __future__ import annotations

from lifelong_ct.core.files import read_json, write_json
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.prediction.fitting import fitted
from lifelong_ct.training.rounds import rounds

NAME = "fit.json"


def fitted_run(options: RunOptions) -> RunOptions:
    """Options with `memory.gpu=fit` applied: as the run's folder says, or as it then says.

    Raises:
        LifelongCTError, LimitExceeded: see `fitting.fitted`.
    """
    if options.fit is None:
        return options
    path = options.folder / NAME
    made = fitted(options, rounds(options), read_json(path) if path.exists() else None)
    options.folder.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(made.fitted or {}))
    return made
