"""A model out of the checkpoint of a run."""

from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch
from hospitals import Heard, options, stream
from tiny import model
from torch import nn

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.training import checkpoint
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.run import Run
from lifelong_ct.training.serving import load_model


def trained(tmp_path, **more):
    made = stream({"name": "a"}, {"name": "b"}, **more)
    run = Run(options(made, tmp_path), Heard())
    run.execute()
    return run, tmp_path / "run" / "checkpoints"


@pytest.mark.parametrize("spacing", [None, (1.5, 2.0, 3.0)])
def test_a_served_model_predicts_as_the_trained_one(tmp_path, spacing):
    run, folder = trained(tmp_path, spacing=spacing)
    served = load_model(folder / "after_002", lambda: model(seed=99))
    x = torch.randint(-500, 500, (1, 1, 8, 8, 8), dtype=torch.int16)
    with torch.no_grad():
        assert torch.equal(served.model(x), run.learner.model.eval()(x))
    assert served.model(x).shape[1] == 3
    assert not any(module.training for module in served.model.modules())
    assert served.label_space.channels == run.space.channels
    assert served.label_space.organs == ("liver", "spleen")
    assert (served.spacing, served.roi, served.after) == (spacing, (16, 16, 16), 2)
    earlier = load_model(folder / "after_001", model)
    assert earlier.after == 1
    assert not torch.equal(earlier.model(x), served.model(x))


@pytest.mark.parametrize(
    "other",
    [
        lambda: SegmentationModel(nn.Conv3d(1, 4, 3, padding=1), features=4),
        lambda: SegmentationModel(model().backbone, features=5),
        lambda: SegmentationModel(nn.Sequential(model().backbone, nn.Conv3d(4, 4, 1)), features=4),
    ],
)
def test_another_architecture_is_told(tmp_path, other):
    _, folder = trained(tmp_path)
    with pytest.raises(CheckpointError, match="another architecture") as error:
        load_model(folder / "after_002", other)
    assert error.value.where == str(folder / "after_002")
    assert "\n" not in error.value.what
    assert "model=" in error.value.fix


def test_a_damaged_checkpoint_is_told(tmp_path):
    _, folder = trained(tmp_path)
    path = folder / "after_002" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CheckpointError, match=r"tensors\.safetensors"):
        load_model(folder / "after_002", model)
    with pytest.raises(CheckpointError, match="not complete"):
        load_model(folder / "after_003", model)
    assert load_model(folder / "after_001", model).after == 1


def test_a_head_without_a_bias_is_another_architecture(tmp_path):
    run, _ = trained(tmp_path)
    state = run.state_dict(2)
    weights = {k: v for k, v in state["learner"]["model"].items() if k != "head.bias"}
    checkpoint.save(tmp_path / "c", {**state, "learner": {**state["learner"], "model": weights}})
    with pytest.raises(CheckpointError, match=r"head\.bias"):
        load_model(tmp_path / "c", model)


def test_channels_and_modality_come_with_the_model(tmp_path):
    _, folder = trained(tmp_path)
    served = load_model(folder / "after_001", model)
    assert (served.channels, served.modality) == (1, "CT")
    state = checkpoint.load(folder / "after_001")
    state["serving"] = {key: state["serving"][key] for key in ("spacing", "roi")}  # of an earlier version
    checkpoint.save(tmp_path / "old", state)
    old = load_model(tmp_path / "old", model)
    assert old == replace(served, model=ANY, label_space=ANY, more={}, amp=None)
    given = EvaluationOptions([], roi=(8, 8, 8), overlap=0.5, precision="fp16", mirror=[2])
    assert old.options(given, ()) == replace(given, roi=(16, 16, 16))  # as it predicted then
    assert old.autocast("bf16", (), torch.device("cpu")) is None


def test_windows_and_autocast_are_those_of_the_run_until_others_are_named(tmp_path):
    made = stream({"name": "a"})
    dice = [Dice()]
    used = EvaluationOptions(dice, roi=(8, 16, 8), overlap=0.125, precision="fp16", mirror=[1])
    opts = options(made, tmp_path, evaluation=used)
    Run(replace(opts, trainer=replace(opts.trainer, amp="bf16")), Heard()).execute()
    served = load_model(tmp_path / "run" / "checkpoints" / "after_001", model)
    given, cpu = EvaluationOptions(dice, roi=(16, 16, 16), schedule="final"), torch.device("cpu")
    assert served.options(given, ()) == replace(used, roi=(8, 16, 8), schedule="final")
    named = {f"evaluation.{key}" for key in ("roi", "overlap", "precision", "mirror")}
    assert served.options(given, named) == given
    assert served.options(given, {"evaluation.mirror"}).mirror == ()
    assert served.autocast(None, (), cpu) is torch.bfloat16
    assert served.autocast(None, {"trainer.amp"}, cpu) is None
    half = replace(served, amp="fp16")
    assert half.autocast(None, (), cpu) is None  # it needs a GPU
    assert half.autocast(None, (), torch.device("cuda")) is torch.float16
    with pytest.raises(LifelongCTError, match="needs a GPU"):
        served.autocast("fp16", {"trainer.amp"}, cpu)
