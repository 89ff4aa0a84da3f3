import numpy as np
import torch

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.exemplars import ExemplarMemory, Origin
from lifelong_ct.memory.selection import Description
from lifelong_ct.memory.selection.recent import Recent


def filled(budget: int, said: Description) -> ExemplarMemory:
    """Four patches of noise, offered in turn."""
    memory = ExemplarMemory(budget, Recent(), Ledger(), 0, {"a": "patches"})
    rng = np.random.default_rng(0)
    for turn in range(4):
        x = torch.from_numpy(rng.integers(-500, 500, (1, 6, 6, 6), dtype=np.int16))
        told = Description(scores={**said.scores, "offered": float(turn)}, vectors=said.vectors)
        memory.offer({"x": x, "y": torch.zeros(1, 6, 6, 6, dtype=torch.uint8)}, Origin("a", f"{turn}"), told)
    return memory


def test_what_is_said_anew_is_kept_for_what_is_held_and_voxels_stay() -> None:
    memory = filled(100_000, Description())
    before = list(memory.held())
    size, chosen = memory.nbytes, before[1][0].id
    memory.describe(
        {chosen: Description(scores={"offered": 7.0}), "gone": Description(scores={"offered": 9.0})}
    )
    after = list(memory.held())
    assert [e.id for e, _ in after] == [e.id for e, _ in before]
    assert all(torch.equal(a["x"], b["x"]) for (_, a), (_, b) in zip(after, before, strict=True))
    assert [e.description.scores["offered"] for e, _ in after] == [0.0, 7.0, 2.0, 3.0]
    assert memory.nbytes == size


def test_longer_descriptions_count_and_the_policy_makes_room() -> None:
    """A vector of 100 float32 takes 400 bytes and its name; that is more than the room that is left."""
    memory = filled(100_000, Description())
    tight = filled(memory.nbytes + 300, Description())
    newest = list(tight.held())[-1][0]
    long = Description(scores={"offered": 3.0}, vectors={"v": np.zeros(100, np.float32)})
    size = tight.nbytes
    tight.describe({newest.id: long})
    assert tight.nbytes <= memory.nbytes + 300
    assert [e.description.scores["offered"] for e, _ in tight.held()] == [1.0, 2.0, 3.0], "the oldest left"
    roomy = filled(100_000, Description())
    roomy.describe({newest.id: long})
    assert roomy.nbytes == size + 400 + len("v")
