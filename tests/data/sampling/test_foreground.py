"""Annotated voxels with equal right: over real volumes every voxel of them is counted."""

import numpy as np
import pytest
from drawn import Described, drawn, sampler, sigmas
from scipy.stats import chi2

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.sampling.foreground import Foreground
from lifelong_ct.data.sampling.policy import resolve
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.types import RawCase


def stored(root, label, organs, overlaps=()):
    store = VolumeStore(root, Ledger(), 1 << 20)
    image = np.zeros(label.shape, np.int16)
    volume = store.put("aa", RawCase(image, label, np.eye(4), organs, overlaps))
    store.close()
    return volume


def hits(volume, draws, foreground=1.0):
    """How often each voxel was the centre."""
    rng, policy = np.random.default_rng(3), Foreground(foreground)
    counts = np.zeros(volume.shape, int)
    for _ in range(draws):
        counts[resolve(volume, policy.centre(volume, rng))] += 1
    return counts


@pytest.mark.parametrize("overlap", [False, True])
def test_every_annotated_voxel_is_drawn_as_often(tmp_path, overlap):
    """A tumour of 3 voxels that lies half in the liver: those that are both have no double right."""
    label = np.zeros((4, 6, 5), np.uint8)
    label[0, :5, :2] = 1  # ten of the first organ alone
    label[2, 0, :2] = 2  # two of the second alone
    label[3, 0, 0] = 3 if overlap else 1
    overlaps = ((0, 1),) if overlap else ()
    volume = stored(tmp_path, label, ("liver", "liver_tumour"), overlaps)
    n = 13 * 400
    counts = hits(volume, n)
    assert counts[label == 0].sum() == 0
    statistic = ((counts[label > 0] - 400) ** 2 / 400).sum()
    low, high = chi2.ppf([0.0005, 0.9995], 12)
    assert low < statistic < high


def test_an_organ_with_more_voxels_than_positions_keeps_its_share(tmp_path):
    label = np.zeros((32, 32, 12), np.uint8)
    label[:, :, :9] = 1
    label[:, :2, 11] = 2
    volume = stored(tmp_path, label, ("liver", "spleen"))
    assert [volume.count(organ) for organ in volume.organs] == [bricks.POSITIONS, 64]
    assert volume.voxels == {"liver": 32 * 32 * 9, "spleen": 64}
    n = 20_000
    counts = hits(volume, n)
    share = 64 / (64 + 32 * 32 * 9)
    assert sigmas(counts[label == 2].sum(), n, share) < 4
    assert counts[label == 0].sum() == 0


@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_the_others_lie_anywhere(foreground):
    made = sampler([Described(liver=[[50, 40, 30]])], policy=Foreground(foreground))
    n = 2000
    centred = sum(start == (45, 35, 25) for _, start in drawn(made, n))
    assert centred == 0 if foreground == 0 else sigmas(centred, n, foreground) < 4


def test_without_an_annotated_voxel_every_patch_lies_anywhere():
    for volume in (Described(), Described(liver=[])):
        starts = {start for _, start in drawn(sampler([volume], policy=Foreground(1.0)), 50)}
        assert len(starts) > 40


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(LifelongCTError):
        Foreground(-0.1)
