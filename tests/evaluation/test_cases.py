from dataclasses import dataclass

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.evaluation.lesions import Lesions
from lifelong_ct.evaluation.surface import Surface
from lifelong_ct.evaluation.volume import Volume

MM = (1.0, 1.0, 1.0)


@dataclass
class Reference:
    label: np.ndarray | None
    organs: tuple[str, ...]
    overlaps: tuple[tuple[int, ...], ...] = ()


def line(*values: int, dtype: type = np.uint8) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(1, 1, -1)


def dice(prediction: np.ndarray, reference: Reference, channel_of: dict[str, int]) -> dict[str, float | None]:
    return {o: v for o, _, v in score_case(prediction, reference, channel_of, MM, [Dice()])}


def test_local_ids_and_channels_are_brought_together() -> None:
    reference = Reference(line(1, 1, 2, 0, 0, 2), ("spleen", "liver"))
    scores = dice(line(2, 0, 1, 1, 0, 1), reference, {"liver": 1, "spleen": 2})
    assert scores == {"spleen": pytest.approx(2 * 1 / (2 + 1)), "liver": pytest.approx(2 * 2 / (2 + 3))}


def test_what_was_not_annotated_is_not_scored() -> None:
    scores = dice(line(1, 2, 3), Reference(line(1, 0, 0), ("liver",)), {"liver": 1, "spleen": 2, "aorta": 3})
    assert scores == {"liver": 1.0}
    assert score_case(line(1), Reference(None, ("liver",)), {"liver": 1}, MM, [Dice()]) == []


def test_an_organ_without_a_channel_is_an_empty_prediction() -> None:
    assert dice(line(0, 0), Reference(line(1, 0), ("liver",)), {}) == {"liver": 0.0}


def test_annotated_but_absent_is_undefined_or_a_false_alarm() -> None:
    reference = Reference(line(0, 0, 0), ("liver", "spleen"))
    assert dice(line(0, 2, 0), reference, {"liver": 1, "spleen": 2}) == {"liver": None, "spleen": 0.0}


def test_an_organ_holds_what_is_inside_it() -> None:
    reference = Reference(line(1, 1, 2, 0), ("liver", "liver_tumor"))
    scores = dice(line(1, 2, 2, 0), reference, {"liver": 1, "liver_tumor": 2})
    assert scores == {"liver": 1.0, "liver_tumor": pytest.approx(2 * 1 / (1 + 2))}
    only_liver = dice(
        line(1, 2, 2, 0), Reference(line(1, 1, 1, 0), ("liver",)), {"liver": 1, "liver_tumor": 2}
    )
    assert only_liver == {"liver": 1.0}


def test_metrics_of_the_bounding_box_are_those_of_the_volume() -> None:
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 3, (2, 9, 8, 7)).astype(np.uint8)
    prediction[:3], label[6:] = 0, 0
    spacing = (2.0, 1.0, 0.5)
    scores = score_case(
        prediction,
        Reference(label, ("liver", "spleen")),
        {"liver": 1, "spleen": 2},
        spacing,
        [Dice(), Volume()],
    )
    for k, organ in enumerate(("liver", "spleen"), start=1):
        whole = {
            **Dice()(prediction == k, label == k, spacing),
            **Volume()(prediction == k, label == k, spacing),
        }
        assert {name: value for o, name, value in scores if o == organ} == whole


def test_wide_labels() -> None:
    organs = tuple(f"organ {i}" for i in range(300))
    reference = Reference(line(300, 299, 0, dtype=np.uint16), organs)
    scores = score_case(line(1, 0, 0), reference, {"organ 299": 1}, MM, [Dice()], parent={})
    assert scores[-1] == ("organ 299", "dice", 1.0)
    assert scores[-2] == ("organ 298", "dice", 0.0)


def test_grids_that_differ_are_told() -> None:
    with pytest.raises(DataError) as error:
        dice(line(1, 2), Reference(line(1), ("liver",)), {"liver": 1})
    assert error.value.code == "shape_mismatch"


def test_overlapping_masks_count_for_each_of_their_organs() -> None:
    """Values: 1 liver, 2 tumour, 3 both."""
    reference = Reference(line(1, 3, 2, 0), ("liver", "liver_tumor"), ((0, 1),))
    scores = dice(line(1, 2, 2, 0), reference, {"liver": 1, "liver_tumor": 2})
    assert scores == {"liver": 1.0, "liver_tumor": 1.0}


def test_what_nobody_knows_counts_for_nothing() -> None:
    reference = Reference(line(1, 2, 2, 0, 1, 0), ("liver",), ((),))
    assert dice(line(1, 1, 0, 0, 0, 1), reference, {"liver": 1}) == {"liver": pytest.approx(2 * 1 / (2 + 2))}


def test_an_organ_contains_what_lies_in_it_on_either_path() -> None:
    """A tumour of the left kidney is a kidney's tumour, and the left kidney, and a kidney."""
    organs = ("kidney", "kidney_left", "kidney_tumor", "kidney_tumor_left")
    reference = Reference(line(4, 4, 2, 1, 0), organs)
    channels = {organ: i for i, organ in enumerate(organs, start=1)}
    assert dice(line(4, 4, 2, 1, 0), reference, channels) == dict.fromkeys(organs, 1.0)
    scores = score_case(line(4, 4, 2, 1, 0), reference, channels, (10.0, 10.0, 10.0), [Volume()])
    volumes = {organ: value for organ, name, value in scores if name == "volume_ml"}
    assert volumes == {"kidney": 4.0, "kidney_left": 3.0, "kidney_tumor": 2.0, "kidney_tumor_left": 2.0}


def test_a_metric_is_asked_for_that_of_the_organ() -> None:
    """Tumours are counted, livers are not, and each has its tolerance: voxels 3 mm apart are within 5, not within 2."""
    reference = Reference(line(1, 1, 0, 0, 2, 0, 0, 0), ("liver", "liver_tumor"))
    prediction = line(1, 1, 0, 0, 0, 0, 0, 2)
    channels = {"liver": 1, "liver_tumor": 2}
    rows = score_case(prediction, reference, channels, MM, [Lesions(), Dice(), Surface()])
    found = {(organ, metric): value for organ, metric, value in rows}
    assert {organ for organ, metric in found if metric == "lesions"} == {"liver_tumor"}
    assert found["liver_tumor", "lesion_sensitivity"] == 0.0
    assert found["liver_tumor", "lesion_false_positives"] == 1
    assert (found["liver_tumor", "nsd"], found["liver", "nsd"]) == (0.5, 1.0)
    assert {metric for organ, metric in found if organ == "liver"} == {"dice", *Surface.names}


def test_a_metric_that_knows_nothing_of_organs_needs_nothing_more() -> None:
    class Voxels:
        names = ("voxels",)

        def __call__(
            self, prediction: np.ndarray, reference: np.ndarray, spacing: object
        ) -> dict[str, float]:
            return {"voxels": float(prediction.sum())}

    rows = score_case(line(1, 1, 0), Reference(line(1, 0, 0), ("liver",)), {"liver": 1}, MM, [Voxels()])
    assert rows == [("liver", "voxels", 2.0)]


def test_what_nobody_knows_is_no_false_positive_and_no_surface() -> None:
    reference = Reference(line(0, 1, 0, 0, 2, 0), ("liver_tumor",), ((),))
    rows = score_case(line(0, 1, 0, 0, 1, 0), reference, {"liver_tumor": 1}, MM, [Lesions(), Surface()])
    values = {metric: value for _, metric, value in rows}
    assert (values["lesion_sensitivity"], values["lesion_false_positives"]) == (1.0, 0)
    assert (values["nsd"], values["hd95"]) == (1.0, 0.0)
