"""Bytes of twenty hospitals, as a run's own parts need them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["naive", "prototypes", "lora", "independent", "continual_segment"])
def test_bytes_stay_or_grow_as_declared(strategy: str) -> None:
    """In a process of its own: twenty hospitals leave PyTorch with threads, and tests that fork would fail."""
    command = [sys.executable, "-m", "benchmarks.growth", strategy]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
