"""Shared slots: apart from each other, seen by both sides, gone with the last of them."""

import os

import numpy as np

from lifelong_ct.data.loading.ring import Ring

SHAPE = (3, 2, 5, 4, 3)


def test_what_one_side_writes_the_other_reads_and_slots_do_not_touch():
    ours = Ring.make(4, SHAPE, "uint16")
    theirs = Ring(os.dup(ours.handle), 4, SHAPE, "uint16")
    for number in range(4):
        written = theirs.slot(number, 3)
        written.x[...] = number + 1
        written.y[...] = 100 * (number + 1)
    for number in range(4):
        found = ours.slot(number, 3)
        assert (found.x.shape, found.y.shape) == (SHAPE, (3, 1, 5, 4, 3))
        assert (found.x.dtype, found.y.dtype) == (np.int16, np.uint16)
        assert (found.x == number + 1).all()
        assert (found.y == 100 * (number + 1)).all()
    assert len(ours.slot(2, 1).x) == 1
    del written, found
    theirs.close()
    ours.close()


def test_closing_leaves_no_handle_and_a_view_stays_whole():
    before = len(os.listdir("/proc/self/fd"))
    ring = Ring.make(2, SHAPE, "uint8")
    view = ring.slot(1, 3).x
    view[...] = 7
    ring.close()
    assert (view == 7).all()
    del view, ring
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_has_no_name_that_could_be_left_behind():
    ring = Ring.make(1, SHAPE, "uint8")
    target = os.readlink(f"/proc/self/fd/{ring.handle}")
    assert target.endswith("(deleted)")
    ring.close()
