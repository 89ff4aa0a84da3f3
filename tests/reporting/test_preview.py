"""The picture of a prediction: which planes, which way round, and no text but names of organs."""

import numpy as np
import pytest

from lifelong_ct.reporting.preview import preview


def labels() -> np.ndarray:
    found = np.zeros((20, 24, 16), np.uint8)
    found[4:9, 5:8, 3] = 1
    found[4, 6, 2:12] = 2
    return found


def test_the_planes_with_most_labels_are_shown() -> None:
    image = np.arange(20 * 24 * 16).reshape(20, 24, 16).astype(np.int16)
    figure = preview(image, labels(), ["liver", "spleen"], (1.0, 2.0, 4.0))
    axial, coronal, sagittal = figure.axes
    assert np.array_equal(axial.images[0].get_array(), image[:, :, 3].T)
    assert np.array_equal(coronal.images[0].get_array(), image[:, 6].T)
    assert np.array_equal(sagittal.images[0].get_array(), image[4].T)
    assert [place.get_aspect() for place in (axial, coronal, sagittal)] == [2.0, 4.0, 2.0]
    for place in (axial, coronal, sagittal):
        left, right = place.get_xlim()
        assert left > right  # the patient's right, and the front, on the left
        below, above = place.get_ylim()
        assert below < above
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()] + [
        place.get_title(loc="left") for place in figure.axes
    ]
    assert texts == ["liver", "spleen", "axial", "coronal", "sagittal"]


@pytest.mark.parametrize("shape", [(20, 24, 16), (2, 2, 2), (900, 3, 2)])
def test_nothing_found_shows_the_middle(shape: tuple[int, int, int]) -> None:
    image = np.zeros(shape, np.int16)
    image[:, :, shape[2] // 2] = 7
    figure = preview(image, np.zeros(shape, np.uint8), ["liver"], (1.0, 1.0, 1.0))
    assert (figure.axes[0].images[0].get_array() == 7).all()
    assert not figure.legends
