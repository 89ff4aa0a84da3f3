"""Scores of a model that is a threshold, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hospitals import stream
from torch import nn

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.identity import Identity
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.training import scoring
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.planner import evaluation_bytes
from lifelong_ct.training.scoring import Scorer

SHAPE = (8, 10, 12)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


class Threshold(nn.Module):
    """Channel 1 from 100 HU, channel 2 from 300 HU."""

    def __init__(self):
        super().__init__()
        self.cuts = nn.Parameter(torch.tensor([100.0, 300.0]))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        steps = [(x.float() - cut) for cut in self.cuts]
        return torch.cat([torch.zeros_like(steps[0]), steps[0], steps[0] + 2 * steps[1]], dim=1)


def box(d, h, w):
    return np.s_[d[0] : d[1], h[0] : h[1], w[0] : w[1]]


def scan(organs, true, bright, shape=SHAPE):
    """`true`: boxes of the organs; `bright`: (HU, box) in the image."""
    image, label = np.full(shape, -50, np.int16), np.zeros(shape, np.uint8)
    for value, where in enumerate(true, start=1):
        if where is not None:
            label[where] = value
    for hu, where in bright:
        image[where] = hu
    return RawCase(image, label, AFFINE, organs)


def scorer(tmp_path, raws, spacing=None, ledger=None, overlap=0.25, **more):
    made = stream({"name": "h", "test": [8] * len(raws)})
    made.label_space.see(["liver", "spleen"])
    by_id = {case.id: raw for case, raw in zip(made.hospitals[0].test, raws, strict=True)}
    return made.hospitals, Scorer(
        EvaluationOptions([Dice()], roi=(6, 6, 6), overlap=overlap),
        spacing=spacing,
        label_space=made.label_space,
        native=lambda hospital, case: by_id[case.id],
        identity=Identity(tmp_path),
        ledger=ledger or Ledger(),
        device=torch.device("cpu"),
        **more,
    )


def values(rows):
    return {row.organ: row.value for row in rows}


LIVER, SHIFTED, SPLEEN = (
    box((0, 4), (0, 4), (0, 4)),
    box((1, 5), (0, 4), (0, 4)),
    box((6, 8), (6, 10), (6, 10)),
)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_dice_by_hand(tmp_path, overlap):
    raw = scan(("liver", "spleen"), [LIVER, SPLEEN], [(200, SHIFTED), (400, box((7, 8), (6, 10), (6, 10)))])
    hospitals, made = scorer(tmp_path, [raw], overlap=overlap)
    found = values(made.score(Threshold(), 1, hospitals))
    assert found["liver"] == pytest.approx(2 * 48 / (64 + 64))
    assert found["spleen"] == pytest.approx(2 * 16 / (16 + 32))


def test_absent_in_truth_and_prediction(tmp_path):
    neither = scan(("liver", "spleen"), [LIVER, None], [(200, LIVER)])
    predicted = scan(("liver", "spleen"), [LIVER, None], [(200, LIVER), (400, SPLEEN)])
    missed = scan(("liver", "spleen"), [LIVER, SPLEEN], [(200, LIVER)])
    unannotated = scan(("liver",), [LIVER], [(200, LIVER), (400, SPLEEN)])
    hospitals, made = scorer(tmp_path, [neither, predicted, missed, unannotated])
    rows = made.score(Threshold(), 0, hospitals)
    assert [(row.organ, row.value) for row in rows] == [
        ("liver", 1.0), ("spleen", None),
        ("liver", 1.0), ("spleen", 0.0),
        ("liver", 1.0), ("spleen", 0.0),
        ("liver", 1.0),
    ]  # fmt: skip


def test_labels_follow_the_order_of_the_case_and_not_of_the_head(tmp_path):
    raw = scan(("spleen", "liver"), [SPLEEN, LIVER], [(200, LIVER), (400, SPLEEN)])
    hospitals, made = scorer(tmp_path, [raw])
    assert values(made.score(Threshold(), 1, hospitals)) == {"spleen": 1.0, "liver": 1.0}


def test_an_organ_without_a_channel_scores_as_missed(tmp_path):
    hospitals, made = scorer(tmp_path, [scan(("liver", "spleen"), [LIVER, SPLEEN], [(200, LIVER)])])
    made.label_space.channels = ["liver"]
    assert values(made.score(Threshold(), 1, hospitals)) == {"liver": 1.0, "spleen": 0.0}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 4.0, 4.0), (2.0, 4.0, 1.0)])
def test_a_prediction_on_another_spacing_is_scored_on_the_cases_own(tmp_path, spacing):
    even = box((2, 6), (2, 8), (4, 8))
    # 280 HU above 0: a corner of the box stays above the threshold of 100, its neighbours below it
    bright = [(0, box((0, 8), (0, 10), (0, 12))), (280, even)]
    hospitals, made = scorer(tmp_path, [scan(("liver",), [even], bright)], spacing)
    assert values(made.score(Threshold(), 1, hospitals)) == {"liver": 1.0}


def test_the_model_sees_the_spacing_that_it_was_trained_on(tmp_path):
    stripes = np.s_[::2]
    raw = scan(("liver",), [stripes], [(0, np.s_[:]), (280, stripes)])
    hospitals, made = scorer(tmp_path, [raw], (4.0, 2.0, 2.0))
    # the mean of two planes is 140 HU, so all eight planes are predicted where four are true
    assert values(made.score(Threshold(), 1, hospitals))["liver"] == pytest.approx(2 * 4 / (4 + 8))


def test_a_scan_may_be_smaller_than_the_window(tmp_path):
    raw = scan(("liver",), [box((0, 2), (0, 3), (0, 2))], [(200, box((0, 1), (0, 3), (0, 2)))], (3, 4, 5))
    hospitals, made = scorer(tmp_path, [raw])
    assert values(made.score(Threshold(), 1, hospitals))["liver"] == pytest.approx(2 * 6 / (6 + 12))


def test_rows_show_pseudonyms_only(tmp_path):
    raws = [scan(("liver",), [LIVER], [(200, LIVER)])] * 2
    hospitals, made = scorer(tmp_path, raws)
    rows = made.score(Threshold(), 3, hospitals)
    one, two = (Identity(tmp_path).pseudonym("h", case.id) for case in hospitals[0].test)
    assert rows == [
        EvaluationRow(3, "h", one, "liver", "dice", 1.0),
        EvaluationRow(3, "h", two, "liver", "dice", 1.0),
    ]
    patients = [Identity(tmp_path).of_patient("h", case.patient) for case in hospitals[0].test]
    assert [r.patient for r in rows] == patients
    assert {r.label_kind for r in rows} == {case.label_kind for case in hospitals[0].test}
    for case in hospitals[0].test:
        assert case.id not in repr(rows)
        assert case.patient not in repr(rows)


def test_the_memory_of_a_case_is_asked_for_and_given_back(tmp_path):
    raw = scan(("liver",), [LIVER], [(200, LIVER)])
    # Windows begin at 0, 2 | 0, 4 | 0, 4, 6. After the first ones of the last axis, the longest, its planes 4 to 6 are
    # held. Those at 4 and 0 add planes 6 to 10 and complete what only they reach; those at 6 and 0 add 10 to 12: most.
    held = 2 * 10 * 8 + 4 * 6 * 8 - 2 * 4 * 8 + 2 * 6 * 8
    voxels = 8 * 10 * 12
    need = held * 3 * 4 + voxels * 2 * (2 + 1) + 6**3 * 4 * (1 + 3)  # image and labels, twice; a window
    ledger = Ledger({"ram": need})
    hospitals, made = scorer(tmp_path, [raw, raw], ledger=ledger)
    made.score(Threshold(), 1, hospitals)
    assert ledger.peak("ram") == need
    assert ledger.held("ram") == 0
    hospitals, made = scorer(tmp_path, [raw], ledger=Ledger({"ram": need - 1}))
    with pytest.raises(LimitExceeded, match="evaluation of a case"):
        made.score(Threshold(), 1, hospitals)


def test_an_oblique_scan_is_set_upright_once_its_memory_is_there(tmp_path, monkeypatch):
    """8 × 10 voxels turned by 45° reach 18 / √2 = 12.7 voxels along either axis; `EvaluationOptions.roi` is 6."""
    c = 2 / np.sqrt(2)
    oblique = np.array([[c, -c, 0, 0], [c, c, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    raw = replace(scan(("liver",), [LIVER], [(200, LIVER)]), affine=oblique)
    ledger = Ledger()
    hospitals, made = scorer(tmp_path, [raw], ledger=ledger)
    made.score(Threshold(), 1, hospitals)
    need = evaluation_bytes((13, 13, 12), SHAPE, 1, 3, made.options)
    assert ledger.peak("ram") == need
    monkeypatch.setattr(scoring, "to_model", lambda *args: pytest.fail("made before it was asked for"))
    hospitals, made = scorer(tmp_path, [raw], ledger=Ledger({"ram": need - 1}))
    with pytest.raises(LimitExceeded, match="evaluation of a case"):
        made.score(Threshold(), 1, hospitals)


def test_progress_is_told_and_the_model_goes_on_training(tmp_path):
    told = []
    raws = [scan(("liver",), [LIVER], [])] * 3
    hospitals, made = scorer(tmp_path, raws, progress=lambda *args: told.append(args))
    model = Threshold().train()
    made.score(model, 1, hospitals)
    assert told == [("evaluating", i, 3) for i in (1, 2, 3)]
    assert model.training
    assert not any(model.modes)


def test_the_memory_of_several_channels_is_one_image_each_and_the_same_logits(tmp_path):
    raw = scan(("liver",), [LIVER], [(200, LIVER)])
    both = replace(raw, image=np.stack([raw.image, raw.image]))
    voxels = 8 * 10 * 12
    ledger = Ledger()
    hospitals, made = scorer(tmp_path, [both], ledger=ledger)
    rows = made.score(FirstChannel(), 1, hospitals)
    held = 2 * 10 * 8 + 4 * 6 * 8 - 2 * 4 * 8 + 2 * 6 * 8  # as above
    assert ledger.peak("ram") == held * 3 * 4 + voxels * 2 * (2 * 2 + 1) + 6**3 * 4 * (2 + 3)
    assert values(rows) == {"liver": 1.0}


class FirstChannel(Threshold):
    def forward(self, x):
        assert x.shape[1] == 2
        return super().forward(x[:, :1])


def test_mirrored_windows_are_scored_with_the_sides_swapped(tmp_path):
    """A kidney is on the side on which it lies: a model that sees where knows which."""
    raw = scan(
        ("kidney_left", "kidney_right"), [box((0, 2), (0, 4), (0, 4)), box((6, 8), (0, 4), (0, 4))], []
    )
    raw.image[raw.label > 0] = 200
    hospitals, space = stream({"name": "h", "test": [8]}).hospitals, LabelSpace(raw.organs)
    space.see(raw.organs)
    found = Scorer(
        EvaluationOptions([Dice()], roi=SHAPE, mirror=[0, 1]),
        spacing=None,
        label_space=space,
        native=lambda hospital, case: raw,
        identity=Identity(tmp_path),
        ledger=Ledger(),
        device=torch.device("cpu"),
    )
    model = Sided()
    assert values(found.score(model, 1, hospitals)) == {"kidney_left": 1.0, "kidney_right": 1.0}
    assert model.passes == 4
    space.channels = ["kidney_left"]
    with pytest.raises(LifelongCTError, match="kidney_right, has no channel"):
        found.score(model, 1, hospitals)


class Sided(nn.Module):
    """Bright voxels are the left kidney in the lower half of the first axis, the right one above it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        bright, right = x > 100, torch.arange(x.shape[2])[:, None, None] >= x.shape[2] / 2
        return torch.cat([~bright, bright & ~right, bright & right], 1) * self.weight
