from functools import partial

import torch
from hospitals import options, stream

from lifelong_ct.cli import compose
from lifelong_ct.training.options import Requires, TrainerOptions
from lifelong_ct.training.rounds import rounds


def test_round_i_goes_on_with_the_hospitals_up_to_i_for_i_times_the_steps(tmp_path) -> None:
    config = compose.plain(compose.compose(compose.Request(["strategy=cumulative"])))["strategy"]
    assert config["plugins"] == []
    requires = Requires(**config["requires"])
    opened = stream(*({"name": name, "train": [16]} for name in "abc"))
    trainer = TrainerOptions(partial(torch.optim.SGD, lr=1.0), steps=7)
    found = rounds(options(opened, tmp_path, trainer=trainer, requires=requires))
    assert [[h.name for h in row.hospitals] for row in found] == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert [row.steps for row in found] == [7, 14, 21]
    assert not requires.reinitialise, "the model goes on"
