"""The benchmark of the augmentation: that it runs, and that MONAI's set changes as many patches as ours."""

import sys

import pytest
import torch
from scipy import stats

from benchmarks import augmentation
from lifelong_ct.training.augmentation import PerSample


def test_it_prints_a_row_per_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["augmentation", "--patch", "12", "--batches", "1", "--rounds", "2"])
    augmentation.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:3]] == ["| ours", "| MONAI"]
    assert rows[1].endswith("1.00 |")


def test_both_change_as_many_patches() -> None:
    x = torch.randint(
        -100, 200, (1, 1, 6, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int16
    )
    x, y = x.expand(200, -1, -1, -1, -1), torch.zeros(200, 1, 6, 6, 6, dtype=torch.uint8)
    p = 0.64 * 0.9 * 0.9 * 0.85 * 0.85 * 0.875 * 0.9 * 0.7 * 0.25
    for way in (augmentation.ours(), PerSample(augmentation.of_monai())):
        out = way(x, y, 1)[0]  # type: ignore[index]
        same = int(((out - x).abs().flatten(1).amax(1) < 1e-3).sum())
        assert stats.binomtest(same, 200, p).pvalue > 1e-3
