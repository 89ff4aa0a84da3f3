"""Every YAML composes, and what has a target is built."""

import pytest

from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import options
from lifelong_ct.cli.instantiate import build
from lifelong_ct.data.labels import LabelSpace

CHOICES = [
    (group, choice) for group, choices in options().items() for choice in choices if group != "hospital"
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_composes(group, choice):
    config = compose.plain(compose.compose(compose.Request([f"{group}={choice}"])))
    assert config["stream"]["hospitals"]


@pytest.mark.parametrize("choice", options()["model"])
def test_models_are_built(choice):
    config = compose.plain(compose.compose(compose.Request([f"model={choice}"])))
    assert build(config["model"], "model").grow(3)


@pytest.mark.parametrize("choice", options()["loss"])
def test_losses_are_built(choice):
    config = compose.plain(compose.compose(compose.Request([f"loss={choice}"])))
    build(config["loss"], "loss", label_space=LabelSpace(["liver"]))


@pytest.mark.parametrize("choice", [name for name in options()["stream"] if name != "real_ct"])
def test_drawn_streams_are_built(choice):
    config = compose.plain(compose.compose(compose.Request([f"stream={choice}"])))
    stream = build(config["stream"], "stream")
    assert all(hospital.train for hospital in stream.hospitals)
    assert stream.synthetic
