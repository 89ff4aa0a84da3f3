"""Launchers: found, named by their extra where they are missing, and one of them at work."""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from hydra.errors import MissingConfigException
from whole_runs import TINY, places, results

from lifelong_ct.cli import compose, train
from lifelong_ct.cli.compose import EXTRAS
from lifelong_ct.cli.main import main
from lifelong_ct.cli.train import Outcome
from lifelong_ct.core.errors import LifelongCTError

ROOT = Path(__file__).parents[2]
PLUGINS = {
    "launcher=joblib": "hydra_joblib_launcher",
    "launcher=slurm": "hydra_submitit_launcher",
    "launcher=ray": "hydra_ray_launcher",
    "sweep=optuna": "hydra_optuna_sweeper",
}


def installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("choice", "plugin"), PLUGINS.items())
def test_it_composes_or_names_its_extra(choice: str, plugin: str, tmp_path: Path, capsys) -> None:
    if installed(plugin):
        with compose.hydra(compose.parse([choice])) as engine:
            config = engine.compose_config("config", [choice], compose.RunMode.MULTIRUN, False)
        part = config.hydra.launcher if choice.startswith("launcher") else config.hydra.sweeper
        assert plugin in part._target_
        group, name = choice.split("=")
        written = yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text())
        for key, value in next(iter(written["hydra"].values())).items():
            assert part[key] == value or set(value) <= set(part[key])
        return
    assert main([*TINY, *places(tmp_path), choice, "-m"]) == 2
    extra = choice.split("=")[1]
    assert f'pip install "lifelong-ct[{extra}]"' in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_every_extra_that_is_named_exists() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for asked, extra in EXTRAS.items():
        assert re.search(rf'^{extra} = \["hydra-', text, re.MULTILINE)
        error = compose._missing(MissingConfigException("", asked, []))
        assert f"lifelong-ct[{extra}]" in error.fix


def test_a_launcher_changes_nothing_that_is_computed() -> None:
    if not installed("hydra_joblib_launcher"):
        pytest.skip("hydra-joblib-launcher is not installed: pip install -e .[joblib]")
    plain, launched = (compose.compose(compose.parse(args)) for args in ([], ["launcher=joblib"]))
    assert plain == launched


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])  # 1: in this one
def test_jobs_run_beside_each_other(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    if not installed("hydra_joblib_launcher"):
        pytest.skip("hydra-joblib-launcher is not installed: pip install -e .[joblib]")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    jobs = f"hydra.launcher.n_jobs={processes}"
    sweep = ["strategy=naive,replay", "launcher=joblib", jobs, "reporter.html=false"]
    assert main([*TINY, *places(tmp_path), *sweep, "reporter.console=false", "-m"]) == 0
    found = sorted(path.parent for path in (tmp_path / "runs").glob("*/results.json"))
    assert [results(path)["run"]["strategy"] for path in found] == ["naive", "replay"]
    assert [results(path)["status"] for path in found] == ["finished", "finished"]
    assert len({results(path)["run"]["group"] for path in found}) == 1
    assert (tmp_path / "runs" / "report" / "comparison.html").exists()
    assert "comparison: " in capfd.readouterr().out


def test_a_search_maximises_the_score_and_a_failed_job_has_none() -> None:
    assert float(Outcome("a", "finished", "runs", 0.75)) == 0.75
    with pytest.raises(TypeError, match="a failed without a score"):
        float(Outcome("a", "failed", "runs"))


def made(runs: Path, name: str, status: str, group: str) -> None:
    run = {"name": name, "group": group}
    (runs / name).mkdir(parents=True)
    document = {"schema": 1, "status": status, "run": run, "error": "lost" if status == "failed" else None}
    (runs / name / "results.json").write_text(json.dumps(document))


@pytest.mark.parametrize("silent", [True, False])
def test_a_sweep_whose_jobs_cannot_tell_is_read_from_its_folders(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Optuna's sweeper keeps what jobs return; a launcher that loses a job raises."""
    args = [*TINY, *places(tmp_path), "group=mine", "-m"]
    made(tmp_path / "runs", "one", "failed", "mine")
    made(tmp_path / "runs", "two", "failed", "another's")

    def swept(*_):
        if silent:
            return []
        raise LifelongCTError("a node died", "Slurm", "look at its log")

    monkeypatch.setattr(train.compose, "sweep", swept)
    assert main(args) == (1 if silent else 2)
    shown = capsys.readouterr()
    assert "comparison: " in shown.out
    assert ("failed: one" in shown.err) == silent
    assert "two" not in shown.err
    assert "lost" in (tmp_path / "runs" / "report" / "comparison.html").read_text()
