"""Labels in the order of their file: canonical voxels of a map go back to the map itself."""

import itertools

import numpy as np
import pytest

from lifelong_ct.data.readers.turned import canonical
from lifelong_ct.data.segmentation_file import in_file_order
from lifelong_ct.data.types import RawCase

LABELS = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)


@pytest.mark.parametrize("axes", itertools.permutations(range(3)))
@pytest.mark.parametrize("extra", [(), (1,)])
def test_every_orientation_of_a_file(axes: tuple[int, ...], extra: tuple[int, ...]) -> None:
    for flips in itertools.product((1.5, -2.5), repeat=3):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[list(axes)] * np.array(flips)
        affine[:3, 3] = 3, -8, 20
        read = canonical(LABELS, affine, (*LABELS.shape, *extra))
        image = np.zeros(read.shape, np.int16)
        raw = RawCase(
            image,
            None,
            read.affine,
            (),
            original_affine=read.original_affine,
            original_shape=read.original_shape,
        )
        back = in_file_order(np.asarray(read.voxels), raw)
        assert back.shape == (*LABELS.shape, *extra)
        assert np.array_equal(back.reshape(LABELS.shape), LABELS)


def test_what_was_drawn_has_no_other_order() -> None:
    raw = RawCase(np.zeros(LABELS.shape, np.int16), None, np.eye(4), ())
    assert in_file_order(LABELS, raw) is LABELS
