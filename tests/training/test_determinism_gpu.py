"""Networks of which `trainer.deterministic` promises the same bits twice, on CUDA."""

import pytest
import torch

from benchmarks.loop import hospital, opened
from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.training.determinism import deterministic

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def trained(network: str, device: str) -> dict[str, torch.Tensor]:
    """Weights after five steps on random patches."""
    torch.manual_seed(0)
    values = compose.plain(compose.compose(compose.Request([f"model={network}"])))
    space, source = hospital(48)
    learner = opened(build(values["model"], "model"), space, source, device=device)
    learner.block(5)
    return {name: weight.clone() for name, weight in learner.model.state_dict().items()}


@pytest.mark.parametrize("network", ["unet", "dynunet"])
def test_the_same_bits_twice(network: str) -> None:
    with deterministic(wanted=True):
        first, second = (trained(network, "cuda") for _ in range(2))
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name
