"""What may be written in the options, and when scores are due."""

from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.options import (
    CheckpointOptions,
    DataOptions,
    EvaluationOptions,
    Requires,
    TrainerOptions,
)

CONF = Path(__file__).resolve().parents[2] / "conf"


def trainer(**more):
    return TrainerOptions(partial(torch.optim.SGD, lr=1.0), **{"steps": 1, **more})


def evaluation(**more):
    return EvaluationOptions([], **{"roi": (8, 8, 8), **more})


@pytest.mark.parametrize(
    ("schedule", "due"),
    [("every", [1, 2, 3, 4, 5, 6, 7]), ("final", [7]), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7]), (9, [7])],
)
def test_the_last_experience_is_always_scored(schedule, due):
    options = evaluation(schedule=schedule)
    assert [i for i in range(1, 8) if options.due(i, 7)] == due


@pytest.mark.parametrize(
    ("make", "where"),
    [
        *((partial(trainer, **{key: value}), f"trainer.{key}")
          for key in ("steps", "batch_size", "accumulate", "keep_checkpoints") for value in (0, -1, 1.5, "two", None)),
        (partial(DataOptions, keep="some"), "data.keep"),
        (partial(DataOptions, cache="much"), "data.cache"),
        (partial(DataOptions, foreground=1.1), "data.foreground"),
        (partial(DataOptions, foreground=-0.1), "data.foreground"),
        (partial(DataOptions, foreground=True), "data.foreground"),
        (partial(DataOptions, workers=0), "data.workers"),
        (partial(DataOptions, read_ahead="far"), "data.read_ahead"),
        (partial(DataOptions, worker_kind="fibre"), "data.worker_kind"),
        (partial(DataOptions, schedule="twice"), "data.schedule"),
        (partial(DataOptions, patches_per_case=0), "data.patches_per_case"),
        *((partial(DataOptions, timeout=value), "data.timeout") for value in (0, -1, float("inf"), float("nan"), "long")),
        *((partial(evaluation, schedule=value), "evaluation.schedule") for value in ("never", 0, -2, 1.5, None)),
        *((partial(trainer, stop_after=value), "trainer.stop_after") for value in (0, -1, "x", 1.5)),
        *((partial(trainer, clip=value), "trainer.clip") for value in (0, -1.0, "x", float("nan"))),
        *((partial(CheckpointOptions, value), "checkpoint.every_steps") for value in (0, -1, "x", 1.5, True)),
        (partial(trainer, reset_optimizer="maybe"), "trainer.reset_optimizer"),
        (partial(trainer, channels_last="maybe"), "trainer.channels_last"),
        (partial(trainer, fused="maybe"), "trainer.fused"),
        (partial(trainer, compile="auto"), "trainer.compile"),
        (partial(trainer, augment="noise"), "trainer.augment"),
        *((partial(TrainerOptions, made, 1), "trainer.optimizer") for made in (
            None, partial(torch.optim.SGD, lr=-1.0), partial(torch.optim.SGD, lr="x"), torch.nn.ParameterList)),
        *((partial(Requires, **{key: "maybe"}), f"strategy.requires.{key}")
          for key in Requires.__dataclass_fields__),
        (partial(DataOptions, foreground="half"), "data.foreground"),
        (partial(evaluation, overlap="x"), "evaluation.overlap"),
        (partial(evaluation, roi=(8, 8, 8.5)), "evaluation.roi"),
        *((partial(EvaluationOptions, value, (8, 8, 8)), "evaluation.metrics") for value in (None, ["dice"])),
        (partial(evaluation, roi=(8, 8)), "evaluation.roi"),
        (partial(evaluation, roi=(8, 8, 0)), "evaluation.roi"),
        (partial(evaluation, overlap=1.0), "evaluation.overlap"),
        (partial(evaluation, overlap=-0.1), "evaluation.overlap"),
        (partial(evaluation, precision="half"), "evaluation.precision"),
        (partial(evaluation, mirror=[3]), "evaluation.mirror"),
        (partial(evaluation, mirror=0), "evaluation.mirror"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key(make, where):
    with pytest.raises(LifelongCTError) as error:
        make()
    assert error.value.where == where
    assert error.value.fix


def test_defaults_are_those_of_the_configuration():
    data = OmegaConf.to_container(OmegaConf.load(CONF / "data" / "default.yaml"), resolve=True)
    assert DataOptions(**data) == DataOptions()
    assert set(data) == set(DataOptions.__dataclass_fields__)
    written = set(OmegaConf.load(CONF / "trainer" / "default.yaml"))
    assert {"augment", *written} == set(
        TrainerOptions.__dataclass_fields__
    )  # a group of its own writes that one
    assert "augment" not in written
    scores = OmegaConf.load(CONF / "evaluation" / "default.yaml")
    assert set(scores) == set(EvaluationOptions.__dataclass_fields__)
    for file in (CONF / "strategy").glob("*.yaml"):
        Requires(**(OmegaConf.load(file).get("requires") or {}))
