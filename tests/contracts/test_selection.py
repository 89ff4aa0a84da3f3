"""Every selection policy keeps the contract; a new YAML is found by itself."""

import json
import re
import subprocess
import sys

import pytest

from lifelong_ct.cli import compose
from lifelong_ct.cli.conf import options, own_folder
from lifelong_ct.cli.instantiate import build
from lifelong_ct.testing.selection import check_selection, described

CHOICES = options()["selection"]
ELSEWHERE = f"""
import json, sys
sys.path.insert(0, {__file__.rpartition("/")[0]!r})
import test_selection
print(json.dumps(test_selection.decisions()))
"""


def decisions() -> dict[str, list[bool]]:
    """What every policy says to the same forty patches."""
    found = {}
    for choice in CHOICES:
        config = compose.plain(compose.compose(compose.Request([f"selection={choice}"])))["selection"]
        found[choice] = build(config, "selection").decide(described(40, [60, 100, 350]), 3, 2000)
    return found


@pytest.mark.parametrize("choice", CHOICES)
def test_contract(choice):
    check_selection(choice)


@pytest.mark.parametrize("choice", CHOICES)
def test_its_share_of_training_time_is_stated(choice):
    text = (own_folder() / "selection" / f"{choice}.yaml").read_text()
    assert re.search(r"^# Time per step: at most 1\.\d\d .*times that of (selection|strategy)=", text, re.M)


def test_another_process_decides_the_same():
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == decisions()
