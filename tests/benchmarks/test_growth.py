"""Bytes of twenty hospitals, as a run's own parts need them."""

import pytest

from benchmarks import growth


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["naive", "prototypes", "lora", "independent", "continual_segment"])
def test_bytes_stay_or_grow_as_declared(strategy: str) -> None:
    text, holds = growth.row(strategy)
    assert holds, text
