"""The command: verbs, help, and errors that end with exit code 2."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from lifelong_ct.cli import conf
from lifelong_ct.cli.main import main


def test_help_lists_verbs_and_choices_without_heavy_imports():
    code = (
        "import sys; from lifelong_ct.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'hydra', 'omegaconf', 'numpy', 'monai', 'avalanche', 'wandb', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for word in ("train", "predict", "replay", "phantom_stress", "paths."):
        assert word in done.stdout


def test_an_unknown_verb_names_the_near_one(capsys):
    assert main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["strategy=nope"], ["no strategy 'nope'", "naive", "replay", "ewc", "lwf", "joint"]),
        (["strategy=replai"], ["did you mean replay?"]),
        (["memory.ram=12 parsecs"], ["12 parsecs", "memory.ram", "512MiB"]),
        (["memory.tape=1GB"], ["tape"]),
        (["stream.organs=[liver,livr]"], ["livr", "did you mean", "liver"]),
        (["--frob"], ["--frob", "--help"]),
        (["seed=[1"], ["seed"]),
        (["stream.organs=[7]"], ["7", "stream.organs"]),
        (["stream.hospitals=5"], ["stream.hospitals"]),
        (["stream.hospitals=[5]"], ["stream.hospitals"]),
        (["stream.spacing=[0,1,1]"], ["stream.spacing"]),
        (["~stream._target_"], ["_target_", "stream"]),
        (["strategy.name=a/b"], ["a/b", "strategy.name"]),
        (["strategy=ewc", "strategy.plugins.0.ewc_lambda=x"], ["ewc_lambda=x"]),
        (["strategy=lwf", "strategy.plugins.0.temperature=0"], ["temperature=0"]),
        (["~trainer"], ["trainer is missing"]),
        (["~strategy"], ["strategy is missing"]),
        (["~paths.state"], ["paths.state"]),
        (["paths.runs=null"], ["paths.runs"]),
        (["paths.store=7"], ["paths.store"]),
        (["trainer.optimizer.lr=-1"], ["trainer.optimizer"]),
        (["trainer.device=meta"], ["meta", "trainer.device"]),
        (["reporter.wandb=5"], ["reporter.wandb"]),
        (["trainer.device=tpu"], ["tpu", "trainer.device"]),
        (["trainer.amp=fp8"], ["fp8", "trainer.amp"]),
        (["data.keep=some"], ["data.keep"]),
        (["evaluation.schedule=never"], ["evaluation.schedule"]),
        (["strategy.plugins=[{_target_: os.system, command: ls}]"], ["os.system", "may not be named"]),
    ],
)
def test_mistakes_have_three_parts_and_exit_code_2(args, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*args, "debug=tiny", "reporter=quiet"]) == 2
    told = capsys.readouterr().err
    assert "where:" in told
    assert "fix:" in told
    for word in words:
        assert word in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "content",
    ["a: [1", "\t- a", "- 1", "5", "hello", b"\xff\xfe\x00", "a: &x [*x]", "a: 1\na: 2", "defaults: [nope]", "", "name: [1]",
     "!!python/object/apply:os.system ['ls']"],
)  # fmt: skip
def test_a_broken_yaml_of_the_user_is_one_error(content, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Doe_Jane"
    (folder / "strategy").mkdir(parents=True)
    (folder / "strategy" / "mine.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    assert main(["--config-dir", str(folder), "strategy=mine", "debug=tiny", "reporter=quiet"]) == 2
    told = capsys.readouterr().err
    assert [told.count(word) for word in ("error:", "where:", "fix:", "Traceback", "Doe")] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["verify", "stream.hospitals=5"], ["stream.hospitals"]),
        (["plan", "stream.hospitals=5"], ["stream.hospitals"]),
        (["ingest", "~strategy"], ["strategy is missing"]),
        (["compare", "old=x", "new=x", "margin=much"], ["much", "0.05"]),
        (["compare", "old=x", "new=x", "margin=nan"], ["nan"]),
        (["compare", "old=x", "new=x", "margin=-1"], ["-1"]),
        (["report", "--frob"], ["--frob"]),
    ],
)
def test_mistakes_of_other_verbs(args, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    told = capsys.readouterr().err
    assert [told.count(word) for word in ("error:", "where:", "fix:", "Traceback")] == [1, 1, 1, 0]
    for word in words:
        assert word in told


def test_compare_takes_nothing_else(tmp_path, capsys):
    (tmp_path / "cases.csv").write_text("after,hospital,case,organ,dice\n0,a,c,liver,0.5\n")
    args = ["compare", f"old={tmp_path}", f"new={tmp_path}"]
    assert main(args) == 0
    assert main([*args, "frob=1"]) == 2
    assert "frob" in capsys.readouterr().err


def test_report_takes_flags_for_flags(tmp_path, capsys, monkeypatch):
    """Not for folders that want a report."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "myconf").mkdir()
    (tmp_path / "runs").mkdir()
    assert main(["report", "--config-dir", "myconf"]) == 0
    assert (tmp_path / "runs" / "report" / "comparison.html").exists()
    assert not list((tmp_path / "myconf").iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ["report", "{}/none"],
        ["report", "paths.runs={}/none"],
        ["compare", "old={}/none", "new={}/none"],
        ["evaluate", "from={}/none"],
        ["predict", "from={}/none", "in={}/none.nii.gz", "out={}/out"],
        ["--config-dir", "{}/none"],
        ["{}/none"],
        ["paths.runs={}/none,/proc/Doe", "-m", "memory.ram=1KiB"],
    ],
)
def test_a_log_of_an_error_shows_no_path(args, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    private = tmp_path / "Doe, Jane's"
    private.mkdir()
    assert main([arg.format(private) for arg in args]) != 0
    told = capsys.readouterr()
    assert "error:" in told.err
    assert "Doe" not in told.out + told.err


def test_a_bug_of_ours_is_one_message_and_exit_code_1(tmp_path, capsys, monkeypatch):
    from lifelong_ct.cli import report

    def crash(folder):
        raise ZeroDivisionError(f"in {folder}")

    monkeypatch.setattr(report, "write_report", crash)
    assert main(["report", f"{tmp_path}/Doe_Jane"]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError: in <argument>" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("value", ["json", "lifelong_ct_nowhere.plugin"])
@pytest.mark.parametrize("args", [["--help"], ["debug=tiny"], ["doctor"]])
def test_a_plug_in_without_conf_is_one_error(value, args, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    entry = EntryPoint("broken", value, conf.PLUGINS)
    monkeypatch.setattr(conf, "entry_points", lambda group: [entry])
    assert main(args) == 2
    told = capsys.readouterr().err
    assert [told.count(word) for word in ("error:", "where:", "fix:", "Traceback")] == [1, 1, 1, 0]
    assert "the plug-in broken has no conf/" in told
