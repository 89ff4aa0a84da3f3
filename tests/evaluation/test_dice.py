import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from lifelong_ct.evaluation.dice import Dice

MM = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "dice"),
    [
        ([1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], 2 * 2 / (3 + 4)),
        ([1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], 2 * 2 / (2 + 4)),
        ([1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], 0.0),
        ([1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0], 1.0),
    ],
)
def test_by_hand(prediction: list[int], reference: list[int], dice: float) -> None:
    masks = (np.array(values, bool).reshape(1, 2, 3) for values in (prediction, reference))
    assert Dice()(*masks, MM) == {"dice": pytest.approx(dice)}


def test_monai_agrees() -> None:
    one, two = np.random.default_rng(0).random((2, 7, 6, 5)) > 0.6
    expected = compute_dice(*(torch.from_numpy(mask)[None, None] for mask in (one, two)))
    assert Dice()(one, two, MM)["dice"] == pytest.approx(float(expected))


def test_conventions_for_empty_masks() -> None:
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert Dice()(empty, empty, MM) == {"dice": None}
    assert Dice()(full, empty, MM) == Dice()(empty, full, MM) == {"dice": 0.0}
    assert Dice()(full, full, MM) == {"dice": 1.0}
