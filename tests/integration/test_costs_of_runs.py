"""What a run writes down of its cost, by hand: one patch per step, three steps per experience, two hospitals."""

from pathlib import Path

import pytest
from hospitals import options, stream
from whole_runs import only_run, results, run

from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.run_folder import RunFolder
from lifelong_ct.training.options import Requires
from lifelong_ct.training.run import Run

QUIET = ("reporter=quiet", "reporter.html=false", "evaluation.schedule=final")


@pytest.mark.parametrize(
    ("strategy", "again", "growth"),
    [
        ("replay", [0, 3], 1.0),  # an exemplar beside each patch, of earlier hospitals alone
        ("gdumb", [3, 3], 1.0),  # reads patches into the memory, and trains on what it holds
        ("independent", [0, 0], 2.0),  # two networks
    ],
)
def test_patches_seen_again_and_parameters(
    tmp_path: Path, strategy: str, again: list[int], growth: float
) -> None:
    assert run(tmp_path, f"strategy={strategy}", *QUIET) == 0
    document = results(only_run(tmp_path))
    experiences = document["experiences"]
    assert [e["patches"] for e in experiences] == [3, 3]
    assert [e["seen_again"] for e in experiences] == again
    assert document["costs"]["seen_again"] == pytest.approx(sum(again) / 6)
    assert document["costs"]["growth"] == pytest.approx(growth, rel=0.01)
    assert document["costs"]["steps"] == 6
    assert document["cpu_seconds"]["training"] > 0


def test_all_past_data_are_seen_again(tmp_path: Path) -> None:
    """Cumulative: the second experience has two cases in epochs, and 2 × 2 steps of two patches."""
    made = stream({"name": "a"}, {"name": "b"})
    opts = options(made, tmp_path, requires=Requires(past_data=True))
    document = Run(opts, Reporters([RunFolder(opts.folder, str)])).execute()
    told = [(e["steps"], e["patches"], e["seen_again"]) for e in document["experiences"]]
    assert told == [(2, 4, 0), (4, 4, 4)]


def test_joint_training_sees_nothing_a_second_time(tmp_path: Path) -> None:
    made = stream({"name": "a"}, {"name": "b"})
    opts = options(made, tmp_path, requires=Requires(past_data=True, reinitialise=True))
    document = Run(opts, Reporters([RunFolder(opts.folder, str)])).execute()
    assert [(e["steps"], e["patches"], e["seen_again"]) for e in document["experiences"]] == [(4, 8, 0)]
