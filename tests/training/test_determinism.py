"""The same bits every time: settings, the error of an operation that cannot."""

from dataclasses import replace

import pytest
import torch
from hospitals import Heard, options, stream

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.determinism import deterministic
from lifelong_ct.training.run import Run


def run(folder, plugins=list, wanted=True):
    opts = options(stream({"name": "a"}), folder, new_plugins=plugins)
    return Run(replace(opts, trainer=replace(opts.trainer, deterministic=wanted)), Heard())


def settings():
    return torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark


def test_settings_hold_meanwhile_and_come_back(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    with deterministic(wanted=True):
        assert settings() == (2, False)  # 2: an error, not a warning
    assert settings() == before
    with pytest.raises(ZeroDivisionError), deterministic(wanted=True):
        raise ZeroDivisionError
    assert settings() == before
    with deterministic(wanted=False):
        assert settings() == before


class Scattering(StrategyPlugin):
    """Uses an operation that adds in any order, on the CPU too."""

    def before_forward(self, strategy, **kwargs):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))


def test_an_operation_that_cannot_is_named(tmp_path):
    with pytest.raises(LifelongCTError, match=r"put_ does not have a deterministic implementation") as told:
        run(tmp_path / "asked", lambda: [Scattering()]).execute()
    assert told.value.where == "trainer.deterministic"
    assert run(tmp_path / "not", lambda: [Scattering()], wanted=False).execute()["status"] == "finished"


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="something else"), deterministic(wanted=True):
        raise RuntimeError("something else")


def test_a_run_ends_with_it(tmp_path):
    assert run(tmp_path).execute()["status"] == "finished"
