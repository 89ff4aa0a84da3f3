"""Twelve hospitals hold what four hold."""

from pathlib import Path

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


def test_nothing_but_metadata_grows_with_the_number_of_hospitals(tmp_path: Path) -> None:
    documents = {}
    for count in (4, 12):
        folder = tmp_path / str(count)
        folder.mkdir()
        done = run_fresh(folder, *SMALL, f"stream.first={count}", OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        documents[count] = results(only_run(folder))
    short, long = documents[4], documents[12]
    for kind in ("ram", "disk", "gpu", "exemplars"):
        assert long["memory"][kind]["peak"] == short["memory"][kind]["peak"], kind
    assert long["memory"]["exemplars"]["used"] <= 64 << 10
    assert len(long["experiences"]) == 12
    peaks = [experience["anonymous_peak"] for experience in long["experiences"]]
    if not peaks[0]:
        pytest.skip("this system does not tell anonymous memory")
    assert max(peaks) - max(peaks[:3]) <= 9 * MB
