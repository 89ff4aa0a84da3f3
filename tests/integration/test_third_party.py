"""Strategies that are not ours: an installed package, and Avalanche's own from YAML alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from whole_runs import only_run, results, run, run_fresh

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ADDED = {"l2sp": EXAMPLES / "strategy_plugin", "ogd": EXAMPLES / "gradient_projection"}
STOCK = {
    "stock_ewc": "_target_: avalanche.training.plugins.EWCPlugin\n"
    "    ewc_lambda: 0.4\n    mode: online\n    decay_factor: 0.9",
    "stock_agem": "_target_: avalanche.training.plugins.AGEMPlugin\n"
    "    patterns_per_experience: 2\n    sample_size: 1",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, installed by pip into a folder of their own."""
    target = tmp_path_factory.mktemp("installed")
    sources = [tmp_path_factory.mktemp("source") / name for name in ADDED]
    for source, example in zip(sources, ADDED.values(), strict=True):
        shutil.copytree(example, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), *map(str, sources)], check=True)
    return target


def test_an_installed_package_adds_a_strategy_that_runs(installed: Path, tmp_path: Path) -> None:
    done = run_fresh(tmp_path, "strategy=l2sp", "reporter=quiet", PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    document = results(only_run(tmp_path))
    assert (document["status"], document["run"]["strategy"]) == ("finished", "l2sp")


def test_help_and_the_list_after_a_typo_know_it(installed: Path, tmp_path: Path) -> None:
    told = run_fresh(tmp_path, "--help", PYTHONPATH=str(installed)).stdout
    typo = run_fresh(tmp_path, "strategy=nope", PYTHONPATH=str(installed)).stderr
    assert "l2sp" in told
    assert "l2sp" in typo
    assert "l2sp" not in run_fresh(tmp_path, "strategy=nope").stderr


@pytest.mark.parametrize("name", sorted(ADDED))
def test_it_keeps_the_contract(name: str, installed: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from lifelong_ct.testing.strategies import check_strategy;"
        f"check_strategy({name!r}, Path({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(STOCK))
def test_a_stock_plugin_runs_from_yaml_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "strategy"
    folder.mkdir(parents=True)
    needs = "{past_data: false, reinitialise: false, boundaries: true, resumable: true}"
    (folder / f"{name}.yaml").write_text(
        f"# Avalanche's own.\nname: {name}\nplugins:\n  - {STOCK[name]}\nrequires: {needs}\n"
    )
    code = run(
        tmp_path,
        "--config-dir",
        str(tmp_path / "conf"),
        f"strategy={name}",
        "reporter=quiet",
        "data.keep=all",
    )
    assert code == 0
    document = results(only_run(tmp_path))
    assert document["status"] == "finished"
    assert {row["after"] for row in document["scores"]} == {0, 1, 2}
