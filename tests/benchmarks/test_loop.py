"""The loop written by hand does what ours does, so that their times can be compared."""

import pytest
from scipy import stats

from benchmarks import loop, precision


def test_both_loops_come_to_the_same_weights_and_a_time_is_told_per_step() -> None:
    """`measured` compares them to the bit."""
    pairs = loop.measured(loop.smallest, 1, 2, 3)
    assert len(pairs) == 2
    assert all(0 < seconds < 1 for pair in pairs for seconds in pair)


def test_a_loop_that_does_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CLIP", 1e-4)  # of the one by hand: ours took it when it was made
    ours, hand = loop.loops(loop.smallest, 1)
    ours.clip = 1.0
    monkeypatch.setattr(loop, "loops", lambda make, edge: (ours, hand))
    with pytest.raises(AssertionError, match="differs"):
        loop.measured(loop.smallest, 1, 2, 3)


def test_the_bound_is_that_of_a_t_interval() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    mean, most = loop.bound(values)
    assert mean == 3.0
    assert most == pytest.approx(stats.t.interval(0.90, 3, loc=3.0, scale=stats.sem(values))[1])


def test_settings_are_those_that_they_say() -> None:
    assert str(precision.learner("bf16", 16).amp) == "torch.bfloat16"
    assert precision.learner("fused", 16).optimizer.param_groups[0]["fused"]
    plain, contiguous = (precision.learner(name, 16).model.backbone for name in ("default", "contiguous"))
    weights = [
        next(p for p in each.parameters() if p.ndim == 5 and p.shape[1] > 1) for each in (plain, contiguous)
    ]
    assert [w.is_contiguous() for w in weights] == [False, True]
