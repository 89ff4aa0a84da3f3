"""What a GPU holds beside tensors: stated, then measured by runs on one, whose memory is told by hand here."""

import json
from dataclasses import replace

import pytest
import torch
from hospitals import Heard, options, stream

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.prediction.reserve import STATED, Reserve, calibrate, calibrated, measured
from lifelong_ct.training.run import Run

MIB = 1 << 20


def test_what_a_run_tells():
    seen = measured(1000 * MIB, {"allocated": 1500 * MIB, "reserved": 1800 * MIB}, 700 * MIB, "GPU")
    assert seen == Reserve(700 * MIB, 500 * MIB, 0.2, f"calibrated on GPU, torch {torch.__version__}")
    assert seen.beside(1000 * MIB) == 1400 * MIB


def test_workspaces_do_not_fall_below_what_is_stated():
    most = {"allocated": 900 * MIB, "reserved": 900 * MIB}
    seen = measured(1000 * MIB, most, 400 * MIB, "GPU")
    assert (seen.workspaces, seen.fragments) == (STATED.workspaces, 0)


def test_memory_of_other_processes_is_not_taken_for_the_context():
    most = {"allocated": MIB, "reserved": MIB}
    assert measured(MIB, most, 5 << 30, "GPU") is None
    assert measured(MIB, {}, MIB, "GPU") is None


def test_the_most_of_all_runs_on_a_device_is_kept(tmp_path):
    assert calibrated(tmp_path) == STATED
    calibrate(tmp_path, Reserve(3, 2, 0.1, "one"))
    calibrate(tmp_path, Reserve(2, 4, 0.3, "one"))
    assert calibrated(tmp_path) == Reserve(3, 4, 0.3, "one")
    calibrate(tmp_path, Reserve(1, 1, 0.1, "another"))
    assert calibrated(tmp_path) == Reserve(1, 1, 0.1, "another")


def test_a_file_of_somebody_else_is_named(tmp_path):
    (tmp_path / "gpu.json").write_text(json.dumps({"kontext": 3}))
    with pytest.raises(LifelongCTError, match=r"gpu\.json"):
        calibrated(tmp_path)


TOLD = {"available": 900 * MIB, "predicted": 800 * MIB, "overrides": []}
"""By a run that was made to fit."""


class Device:
    """An allocator that always says the same."""

    def allocated(self):
        return 600 * MIB

    def reserved(self):
        return 900 * MIB

    def reset(self):
        return None

    def beside(self):
        return 450 * MIB, "GPU"


def run(folder, last, fitted):
    opts = options(stream({"name": "a"}, {"name": "b"}), folder, fitted=fitted)
    made = Run(replace(opts, trainer=replace(opts.trainer, stop_after=last)), Heard())
    made.teller.peaks.statistics = Device()
    made.execute()
    return made


@pytest.mark.parametrize(
    ("last", "fitted", "expected"),
    [
        (None, TOLD | {"tensors": 100 * MIB}, Reserve(450 * MIB, 500 * MIB, 0.5)),
        (1, TOLD | {"tensors": 100 * MIB}, STATED),
        (None, TOLD, STATED),
        (None, None, STATED),
    ],
    ids=["whole", "stopped", "of an earlier version", "not predicted"],
)
def test_a_whole_run_that_was_predicted_calibrates(tmp_path, last, fitted, expected):
    run(tmp_path / "run", last, fitted).calibrate(tmp_path / "state")
    found = calibrated(tmp_path / "state")
    assert (found.context, found.workspaces, found.fragments) == (
        expected.context,
        expected.workspaces,
        expected.fragments,
    )
