"""The shipped streams: frozen bytes, and nothing that HU alone could solve."""

import numpy as np
import pytest
import xxhash
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


@pytest.mark.parametrize("stream", ["phantom", "phantom_stress", "modality"])
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


@pytest.mark.parametrize("stream", ["phantom", "phantom_stress", "modality"])
def test_every_annotated_organ_is_seen_in_every_case(stream):
    for layout in hospitals(stream):
        for case in layout.cases():
            label = layout.load(case).label
            assert np.bincount(label.ravel(), minlength=1 + len(case.organs)).min() > 40


FROZEN = {
    "phantom/harbour": "28d6d5fafebfc9b0",
    "phantom/trauma_centre": "d245e67761342540",
    "phantom/stone_clinic": "c866fb88ca111344",
    "phantom/obesity_clinic": "8dfbd2783a68049c",
    "phantom/liver_unit": "93c6386df9018cba",
    "phantom/oncology": "666d1db64773048a",
    "phantom_stress/usual": "bd8950c7e9809ba5",
    "phantom_stress/permuted": "7cadc7a865efa885",
    "phantom_stress/inverted": "c890c43e59d1113b",
}


@pytest.mark.parametrize("hospital", sorted(FROZEN))
def test_the_patients_are_those_of_the_published_tables(hospital):
    """A change here makes every table of `experiments/` another one: run them all again."""
    stream, name = hospital.split("/")
    layout = next(layout for layout in hospitals(stream) if layout.hospital == name)
    cases = list(layout.cases())
    assert digest(layout.load(cases[0]), layout.load(cases[-1])) == FROZEN[hospital]


def digest(*cases):
    whole = xxhash.xxh3_64()
    for case in cases:
        for array in (case.image, case.label, case.affine):
            whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
