"""Seconds of work within other work count once."""

from pathlib import Path

import pytest
from hospitals import Heard, options, stream

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.training import telling
from lifelong_ct.training.results import Results, share
from lifelong_ct.training.telling import Teller


class Clock:
    """Both clocks of `time`, by hand; processors run twice as fast."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 2 * self.now


def test_evaluation_within_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(telling, "time", clock)
    opts = options(stream({"name": "a"}), tmp_path)
    results = Results(opts, ["a"], Ledger())
    teller = Teller(opts, Heard(), results)
    with teller.timed("training"):
        clock.now += 5
        for _ in range(2):
            with teller.timed("evaluation"):
                clock.now += 3
        clock.now += 1
    with teller.timed("evaluation"):
        clock.now += 4
    assert results.seconds == {"reading": 0, "training": 6, "evaluation": 10}
    assert results.cpu_seconds == {"reading": 0, "training": 12, "evaluation": 20}
    assert share(results.seconds) == pytest.approx(10 / 16)
    assert share({**results.seconds, "total": 16.0}) == pytest.approx(10 / 16)
    assert share({"evaluation": 0.0}) is None
