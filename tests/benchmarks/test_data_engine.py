"""The benchmark: its arithmetic by hand, and that it runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scans
from benchmarks.data_engine import Row, gates
from benchmarks.measuring import Cost, cached_pages, forget_pages

ROOT = Path(__file__).resolve().parents[2]


def row(name: str, crops: int, *cpu: float, read: float = 0.0) -> Row:
    return Row(name, crops, [Cost(ms, 2 * ms, read, 0.0) for ms in cpu])


def test_gates_are_ratios_of_medians():
    rows = [
        row("ours, RAM 0% of the store", 1, 3, 1, 2, read=300.0),
        row("ours, RAM 10% of the store", 1, 5, 5, 90),
        row("ours, RAM 25% of the store", 1, 4, 4, 4),
        row("ours, RAM 60% of the store", 1, 3, 3, 0),
        row("ours, RAM 100% of the store", 1, 2, 2, 2),
        row("CacheDataset 1.0, as usually written", 4, 24, 24, 99),
        row("CacheDataset 1.0, as usually written", 1, 80, 80, 80),
        row("nnU-Net v2 loader", 1, 6, 6, 6),
    ]
    lines = gates(rows, patch_bytes=200)
    found = [line.split(" | ")[1] for line in lines[3:]]
    assert found == ["6.00", "20.00", "1.50", "3.00", "nan", "nan", "2.00", "1.50", "0.60"]


def test_scans_are_like_scans():
    raw = scans.draw((48, 40, 32), 1)[0]
    assert raw.image.shape == raw.label.shape == (48, 40, 32)
    assert (raw.image[0, 0] == -1024).all()  # outside the circle
    inside = raw.image[raw.label == 1 + raw.organs.index("liver")]
    assert 40 < np.median(inside) < 140  # a liver, unenhanced to portal venous
    assert len(np.unique(inside)) > 50  # and noise
    assert not raw.label[raw.image == -1024].any()


def test_pages_are_counted(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    assert cached_pages([file]) == 25 * os.sysconf("SC_PAGE_SIZE")
    forget_pages([file])
    if cached_pages([file]) != 0:
        pytest.skip("this file system keeps its pages")
    np.fromfile(file, np.uint8)
    assert cached_pages([file]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "more", "told"),
    [
        ("data_engine", ["--quick", "--rounds", "1", "--only", "ours|Cache"], "| a miss (RAM 0%), CPU ms"),
        ("one_scan", ["--shape", "128", "128", "96", "--rounds", "1", "--crops", "2"], "| ours |"),
    ],
)
def test_it_runs(tmp_path, module, more, told):
    if module == "one_scan":
        pytest.importorskip("nnunetv2")
    command = [sys.executable, "-m", f"benchmarks.{module}", "--folder", str(tmp_path), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
    assert "| ours" in done.stdout
