"""Every YAML composes, and what has a target is built."""

from inspect import signature

import planned
import pytest
import torch
from drawn import Described, drawn, sampler
from hydra.utils import get_class

from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import options
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.streams.hospital import SHARING

CHOICES = [
    (group, choice) for group, choices in options().items() for choice in choices if group != "hospital"
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_composes(group, choice):
    try:
        config = compose.plain(compose.compose(compose.Request([f"{group}={choice}"])))
    except LifelongCTError as error:
        if "is not installed" not in error.what:
            raise
        pytest.skip(f"{error.what}: {error.fix}")
    assert config["stream"]["hospitals"]


@pytest.mark.parametrize("choice", options()["hospital"])
def test_hospitals_compose_and_their_layouts_take_their_options(choice):
    """Their data are not here: that is what is missing, and not another option."""
    added = [f"+hospital@stream.unseen.example={choice}", "paths.data=not-here"]
    entry = compose.plain(compose.compose(compose.Request(["stream=real_ct", *added])))["stream"]["unseen"][
        "example"
    ]
    assert entry.pop("sharing") in SHARING
    with pytest.raises(LifelongCTError, match=r"not-here.* does not exist"):
        open_layout(entry)


@pytest.mark.parametrize("choice", options()["model"])
def test_models_are_built(choice, tmp_path):
    needed = [f"model.plans={planned.write(tmp_path)[0]}"] if choice == "nnunet" else []
    config = compose.plain(compose.compose(compose.Request([f"model={choice}", *needed])))
    assert build(config["model"], "model").grow(3)


@pytest.mark.parametrize("choice", options()["sampling"])
def test_sampling_policies_are_built_and_draw(choice):
    """From a case without any organ, and from one with two of them, of which one is not seen."""
    config = compose.plain(compose.compose(compose.Request([f"sampling={choice}", "data.foreground=0.25"])))
    policy = build(config["sampling"], "sampling")
    assert getattr(policy, "foreground", 0.25) == 0.25
    for volume in (Described(), Described(liver=[[9, 8, 7]], spleen=[])):
        draws = [[start for _, start in drawn(sampler([volume], policy=policy), 20)] for _ in range(2)]
        assert draws[0] == draws[1]
        assert len(set(draws[0])) > 5


@pytest.mark.parametrize("choice", options()["augment"])
def test_augmentations_are_built_and_keep_the_shape(choice):
    """And each transform lists every argument that it takes."""
    config = compose.plain(compose.compose(compose.Request([f"augment={choice}"])))["trainer"]["augment"]
    augment = build(config, "trainer.augment")
    if augment is None:
        return
    for entry in (config.get("transforms") or {}).values():
        assert set(entry) - {"_target_"} == set(signature(get_class(entry["_target_"])).parameters)
    x = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int16)
    out, codes = augment(x, x.to(torch.uint8), 0)
    assert (out.shape, out.dtype) == (x.shape, torch.float32)
    assert (codes.shape, codes.dtype) == (x.shape, torch.uint8)


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
    assert stream.name == choice
    assert all(any(h.train for h in experience.hospitals) for experience in stream.experiences)
    scored = {hospital.name for hospital in stream.scored}
    assert all(set(experience.task.hospitals) <= scored for experience in stream.experiences)


@pytest.mark.parametrize("choice", [name for name in options()["stream"] if name != "real_ct"])
def test_tiny_streams_have_two_experiences_of_one_case_each(choice):
    config = compose.plain(compose.compose(compose.Request([f"stream={choice}", "debug=tiny"])))
    stream = build(config["stream"], "stream")
    counts = [sum(len(h.train) for h in experience.hospitals) for experience in stream.experiences]
    assert counts == [1, 1]
