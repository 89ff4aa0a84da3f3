"""A sweep goes on past a job that fails, and does not repeat what is finished."""

import re
from pathlib import Path

import pytest
from whole_runs import TINY, only_run, places, results

from lifelong_ct.cli.main import main

STRATEGIES = ("naive", "misspelt", "replay", "crashing")
NEEDS = "requires: {past_data: false, reinitialise: false, boundaries: false, resumable: true}\n"
PLUGINS = {
    "misspelt": "{_target_: lifelong_ct.strategies.lwf.LwF, lwf_lambda: 1.0, temprature: 2.0}",
    "crashing": "{_target_: avalanche.training.plugins.MASPlugin, lambda_reg: much, alpha: 0.5}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweep")
    for name, plugin in PLUGINS.items():
        file = made / "conf" / "strategy" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"name: {name}\nplugins: [{plugin}]\n{NEEDS}")
    return made


def sweep(folder: Path) -> int:
    conf = ("--config-dir", str(folder / "conf"), "reporter.html=false")
    return main([*TINY, *places(folder), *conf, f"strategy={','.join(STRATEGIES)}", "-m"])


def test_the_others_finish_and_the_comparison_lists_what_failed(folder: Path, capfd) -> None:
    assert sweep(folder) == 1
    shown = capfd.readouterr()
    found = {name: only_run(folder, f"*-{name}-*") for name in STRATEGIES}
    documents = {name: results(path) for name, path in found.items()}
    status = [documents[name]["status"] for name in STRATEGIES]
    assert status == ["finished", "failed", "finished", "failed"]
    assert "temprature" in documents["misspelt"]["error"]
    assert "Traceback" not in shown.err
    failed = [line for line in shown.err.splitlines() if line.startswith("failed: ")]
    assert [re.search(r"strategy=(\w+)", line)[1] for line in failed] == ["misspelt", "crashing"]
    page = (folder / "runs" / "report" / "comparison.html").read_text()
    for name in STRATEGIES:
        assert found[name].name in page
    assert "temprature" in page
    assert "comparison" in shown.out


def test_jobs_are_named_by_their_hash_and_share_a_group(folder: Path) -> None:
    found = [only_run(folder, f"*-{name}-*") for name in STRATEGIES]
    for path in found:
        assert path.name.endswith(f"-s0-{results(path)['run']['config_hash']}")
    assert len({path.name.rpartition("-")[2] for path in found}) == 4
    groups = {results(path)["run"]["group"] for path in found}
    assert len(groups) == 1
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", groups.pop())


def test_the_same_command_skips_what_is_finished(folder: Path, capfd) -> None:
    kept = {name: only_run(folder, f"*-{name}-*") / "results.json" for name in ("naive", "replay")}
    before = {name: file.stat().st_mtime_ns for name, file in kept.items()}
    assert sweep(folder) == 1
    told = capfd.readouterr().out
    for name, file in kept.items():
        assert file.stat().st_mtime_ns == before[name]
        assert f"{file.parent.name} is finished already" in told


def test_an_unknown_choice_ends_it_before_anything_runs(tmp_path: Path, capfd) -> None:
    assert main([*TINY, *places(tmp_path), "strategy=naive,nope", "-m"]) == 2
    assert "there is no strategy 'nope'" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()
