"""Every strategy keeps the contract; a new YAML is found by itself."""

import pytest

from lifelong_ct.cli.conf import own_folder
from lifelong_ct.testing.strategies import check_strategy

STRATEGIES = sorted(file.stem for file in (own_folder() / "strategy").glob("*.yaml"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_contract(name, tmp_path):
    check_strategy(name, tmp_path, "memory.exemplars=1MiB")
