"""Selection policies from the command line: one of ours, and one of somebody else's package of three files."""

import os
from pathlib import Path

import pytest
from whole_runs import only_run, results, run_fresh

POLICY = '''
"""The largest patches."""


class Largest:
    needs = frozenset({"organs"})

    def __init__(self, organ):
        self.organ = organ

    def decide(self, descriptors, seed, budget):
        order = sorted(descriptors, key=lambda d: (d.gone, -d.description.organs.get(self.organ, 0), d.id))
        kept = set()
        for descriptor in order:
            budget -= descriptor.nbytes
            if descriptor.gone or budget < 0:
                break
            kept.add(descriptor.id)
        return [d.id in kept and not d.gone for d in descriptors]
'''


def package(folder: Path) -> Path:
    """What pip would leave behind, without pip."""
    conf = folder / "largest" / "conf" / "selection"
    conf.mkdir(parents=True)
    (folder / "largest" / "__init__.py").write_text("")
    (folder / "largest" / "policy.py").write_text(POLICY)
    (conf / "largest.yaml").write_text(
        "# The largest livers.\n_target_: largest.policy.Largest\norgan: liver\n"
    )
    info = folder / "largest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: largest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lifelong_ct.plugins]\nlargest = largest\n")
    return folder


def test_a_policy_of_a_package_is_chosen_by_its_name(tmp_path: Path) -> None:
    mine = package(tmp_path / "site")
    path = os.pathsep.join([str(mine), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "runs").mkdir()
    done = run_fresh(
        tmp_path / "runs", "strategy=replay", "selection=largest", "reporter=quiet", PYTHONPATH=path
    )
    assert done.returncode == 0, done.stderr
    assert results(only_run(tmp_path / "runs"))["status"] == "finished"
    page = run_fresh(tmp_path / "runs", "--help", PYTHONPATH=path).stdout
    assert "selection  greedy_balanced, gss, herding" in page
    assert "largest" in page


@pytest.mark.slow
def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "selection"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("_target_: lifelong_ct.data.sampling.uniform.Uniform\n")
    done = run_fresh(tmp_path, "--config-dir", str(tmp_path / "conf"), "strategy=replay", "selection=odd")
    assert done.returncode == 2
    assert "Uniform is no selection policy" in done.stderr
