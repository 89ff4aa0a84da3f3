"""The benchmark of surface metrics: that it runs, and that both sides score the same masks."""

import re
import sys

import numpy as np
import pytest

from benchmarks import metrics


def test_it_compares_equal_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["metrics", "--side", "40", "--rounds", "1"])
    metrics.main()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith(("| good", "| poor"))]) == 8
    for line in (line for line in lines if "NSD differs by" in line):
        found = [float(number) for number in re.findall(r"by ([\d.e+-]+)", line)]
        assert len(found) == 2
        assert max(found) < 1e-4


def test_what_is_predicted_is_the_label_moved() -> None:
    label = np.zeros((24, 24, 24), np.uint8)
    label[6:18, 6:18, 6:18] = 3
    still, moved = (metrics.warped(label, (2.0, 2.0, 2.0), mm) for mm in (0.0, 4.0))
    assert np.array_equal(still, label)
    assert set(np.unique(moved)) == {0, 3}
    assert 0.3 < np.mean(moved[label > 0] == 3) < 1
