from pathlib import Path

import pytest
import yaml

from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import Redactor
from lifelong_ct.reporting.build import make_reporters

CONF = Path(__file__).parents[2] / "conf/reporter"


def names(config: dict, folder: Path) -> list[str]:
    return [type(reporter).__name__ for reporter in make_reporters(config, folder, str, None)._active]


def test_the_default_has_everything(tmp_path: Path) -> None:
    config = yaml.safe_load((CONF / "default.yaml").read_text())
    assert names(config, tmp_path) == ["RunFolder", "Overlays", "HtmlReport", "WandB", "Console"]


def test_quiet_keeps_folder_and_page(tmp_path: Path) -> None:
    config = yaml.safe_load((CONF / "default.yaml").read_text())
    quiet = yaml.safe_load((CONF / "quiet.yaml").read_text())
    assert quiet.pop("defaults") == ["default"]
    assert names({**config, **quiet}, tmp_path) == ["RunFolder", "Overlays", "HtmlReport"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"consol": True}, "unknown key consol"),
        ({"wandb": {"enable": True}}, "unknown key enable"),
        ({"wandb": {"mode": "airplane"}}, "airplane"),
        ({"wandb": {"timeout": "soon"}}, "soon"),
        ({"mine": {"_target_": "lifelong_ct.reporting.text.shown_path"}}, "is no reporter"),
        ({"mine": {"_target_": "lifelong_ct.reporting.tensorboard.TensorBoard", "colour": 1}}, "colour"),
        ({"mine": {"_target_": "os.path.join"}}, "may not be named"),
    ],
)
def test_a_typo_is_an_error(tmp_path: Path, config: dict, message: str) -> None:
    with pytest.raises(LifelongCTError, match=message):
        make_reporters(config, tmp_path, str, None, build)


def test_any_class_with_a_target_is_a_reporter(tmp_path: Path) -> None:
    config = yaml.safe_load((CONF / "default.yaml").read_text())
    chosen = yaml.safe_load((CONF / "tensorboard.yaml").read_text())
    del chosen["defaults"]
    redact = Redactor()
    made = make_reporters({**config, **chosen}, tmp_path, redact, None, build)
    names = [type(reporter).__name__ for reporter in made._active]
    assert names == ["RunFolder", "Overlays", "HtmlReport", "TensorBoard", "Console"]
    (board,) = (reporter for reporter in made._active if type(reporter).__name__ == "TensorBoard")
    assert board.redact is redact  # not a copy: it learns names after this
    assert (board.flush_seconds, board.queue) == (30, 100)


def test_nothing_is_written_before_the_first_event(tmp_path: Path) -> None:
    make_reporters({"wandb": {"enabled": True}}, tmp_path, str, None)
    assert list(tmp_path.iterdir()) == []


def test_no_overlays_when_none_are_wanted(tmp_path: Path) -> None:
    assert names({"overlays": 0, "console": False}, tmp_path) == ["RunFolder", "HtmlReport"]


@pytest.mark.parametrize("count", [-1, 25, True, "all", 1.5])
def test_overlays_are_bounded(tmp_path: Path, count: object) -> None:
    with pytest.raises(LifelongCTError, match=r"0 to 24"):
        make_reporters({"overlays": count}, tmp_path, str, None)
