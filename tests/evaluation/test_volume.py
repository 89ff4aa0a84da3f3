import numpy as np
import pytest

from lifelong_ct.evaluation.volume import Volume, volume_ml


def test_a_box_of_known_size_in_millilitres() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[2:6, 1:6, :5] = True  # 100 voxels
    assert volume_ml(mask, (0.8, 0.8, 5.0)) == pytest.approx(100 * 0.8 * 0.8 * 5 / 1000)


def test_error_is_signed_and_absolute() -> None:
    prediction, reference = np.zeros((2, 4, 4, 4), bool)
    prediction[0], reference[:2] = True, True
    scores = Volume()(prediction, reference, (10.0, 10.0, 10.0))
    assert scores == {
        "volume_ml": pytest.approx(16.0),
        "reference_ml": pytest.approx(32.0),
        "volume_error_ml": pytest.approx(-16.0),
        "volume_abs_error_ml": pytest.approx(16.0),
    }
    assert list(scores) == list(Volume.names)


def test_an_absent_organ_has_no_volume_and_no_error() -> None:
    empty = np.zeros((2, 2, 2), bool)
    assert set(Volume()(empty, empty, (1.0, 1.0, 1.0)).values()) == {0.0}
