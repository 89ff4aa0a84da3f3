"""The command: verbs, help, and errors that end with exit code 2."""

import subprocess
import sys

import pytest

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
