"""Mirroring: where voxels go, and the codes of the other side."""

import numpy as np
import pytest
import torch

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace, Protocol
from lifelong_ct.training.augmentation import Mirror

ORGANS = ["liver", "kidney_right", "kidney_left"]


def batch(codes: int = 3, samples: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 2, 4, 5, 6, generator=rng)
    return x, torch.randint(0, codes, (samples, 1, 4, 5, 6), generator=rng, dtype=torch.uint8)


def flips(*rows: list[bool]) -> dict[str, np.ndarray]:
    return {"flips": np.array(rows)}


def test_each_sample_turns_round_along_its_axes() -> None:
    x, y = batch()
    out, codes = Mirror([1, 2])(x, y, flips([False, True, False], [False, True, True]))
    assert torch.equal(out[0], x[0].flip(2))
    assert torch.equal(codes[0], y[0].flip(2))
    assert torch.equal(out[1], x[1].flip(2, 3))
    assert torch.equal(codes[1], y[1].flip(2, 3))


def test_every_axis_is_mirrored_half_of_the_time_and_no_other() -> None:
    drawn = [Mirror([1, 2]).draw(generator("mirror", i), (1, 4, 4, 4)) for i in range(2000)]
    rate = sum(d["flips"] for d in drawn if d is not None) / 2000
    assert rate[0] == 0
    assert rate[1:] == pytest.approx(0.5, abs=0.05)


def test_left_and_right_change_places_with_their_labels() -> None:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    step = Mirror([0])
    step.bind(space, None, [ORGANS])
    y = torch.zeros(2, 1, 4, 1, 1, dtype=torch.uint8)
    y[:, 0, :, 0, 0] = torch.tensor([1, 2, 3, IGNORE])
    x = torch.arange(8.0).view(2, 1, 4, 1, 1)
    out, codes = step(x, y, flips([True, False, False], [False, False, False]))
    assert codes.flatten().tolist() == [IGNORE, 2, 3, 1, 1, 2, 3, IGNORE]
    assert out.flatten().tolist() == [3, 2, 1, 0, 4, 5, 6, 7]


def test_what_was_annotated_changes_sides_too() -> None:
    """A case with the right kidney only: mirrored, an unlabelled voxel may be the right one, and not the left one."""
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    lut = space.encode_lut(["liver", "kidney_right"])
    assert lut.tolist() == [PROTOCOL_BASE, 1, 2]
    step = Mirror([0])
    step.bind(space, None, [ORGANS])
    y = torch.tensor(lut[[0, 2]]).view(1, 1, 2, 1, 1)
    _, codes = step(torch.zeros(1, 1, 2, 1, 1), y, flips([True, False, False]))
    assert codes.flatten().tolist() == [3, PROTOCOL_BASE + 1]
    assert space.protocols[1] == Protocol(frozenset({"liver", "kidney_left"}))
    assert space.candidates()[PROTOCOL_BASE + 1].tolist() == [True, False, True, False]
    back = step(torch.zeros(1, 1, 2, 1, 1), codes, flips([True, False, False]))[1]
    assert torch.equal(back, y)


def test_codes_widen_when_the_mirrored_protocols_need_it() -> None:
    pairs = ["adrenal_gland", "femur", "clavicula", "scapula", "humerus", "hip", "kidney"]
    sides = [f"{organ}_{side}" for organ in pairs for side in ("left", "right")]
    space = LabelSpace(sides)
    space.see(sides)
    for k in range(94):
        chosen = [organ for bit, organ in enumerate(sides[::2]) if (k + 1) >> bit & 1]
        assert space.encode_lut(chosen)[0] == PROTOCOL_BASE + k
    step = Mirror([0])
    step.bind(space, None)
    y = torch.tensor([PROTOCOL_BASE + 93], dtype=torch.uint8).view(1, 1, 1, 1, 1)
    code = step(torch.zeros(1, 1, 1, 1, 1), y, flips([True, False, False]))[1]
    assert code.dtype == torch.uint16
    mirrored = {organ.replace("left", "right") for organ in space.protocols[93].organs}
    assert space.protocols[int(code.item()) - PROTOCOL_BASE - 1].organs == mirrored


def test_without_the_other_side_it_is_refused_before_the_run() -> None:
    space = LabelSpace(ORGANS)
    with pytest.raises(LifelongCTError, match="kidney_right cannot be mirrored") as error:
        Mirror([0]).bind(space, None, [["liver"], ["liver", "kidney_right"]])
    assert error.value.where == "trainer.augment.transforms.mirror.axes"
    Mirror([1, 2]).bind(space, None, [["liver", "kidney_right"]])


def test_without_a_label_space_it_is_refused() -> None:
    with pytest.raises(LifelongCTError, match="nobody told"):
        Mirror([0])(*batch(), flips([True, False, False], [True, False, False]))


@pytest.mark.parametrize("axes", [[3], [1, 1], [True], "12"])
def test_what_is_no_list_of_axes_is_refused(axes) -> None:
    with pytest.raises(LifelongCTError):
        Mirror(axes)
