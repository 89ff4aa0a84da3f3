"""The loop on CUDA: half precision, and a state that comes back to the device."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import EWCPlugin
from tiny import World, model

from lifelong_ct.memory.selection.greedy_balanced import GreedyBalanced
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.memory.selection.selective import Selective
from lifelong_ct.strategies.agem import AGEM
from lifelong_ct.strategies.der import DER
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.gdumb import GDumb
from lifelong_ct.strategies.latent_replay import LatentReplay
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.mas import MAS
from lifelong_ct.strategies.online_memory import OnlineMemory
from lifelong_ct.strategies.prototypes import Prototypes
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.strategies.rwalk import RWalk
from lifelong_ct.strategies.si import SI
from lifelong_ct.training import checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
STRATEGIES: dict[str, Callable[[], list[Any]]] = {
    "naive": list,
    "replay": lambda: [Replay(Reservoir(), exemplars_per_batch=1)],
    "agem": lambda: [AGEM(Reservoir(), exemplars_per_step=2)],
    "gdumb": lambda: [GDumb(GreedyBalanced())],
    "selective memory": lambda: [OnlineMemory(Selective())],
    "der++": lambda: [DER(Reservoir(), beta=0.5)],
    "latent replay": lambda: [LatentReplay(Reservoir(), patches=2)],
    "prototypes": lambda: [Prototypes(patches=2)],
    "ewc": lambda: [OnlineEWC(ewc_lambda=100.0, patches=2)],
    "si": lambda: [SI(100.0)],
    "mas": lambda: [MAS(100.0, patches=2)],
    "rwalk": lambda: [RWalk(100.0, window=2)],
    "lwf": lambda: [LwF(lwf_lambda=1.0)],
    "stock EWC": lambda: [EWCPlugin(100.0, mode="online", decay_factor=0.9)],
}


def world(strategy: str, **options: Any) -> World:
    bind = {"new_model": lambda: model().cuda()}
    return World(*STRATEGIES[strategy](), device="cuda", bind=bind, **options)


@pytest.mark.parametrize("amp", ["bf16", "fp16", None])
def test_every_precision_learns(amp: str | None) -> None:
    learning = world("naive", amp=amp, optimizer=partial(torch.optim.AdamW, lr=3e-2))
    learning.learn(0, steps=60)
    assert sum(learning.losses[-5:]) < 0.75 * sum(learning.losses[:5])
    assert learning.learner.scaler.is_enabled() == (amp == "fp16")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_of_a_gpu_goes_on_there(tmp_path: Path, strategy: str) -> None:
    whole = world(strategy)
    whole.learn(0, steps=4)
    checkpoint.save(tmp_path / "after_001", whole.state_dict())
    whole.learn(1, steps=4)
    resumed = world(strategy)
    resumed.load_state_dict(checkpoint.load(tmp_path / "after_001"))
    resumed.learn(1, steps=4)
    torch.testing.assert_close(resumed.weights(), whole.weights(), rtol=1e-4, atol=1e-5)
