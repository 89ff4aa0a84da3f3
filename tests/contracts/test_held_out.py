"""Strategies that read patches beside those that they train on say so, and are refused where cases are shown once."""

from pathlib import Path
from typing import Any

import pytest

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.conf import own_folder
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import Refused
from lifelong_ct.testing.scenarios import check_held_out, reads_held_out
from lifelong_ct.training.rounds import rounds

STRATEGIES = sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml"))
READS = {"ewc", "independent", "latent_replay", "lora", "mas", "plop", "prototypes", "replay_ewc_lwf"}


def composed(name: str, folder: Path) -> Any:
    places = (f"paths.{key}={folder / key}" for key in ("run", "store", "state"))
    asked = [f"strategy={name}", "stream=phantom", "debug=tiny", "data.schedule=one_pass", *places]
    return compose.compose(compose.Request(asked))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_yaml_says_what_its_plugins_do(name: str, tmp_path: Path) -> None:
    strategy = compose.plain(composed(name, tmp_path))["strategy"]

    def plugins() -> list[Any]:
        made: list[Any] = build(strategy["plugins"], "strategy.plugins")
        return made

    reads = reads_held_out(plugins)
    assert reads == bool(strategy["requires"].get("held_out"))
    assert reads == (name in READS)


@pytest.mark.parametrize("name", sorted(READS))
def test_who_reads_them_is_refused_before_a_case_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"strategy={name} reads patches that it does not train on") as error:
        rounds(Blueprint(composed(name, tmp_path), []).options())
    assert "data.schedule=epochs" in error.value.fix


def test_the_contract_catches_who_does_not_say_so() -> None:
    class Reads(StrategyPlugin):
        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            list(strategy.held_out_patches(1))

    check_held_out("good", lambda: [StrategyPlugin()], {})
    check_held_out("good", lambda: [Reads()], {"held_out": True})
    with pytest.raises(AssertionError, match="bad reads patches that it does not train on"):
        check_held_out("bad", lambda: [Reads()], {})
