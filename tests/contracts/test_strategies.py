"""Every strategy keeps the contract; a new YAML is found by itself."""

import pytest

from lifelong_ct.cli.conf import own_folder
from lifelong_ct.testing.strategies import check_strategy

ALIKE = ("cumulative", "derpp", "dynamic_memory", "linear_memory", "replay_ewc_lwf", "replay_pseudo")
"""Methods whose classes the contract of another YAML runs too."""
STRATEGIES = sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ALIKE else ()) for n in STRATEGIES]
)
def test_contract(name, tmp_path):
    check_strategy(name, tmp_path, "memory.exemplars=1MiB")
