"""Only declared packages may be named in a configuration."""

import pytest

from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.memory.selection.reservoir import Reservoir


def test_ours_is_built():
    assert isinstance(build({"_target_": "lifelong_ct.memory.selection.reservoir.Reservoir"}, "x"), Reservoir)


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "lifelong_ct_evil.run", "torch.load", "torch.optimx.A"]
)
def test_others_are_refused_however_deep(target):
    with pytest.raises(LifelongCTError, match="may not be named"):
        build({"_target_": "torch.optim.SGD", "params": [{"deep": {"_target_": target}}]}, "x")


def test_a_missing_class_and_a_wrong_argument_are_errors_of_ours():
    with pytest.raises(LifelongCTError, match="Nope"):
        build({"_target_": "lifelong_ct.memory.selection.reservoir.Nope"}, "strategy")
    with pytest.raises(LifelongCTError, match="frob"):
        build({"_target_": "lifelong_ct.training.augment.Augment", "frob": 1}, "trainer.augment")


def test_an_error_of_a_constructor_keeps_its_three_parts():
    with pytest.raises(LifelongCTError) as caught:
        build({"_target_": "lifelong_ct.training.augment.Augment", "mirror": [0]}, "trainer.augment")
    assert caught.value.where == "trainer.augment"
