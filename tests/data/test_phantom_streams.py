"""The shipped streams: frozen bytes, and nothing that HU alone could solve."""

import numpy as np
import pytest
import yaml

from lifelong_ct.cli.conf import own_folder
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.phantom.threshold import best_interval, interval_dice
from lifelong_ct.data.types import RawCase


def hospitals(stream):
    config = yaml.safe_load((own_folder() / "stream" / f"{stream}.yaml").read_text())
    for entry in config["hospitals"]:
        options = {**config["common"], **entry}
        del options["sharing"]
        yield open_layout(options)


@pytest.mark.parametrize("stream", ["phantom", "phantom_stress"])
def test_one_hu_interval_per_organ_stays_below_half(stream):
    for layout in hospitals(stream):
        cases = list(layout.cases())
        train, test = ([layout.load(c) for c in cases if c.split == split] for split in ("train", "test"))
        assert np.mean(list(interval_dice(train, test).values())) < 0.5


def test_the_best_interval_by_hand():
    image = np.array([[[0, 10, 50, 55, 60, 100]]], np.int16)
    case = RawCase(image, np.array([[[0, 0, 1, 1, 1, 0]]], np.uint8), np.eye(4), ("liver",))
    low, high = best_interval([case], "liver")
    assert 10 < low <= 50
    assert 60 < high <= 100
    assert interval_dice([case], [case]) == {"liver": 1.0}


@pytest.mark.parametrize("stream", ["phantom", "phantom_stress"])
def test_every_annotated_organ_is_seen_in_every_case(stream):
    for layout in hospitals(stream):
        for case in layout.cases():
            label = layout.load(case).label
            assert np.bincount(label.ravel(), minlength=1 + len(case.organs)).min() > 40
