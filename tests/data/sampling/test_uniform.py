"""Centres anywhere."""

import numpy as np
from drawn import Described, drawn, sampler, sigmas

from lifelong_ct.data.sampling.uniform import Uniform


def test_every_voxel_has_equal_right_whatever_is_annotated():
    volume = Described(shape=(40, 100, 100), liver=[[20, 50, 50]] * 9)
    starts = np.array([start for _, start in drawn(sampler([volume], policy=Uniform()), 4000)])
    inner = ((starts[:, 0] > 0) & (starts[:, 0] < 30)).sum()
    assert sigmas(inner, 4000, 29 / 40) < 4  # centres 6 … 34 of 0 … 39; the others are at the border
    assert sigmas((starts[:, 1] < 45).sum(), 4000, 0.5) < 4
    assert (starts == (15, 45, 45)).all(1).sum() < 3
