"""The benchmark of steps: its interval by hand, that what it measures is active, and that it runs."""

import math
import sys

import pytest
import torch

from benchmarks import overhead
from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import own_folder


def test_the_bound_is_that_of_a_t_interval_of_the_log_ratio() -> None:
    """Ratios e^0.1, e^0.2, e^0.3: mean 0.2, standard deviation 0.1, t of 2 degrees of freedom at 95 % is 2.91999."""
    found = overhead.summary([(2.0, 2.0 * math.exp(x)) for x in (0.1, 0.2, 0.3)], steps=4)
    assert found.ratio == pytest.approx(math.exp(0.2))
    assert found.bound == pytest.approx(math.exp(0.2 + 2.91999 * 0.1 / math.sqrt(3)), rel=1e-5)
    assert found.naive == 500.0


def test_penalty_teacher_and_exemplars_are_there_and_the_second_experience_stays_open() -> None:
    ewc, lwf, replay = (overhead.opened(name, 16, 2, []) for name in ("ewc", "lwf", "replay"))
    assert ewc.plugins[0].importance
    assert lwf.plugins[0].teacher is not None
    assert len(replay.plugins[0].memory) > 0
    for learner in (ewc, lwf, replay):
        before = [p.detach().clone() for p in learner.model.parameters()]
        assert learner.block(1) > 0
        assert learner.clock.train_exp_counter == 1, "the first is past, the second has not ended"
        assert any(not torch.equal(a, b) for a, b in zip(before, learner.model.parameters(), strict=True))
    assert len(replay.mb_x) == replay.train_mb_size + replay.plugins[0].exemplars_per_batch


def test_limits_are_numbers_of_at_least_one() -> None:
    for name in sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml")):
        most = overhead.limit(name)
        assert most is None or 1 <= most < 10, name


def test_the_limit_of_replay_is_that_of_its_batch() -> None:
    """1.10 (b + r) / b."""
    values = compose.plain(compose.compose(compose.Request(["strategy=replay"])))
    b, r = values["trainer"]["batch_size"], values["strategy"]["plugins"][0]["exemplars_per_batch"]
    assert overhead.limit("replay") == pytest.approx(1.10 * (b + r) / b)


def test_it_prints_a_verdict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["overhead", "--patch", "16", "--pairs", "2", "--steps", "1", "--only", "si"]
    )
    assert overhead.main() in (0, 1)
    assert "| si | " in capsys.readouterr().out
