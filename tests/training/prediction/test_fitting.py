"""The order of ways, what each keeps, and what a run that was made to fit tells."""

import json
from dataclasses import replace

import pytest
import torch
from hospitals import Heard, options, stream

from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training.options import FitOptions
from lifelong_ct.training.prediction import fitting
from lifelong_ct.training.prediction.fitting import Way, fit, fitted, ways
from lifelong_ct.training.prediction.peaks import Peak, Prediction
from lifelong_ct.training.prediction.record import fitted_run
from lifelong_ct.training.rounds import rounds
from lifelong_ct.training.run import Run


def run(folder, batch=4, patch=96, **changes):
    opts = options(stream({"name": "a"}, {"name": "b"}, patch=[patch] * 3), folder, **changes)
    return replace(opts, trainer=replace(opts.trainer, batch_size=batch, device="cpu"))


@pytest.fixture
def formula(monkeypatch):
    """1000 bytes per patch of a micro-batch of 96³, half with checkpointing; 600 of optimizer state on the device."""

    def predict(opts, rounds, on_cuda=False):
        trainer = opts.trainer
        d, h, w = opts.stream.patch
        nbytes = 1000 * trainer.batch_size * d * h * w // 96**3 // (2 if trainer.checkpointing else 1)
        nbytes += 0 if trainer.optimizer_state == "host" else 600
        return Prediction([Peak("start", 0, {}), Peak("training", nbytes, {"activations": nbytes})], 0, "")

    monkeypatch.setattr(fitting, "predict", predict)


@pytest.mark.parametrize(
    ("available", "way"),
    [
        (4600, Way()),
        (4599, Way(split=2)),
        (2599, Way(split=4)),
        (1599, Way(split=4, host_state=True)),  # 1000, 0.19 more time; checkpointing would be 0.37
        (999, Way(split=4, checkpointing=True, host_state=True)),
    ],
)
def test_the_cheapest_that_fits(tmp_path, formula, available, way):
    opts = run(tmp_path)
    found = fit(opts, rounds(opts), available, on_cuda=False)
    assert found is not None
    assert found.way == way
    trainer = found.way.applied(opts).trainer
    assert trainer.batch_size * trainer.accumulate == 4, "the effective batch stays"


def test_patches_shrink_last_and_only_when_allowed(tmp_path, formula):
    opts = run(tmp_path)
    assert fit(opts, rounds(opts), 499, on_cuda=False) is None
    found = fit(opts, rounds(opts), 499, smaller_patch=True, on_cuda=False)
    assert found is not None
    assert found.way == Way(4, True, True, (64, 64, 64))
    assert "stream.patch=[64,64,64]" in found.way.overrides(opts)
    assert tuple(opts.stream.patch) == (96, 96, 96)


def test_exemplars_of_a_step_stay_as_many(tmp_path):
    opts = run(tmp_path, new_plugins=lambda: [Replay(Reservoir(), exemplars_per_batch=2)])
    assert {way.split for way in ways(opts)} == {1, 2}
    way = Way(split=2)
    assert [p.exemplars_per_batch for p in way.applied(opts).new_plugins()] == [1]
    assert way.overrides(opts) == [
        "trainer.batch_size=2",
        "trainer.accumulate=2",
        "strategy.plugins.0.exemplars_per_batch=1",
    ]
    assert [p.exemplars_per_batch for p in opts.new_plugins()] == [2]


def test_what_was_done_is_told_kept_and_done_again(tmp_path, formula):
    opts = run(tmp_path, patch=8)
    assert fitted(opts, rounds(opts)) is opts
    opts = replace(opts, fit=FitOptions(available=601))
    made = fitted_run(opts)
    assert made.trainer.batch_size == 2
    assert made.trainer.accumulate == 2
    told = json.loads((opts.folder / "fit.json").read_text())
    assert told["overrides"] == ["trainer.batch_size=2", "trainer.accumulate=2"]
    again = fitted_run(replace(opts, fit=FitOptions(available=1 << 30)))
    assert again.trainer.batch_size == 2, "a run goes on as it began"
    heard = Heard()
    document = Run(made, heard).execute()
    assert document["run"]["fitted"]["overrides"] == told["overrides"]
    assert any("trainer.batch_size=2" in data["text"] for data in heard.named("note"))


def test_nothing_fits_and_no_gpu_is_there(tmp_path, formula, monkeypatch):
    opts = replace(run(tmp_path), fit=FitOptions(available=10))
    with pytest.raises(LimitExceeded, match="smaller_patch"):
        fitted(opts, rounds(opts))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LifelongCTError, match=r"memory\.gpu_available"):
        fitted(replace(opts, fit=FitOptions()), rounds(opts))


def test_the_command_proposes_what_fits(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    places = [f"paths.{key}={tmp_path / key}" for key in ("data", "runs", "state", "store")]
    args = ["plan", "debug=tiny", "trainer.batch_size=4", "stream.patch=[64,64,64]", *places]
    assert main([*args, "memory.gpu=2GB"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "activations",
        "reserve: context",
        "calibrated on CPU",
        "margin to memory.gpu",
        "disk per hospital",
    ):
        assert word in shown
    assert main([*args, "memory.gpu=1000MiB"]) == 2
    fix = capsys.readouterr().err.split("fix:")[1]
    assert "trainer.batch_size=" in fix
    overrides = [word for word in fix.split() if word.startswith("trainer.")]
    assert main([*args, *overrides, "memory.gpu=1000MiB"]) == 0, "what it proposes fits"
