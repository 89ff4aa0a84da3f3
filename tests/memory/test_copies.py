"""Copies in a checkpoint, by hand."""

from typing import Any

import pytest
import torch

from lifelong_ct.core.errors import CheckpointError
from lifelong_ct.memory import copies
from lifelong_ct.memory.parts import behind


def three() -> dict[str, Any]:
    x = torch.arange(3, dtype=torch.int16).view(3, 1, 1, 1, 1)
    return copies.of(
        {"x": x, "y": x.to(torch.uint8), "weights": torch.tensor([3.0, 2.0, 1.0])}, ["a", "b", "a"]
    )


def test_a_patient_leaves_with_every_tensor() -> None:
    own = three()
    assert copies.without(own, {"a", "nobody"}) == 2
    tensors, patients = copies.opened(own)
    assert patients == ["b"]
    assert {name: tensor.flatten().tolist() for name, tensor in tensors.items()} == {
        "x": [1], "y": [1], "weights": [2.0],
    }  # fmt: skip
    assert copies.without(own, {"a"}) == 0
    assert copies.without(own, {"b"}) == 1
    assert copies.opened(own)[0]["x"].shape == (0, 1, 1, 1, 1)


def test_what_is_nobody_s_is_counted() -> None:
    voxels = torch.zeros(4, 1, 2, 2, 2, dtype=torch.int16)
    assert copies.unattributed([three(), None, "text", {"weights": [torch.zeros(4, 1, 2, 2, 2)]}]) == 0
    assert copies.unattributed({"mine": [voxels], "one": voxels[0], "steps": voxels[:, 0, 0, 0, 0]}) == 5
    assert copies.unattributed([copies.of({"x": voxels}, ["a", "", "b", ""])]) == 2


@pytest.mark.parametrize("old", [[torch.zeros(1), torch.zeros(1)], torch.zeros(1), {"kind": "another"}])
def test_what_tells_nobody_is_refused(old: Any) -> None:
    with pytest.raises(CheckpointError, match="does not tell whose"):
        copies.opened(old)


def test_behind_a_batch_codes_are_as_wide_as_the_widest() -> None:
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3, 4], dtype=torch.uint8)
    past = {"x": torch.tensor([5], dtype=torch.int16), "y": torch.tensor([300], dtype=torch.uint16)}
    both = behind(x, y, past)
    assert [part.tolist() for part in both] == [[1.0, 2.0, 5.0], [3, 4, 300]]
    assert [part.dtype for part in both] == [torch.float32, torch.uint16]
    narrow = behind(x, past["y"], {"x": past["x"], "y": y})
    assert narrow[1].tolist() == [300, 3, 4]
