"""What `train` tells, and what it keeps to itself."""

import pytest

from lifelong_ct.cli.telling import told
from lifelong_ct.cli.train import group_of
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import Redactor


def test_a_sweep_has_one_name_wherever_it_runs():
    one = group_of(["strategy=naive,ewc", "seed=0,1", "paths.runs=a"])
    assert one == group_of(["seed=0,1", "paths.runs=b", "strategy=naive,ewc"])
    assert one != group_of(["strategy=naive,ewc", "seed=0,2"])


@pytest.mark.parametrize(
    ("error", "code"),
    [(LifelongCTError("bad /secret/x", "a /secret", "b /secret"), 2), (ValueError("/secret/x"), 1)],
)
def test_an_error_is_redacted_and_keeps_its_exit_code(error, code):
    redact = Redactor()
    redact.hide_root("/secret", "data")
    shown = told(error, redact, "run x")
    assert "secret" not in str(shown)
    assert "<data>" in str(shown)
    assert shown.exit_code == told(shown, redact, "run x").exit_code == code
