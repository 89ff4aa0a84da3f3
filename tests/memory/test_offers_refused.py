"""What a full memory refuses costs no look at what it holds, and changes nothing."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory import selection
from lifelong_ct.memory.exemplars import ExemplarMemory, Origin
from lifelong_ct.memory.selection import Description, Descriptor
from lifelong_ct.memory.selection.hospital_balanced import HospitalBalanced
from lifelong_ct.memory.selection.loss_aware import LossAware
from lifelong_ct.memory.selection.reservoir import Reservoir

HOSPITALS = "abc"
POLICIES = [Reservoir, HospitalBalanced, LossAware]


class Asked:
    """A policy that says nothing beforehand, and counts its decisions."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.decisions = policy, 0

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        self.decisions += 1
        kept: list[bool] = self.policy.decide(descriptors, seed, budget)
        return kept


class Quick(Asked):
    """The same with what it says."""

    def turns_away(self, newcomer: Descriptor, gone: Sequence[Descriptor], seed: int) -> bool:
        said: bool = self.policy.turns_away(newcomer, gone, seed)
        return said


def memory(policy: Any, budget: int = 6_000) -> ExemplarMemory:
    return ExemplarMemory(budget, policy, Ledger(), 3, dict.fromkeys(HOSPITALS, "patches"))


def offer(i: int) -> tuple[dict[str, torch.Tensor], Origin, Description]:
    """Sizes, losses and hospitals vary; some patches come twice."""
    rng = np.random.default_rng(i % 97)
    edge = int(rng.integers(2, 6))
    x = torch.from_numpy(rng.integers(-1000, 1000, (1, edge, edge, edge)).astype(np.int16))
    origin = Origin(HOSPITALS[int(rng.integers(3)) * (i > 40)], f"case {i % 97}", f"patient {i % 7}")
    said = Description(scores={"loss": float(rng.random()), "offered": float(i)})
    return {"x": x, "y": torch.zeros_like(x, dtype=torch.uint8)}, origin, said


def ids(memory: ExemplarMemory) -> list[str]:
    return [exemplar.id for exemplar, _ in memory.held()]


@pytest.mark.parametrize("kind", POLICIES)
def test_a_memory_holds_what_it_would_if_every_offer_were_decided(kind: Any) -> None:
    asked, spared = Asked(kind()), Quick(kind())
    slow, quick = memory(asked), memory(spared)
    for i in range(0, 300, 2):
        for each in (slow, quick):
            each.offer_all([offer(i), offer(i + 1)])
            if i == 100:
                each.remove("patient 3")
            if i == 150:
                longer = {id: Description(scores={"loss": 2.0, "and more": 1.0}) for id in ids(each)[:5]}
                each.describe(longer)
        assert ids(slow) == ids(quick), i
        assert slow.nbytes == quick.nbytes
        if i == 200:
            state = quick.state_dict()
            quick = memory(spared)
            quick.load_state_dict(state)
    assert asked.decisions > 2 * spared.decisions


@pytest.mark.parametrize("kind", POLICIES)
def test_an_offer_that_is_refused_neither_decides_nor_draws_for_what_is_held(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    real = selection.derive_seed
    monkeypatch.setattr(selection, "derive_seed", lambda *keys: drawn.append(keys) or real(*keys))
    policy = Quick(kind())
    full = memory(policy)
    for i in range(90):
        full.offer_all([offer(i)])
    assert len(full) > 10
    before = ids(full)
    decisions = [policy.decisions]
    draws = []
    for i in range(200, 260):
        drawn.clear()
        parts = {"x": torch.full((1, 2, 2, 2), i, dtype=torch.int16), "y": torch.zeros(1, 2, 2, 2)}
        full.offer(parts, Origin("a", "new"), Description(scores={"loss": 1e-3}))
        draws.append(len(drawn))
        decisions.append(policy.decisions)
    refused = sum(a == b for a, b in pairwise(decisions))
    assert refused > 20
    assert max(draws) <= 4 < len(before), "what is held keeps its lot"
