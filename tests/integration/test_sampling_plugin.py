"""A sampling policy of somebody else: a package of three files, as CONTRIBUTING.md says."""

import os
from pathlib import Path

import pytest
from whole_runs import only_run, results, run_fresh

POLICY = """
from lifelong_ct.data.sampling import At


class LargestOrgan:
    def __init__(self, share):
        self.share = share

    def centre(self, volume, rng):
        organ = max(volume.voxels, key=volume.voxels.get)
        if rng.random() < self.share:
            return At(organ, int(rng.integers(volume.count(organ))))
        d, h, w = volume.shape
        return d // 2, h // 2, w // 2
"""


def package(folder: Path) -> Path:
    """What pip would leave behind, without pip."""
    conf = folder / "largest" / "conf" / "sampling"
    conf.mkdir(parents=True)
    (folder / "largest" / "__init__.py").write_text("")
    (folder / "largest" / "policy.py").write_text(POLICY)
    (conf / "largest.yaml").write_text(
        "# The largest organ only.\n_target_: largest.policy.LargestOrgan\nshare: 0.5\n"
    )
    info = folder / "largest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: largest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lifelong_ct.plugins]\nlargest = largest\n")
    return folder


def test_a_policy_of_a_package_is_chosen_by_its_name_and_draws_for_processes(tmp_path: Path) -> None:
    mine = package(tmp_path / "site")
    path = os.pathsep.join([str(mine), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "runs").mkdir()
    done = run_fresh(
        tmp_path / "runs",
        "sampling=largest",
        "data.worker_kind=process",
        "reporter=quiet",
        PYTHONPATH=path,
    )
    assert done.returncode == 0, done.stderr
    assert results(only_run(tmp_path / "runs"))["status"] == "finished"
    assert "largest" in run_fresh(tmp_path / "runs", "--help", PYTHONPATH=path).stdout


@pytest.mark.slow
def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "sampling"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("_target_: lifelong_ct.data.sampling.schedules.Epochs\n")
    done = run_fresh(tmp_path, "--config-dir", str(tmp_path / "conf"), "sampling=odd", "reporter=quiet")
    assert done.returncode == 2
    assert "Epochs is no sampling policy" in done.stderr
