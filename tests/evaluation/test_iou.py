import numpy as np
import pytest
import torch
from monai.metrics import compute_iou

from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.evaluation.iou import IoU

MM = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "iou"),
    [
        ([1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], 2 / 5),
        ([1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], 1 / 2),
        ([1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], 0.0),
        ([1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0], 1.0),
        ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], None),
    ],
)
def test_by_hand(prediction: list[int], reference: list[int], iou: float | None) -> None:
    masks = (np.array(values, bool).reshape(1, 2, 3) for values in (prediction, reference))
    assert IoU()(*masks, MM) == {"iou": pytest.approx(iou)}


def test_monai_agrees_and_so_does_dice() -> None:
    one, two = np.random.default_rng(0).random((2, 7, 6, 5)) > 0.6
    iou, dice = IoU()(one, two, MM)["iou"], Dice()(one, two, MM)["dice"]
    assert iou == pytest.approx(float(compute_iou(*(torch.from_numpy(m)[None, None] for m in (one, two)))))
    assert iou == pytest.approx(dice / (2 - dice))
