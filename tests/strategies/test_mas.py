import pytest
import torch
from avalanche.training.plugins import MASPlugin
from tiny import World
from toy import Lender, patches, softmax_model, tiled, trained

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE
from lifelong_ct.strategies.mas import MAS, output_norm


def importance(lender, count, **options):
    mas = MAS(1.0, patches=count, **options)
    World(mas)
    mas.after_training_exp(lender)
    return mas.importance


def test_importance_of_a_linear_model_is_the_mean_size_of_its_slope() -> None:
    """‖F‖² of a voxel is Σ (w x + b)², its slopes 2 (w x + b) x and 2 (w x + b)."""
    lender = Lender(softmax_model(), patches(5))
    found = importance(lender, 5)
    weight, bias = lender.model.weight.detach().double(), lender.model.bias.detach().double()
    of_weight, of_bias = torch.zeros(3, dtype=torch.double), torch.zeros(3, dtype=torch.double)
    for x, _ in lender.patches:
        v = x.flatten().double()
        out = weight @ v[None] + bias[:, None]
        of_weight += (2 * out * v).mean(1).abs() / 5
        of_bias += (2 * out).mean(1).abs() / 5
    torch.testing.assert_close(found["weight"][:, 0].double(), of_weight, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found["bias"].double(), of_bias, rtol=1e-5, atol=1e-9)


def test_padding_is_left_out() -> None:
    logits = torch.tensor([[3.0, 5.0], [4.0, 7.0]]).view(1, 2, 1, 1, 2)
    assert output_norm(logits, torch.tensor([0, IGNORE]).view(1, 1, 1, 1, 2)).item() == 25.0
    assert output_norm(logits, torch.full((1, 1, 1, 1, 2), IGNORE)).item() == 0.0


def test_importance_does_not_depend_on_the_patch_size() -> None:
    small = [patches(1, edge=16)[0]]
    found = [importance(Lender(softmax_model(), given), 1) for given in (small, [tiled(small[0], 4)])]
    for name in ("weight", "bias"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("alpha", "old", "new"), [(None, 1.0, 1.0), (0.25, 0.25, 0.75)])
def test_importances_are_summed_or_averaged(alpha, old, new) -> None:
    lender = Lender(softmax_model(), patches(2))
    fresh = importance(lender, 2)
    mas = MAS(1.0, alpha=alpha, patches=2)
    World(mas)
    mas.importance, mas.anchor = {"bias": torch.tensor([8.0, 4.0])}, {"bias": torch.zeros(2)}
    mas.after_training_exp(lender)
    expected = new * fresh["bias"] + old * torch.tensor([8.0, 4.0, 0.0])
    torch.testing.assert_close(mas.importance["bias"], expected)


def test_weights_are_those_of_avalanche() -> None:
    ours = trained(MAS(0.2, alpha=0.5, patches=6))
    theirs = trained(MASPlugin(lambda_reg=0.2, alpha=0.5))
    free = trained()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
        assert (ours[name] - free[name]).abs().max() > 0.02, "the penalty did something"


@pytest.mark.parametrize(
    "wrong",
    [
        {"mas_lambda": -1},
        {"mas_lambda": 1, "alpha": 2},
        {"mas_lambda": 1, "patches": 0},
        {"mas_lambda": 1, "patches": True},
    ],
)
def test_wrong_arguments_are_told(wrong) -> None:
    with pytest.raises(LifelongCTError):
        MAS(**wrong)
