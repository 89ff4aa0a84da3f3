"""Depths of solids against geometry."""

import numpy as np
import pytest

from lifelong_ct.data.phantom.shapes import Ellipsoid, Tube, Union, rotation


def depth(solid, *point):
    return float(solid.depth(*(np.array([float(p)]) for p in point))[0])


def test_ball():
    ball = Ellipsoid((1.0, 2.0, 3.0), (10.0, 10.0, 10.0), np.eye(3))
    assert depth(ball, 1, 2, 3) == pytest.approx(10)
    assert depth(ball, 1, 8, 3) == pytest.approx(4)
    assert depth(ball, 13, 2, 3) == pytest.approx(-2)


def test_ellipsoid_volume_by_counting():
    solid = Ellipsoid((0.0, 0.0, 0.0), (30.0, 20.0, 10.0), rotation(20, 30, 40))
    axes = np.arange(-40, 40.5, 1.0)
    inside = solid.depth(*np.meshgrid(axes, axes, axes, indexing="ij")) > 0
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * 30 * 20 * 10, rel=0.01)


def test_rotation_about_z_turns_right_to_front():
    assert rotation(0, 0, 90) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert rotation(90, 0, 0) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert rotation(0, 90, 0) @ [0, 0, 1] == pytest.approx([1, 0, 0])
    turned = Ellipsoid((0.0, 0.0, 0.0), (30.0, 5.0, 5.0), rotation(0, 0, 90))
    assert depth(turned, 0, 20, 0) > 0 > depth(turned, 20, 0, 0)


def test_tube_is_a_cylinder_with_round_ends_and_a_sloping_radius():
    tube = Tube([(0.0, 0.0, 0.0), (0.0, 0.0, 100.0)], [10.0, 20.0])
    assert depth(tube, 0, 0, 50) == pytest.approx(15)
    assert depth(tube, 12, 0, 50) == pytest.approx(3)
    assert depth(tube, 0, 0, -14) == pytest.approx(-4)


def test_union_is_the_deeper_and_bounds_hold_everything():
    a = Ellipsoid((0.0, 0.0, 0.0), (10.0, 10.0, 10.0), np.eye(3), (0.1, 0, 0, 0.1, 0, 0))
    both = Union([a, Tube([(30.0, 0.0, 0.0), (40.0, 0.0, 0.0)], [5.0, 5.0])])
    assert depth(both, 35, 0, 0) == pytest.approx(5)
    low, high = both.bounds()
    axes = [np.arange(lo - 8, hi + 8) for lo, hi in zip(low, high)]
    points = np.meshgrid(*axes, indexing="ij")
    inside = both.depth(*points) > 0
    for p, lo, hi in zip(points, low, high):
        assert lo <= p[inside].min()
        assert p[inside].max() <= hi
