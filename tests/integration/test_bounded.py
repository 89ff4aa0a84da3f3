"""Twelve hospitals hold what four hold."""

from pathlib import Path
from typing import Any

import pytest
from whole_runs import only_run, results, run_fresh

MB = 1 << 20
SMALL = (
    "stream=phantom_long",
    "stream.limit=2",
    "stream.patch=[32,32,32]",
    "stream.steps=12",
    "strategy=replay",
    "memory.exemplars=64KiB",
    "memory.disk=64MiB",
    "evaluation.schedule=4",
    "reporter=quiet",
)


def ran(folder: Path, hospitals: int) -> dict[str, Any]:
    """Results of a run over so many hospitals."""
    folder.mkdir()
    done = run_fresh(folder, *SMALL, f"stream.first={hospitals}", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return results(only_run(folder))


@pytest.mark.slow
def test_nothing_but_metadata_grows_with_the_number_of_hospitals(tmp_path: Path) -> None:
    short, long, again = (ran(tmp_path / str(i), hospitals) for i, hospitals in enumerate((4, 12, 12)))
    for kind in ("ram", "disk", "gpu", "exemplars"):
        assert long["memory"][kind]["peak"] == short["memory"][kind]["peak"], kind
    assert long["memory"]["exemplars"]["used"] <= 64 << 10
    assert len(long["experiences"]) == 12
    # What threads that allocate side by side add to a peak is another in each run; what grows is not.
    both = zip(long["experiences"], again["experiences"], strict=True)
    peaks = [min(one["anonymous_peak"], other["anonymous_peak"]) for one, other in both]
    if not peaks[0]:
        pytest.skip("this system does not tell anonymous memory")
    assert max(peaks) - max(peaks[:3]) <= 9 * MB
