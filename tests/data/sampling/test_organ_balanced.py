"""Organs with equal right, against binomial bounds."""

import numpy as np
import pytest
from drawn import Described, drawn, sampler, sigmas

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.sampling.organ_balanced import OrganBalanced


@pytest.mark.parametrize("foreground", [0.0, 0.33, 0.67, 1.0])
def test_the_share_of_foreground_is_as_stated(foreground):
    made = sampler([Described(liver=[[50, 40, 30]])], policy=OrganBalanced(foreground))
    n = 3000
    centred = sum(start == (45, 35, 25) for _, start in drawn(made, n))
    if foreground in (0.0, 1.0):
        assert abs(centred - foreground * n) <= 1  # a patch anywhere is this one once in 700,000
    else:
        assert sigmas(centred, n, foreground) < 4


def test_organs_have_equal_right_whatever_their_size():
    liver = np.argwhere(np.ones((20, 20, 5))) + 40
    volume = Described(liver=liver, spleen=[[80, 80, 80]], pancreas=[], voxels={"liver": 9, "spleen": 1})
    n = 3000
    starts = [start for _, start in drawn(sampler([volume], policy=OrganBalanced(1.0)), n)]
    spleen = sum(start == (75, 75, 75) for start in starts)
    assert sigmas(spleen, n, 1 / 2) < 4
    centres = np.array([s for s in starts if s != (75, 75, 75)]) + 5
    assert (centres >= 40).all()
    assert (centres < [60, 60, 45]).all()
    assert sigmas((centres[:, 0] < 50).sum(), len(centres), 1 / 2) < 4


def test_it_is_the_default_and_takes_the_share_of_the_sampler():
    volumes = [Described(str(i), liver=[[i, 20, 30]] * 3, spleen=[[9, 9, i]]) for i in range(3)]
    for share in (0.2, 0.9):
        named = sampler(volumes, policy=OrganBalanced(share))
        assert drawn(sampler(volumes, foreground=share), 60) == drawn(named, 60)


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(LifelongCTError):
        OrganBalanced(1.01)
