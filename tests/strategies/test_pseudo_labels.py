from typing import Any

import numpy as np
import pytest
import torch
from test_partial_labels import two_hospitals
from test_plop import ONLY_SPLEEN, Spy
from tiny import World, context

from lifelong_ct.cli import compose
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, PROTOCOL_BASE, LabelSpace
from lifelong_ct.memory.selection.greedy_balanced import GreedyBalanced
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.gdumb import GDumb
from lifelong_ct.strategies.pseudo_labels import PseudoLabels
from lifelong_ct.strategies.replay import Replay


def bound(space: LabelSpace, **options: Any) -> PseudoLabels:
    plugin = PseudoLabels(**options)
    plugin.bind(context(space))
    return plugin


def voxels(*rows: list[float]) -> torch.Tensor:
    """Logits `[1,C,1,1,V]` of the probabilities of V voxels."""
    return torch.tensor(rows).T.reshape(1, len(rows[0]), 1, 1, len(rows)).log()


def codes(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, 1, 1, -1)


def test_voxels_by_hand() -> None:
    """The old model knows liver and spleen; today's annotators know spleen and stomach."""
    space = LabelSpace(["liver", "spleen", "stomach"])
    space.see(["liver", "spleen"])
    space.see(["stomach"])
    nothing, spleen, stomach = space.encode_lut(["spleen", "stomach"])
    y = codes(nothing, nothing, nothing, nothing, spleen, stomach, IGNORE)
    logits = voxels(
        [0.1, 0.8, 0.1],  # liver, and nobody says otherwise
        [0.8, 0.1, 0.1],  # background: everything is known then
        [0.4, 0.4, 0.2],  # not sure
        [0.1, 0.1, 0.8],  # spleen, but its annotators did not see one there
        [0.1, 0.8, 0.1],  # labelled
        [0.1, 0.8, 0.1],  # labelled
        [0.1, 0.8, 0.1],  # padding
    )
    found = bound(space, threshold=0.7).completed(y, logits, 1)
    assert found.flatten().tolist() == [1, 0, nothing, nothing, spleen, stomach, IGNORE]
    assert found.dtype == y.dtype
    lower = bound(space, threshold=0.5).completed(y, voxels(*[[0.2, 0.6, 0.2]] * 7), 1)
    assert lower.flatten().tolist() == [1, 1, 1, 1, spleen, stomach, IGNORE]


def test_a_tumour_stays_possible_in_a_liver_of_a_model_that_knows_none() -> None:
    space = LabelSpace(["liver", "spleen", "liver_tumor"])
    space.see(["liver"])
    space.see(["spleen", "liver_tumor"])
    y = codes(*[int(space.encode_lut(["spleen"])[0])] * 2)
    found = bound(space).completed(y, voxels([0.1, 0.9], [0.9, 0.1]), 1).flatten()
    allowed = [set(np.flatnonzero(row).tolist()) for row in space.candidates()[found]]
    assert allowed[0] == {1, 3}, "liver, or a tumour in it"
    assert allowed[1] == {0}, "no liver, so no tumour of it, and no spleen"


def test_a_labelled_liver_is_told_apart_from_its_tumour_and_from_nothing_else() -> None:
    space = LabelSpace(["liver", "liver_tumor"])
    space.see(["liver", "liver_tumor"])
    liver = int(space.encode_lut(["liver"])[1])
    found = bound(space).completed(
        codes(liver, liver, liver), voxels([0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0]), 1
    )
    assert found.flatten().tolist() == [2, 1, liver]


def test_codes_widen_when_the_ids_run_out() -> None:
    space = LabelSpace(["liver", "spleen", *(f"vertebrae_T{i}" for i in range(1, 9))])
    space.see(["liver"])
    space.see(space.organs)
    some = [[o for i, o in enumerate(space.organs[1:]) if mask >> i & 1] for mask in range(1, 90)]
    first = [int(space.encode_lut(organs)[0]) for organs in some]
    y = codes(*(code for code in first if code < 256))
    found = bound(space).completed(y, voxels(*[[0.9, 0.1]] * y.numel()), 1)
    assert found.dtype == torch.uint16
    found = found.long()
    assert found.max() > 255
    told = space.candidates()[found.flatten()]
    expected = space.candidates()[y.flatten().long()] & ~np.eye(space.width, dtype=bool)[1]
    assert (told == expected).all(), "as before, without the liver"


@pytest.mark.parametrize("exemplar_labels", ["protocol", "pseudo"])
def test_exemplars_are_completed_by_config(exemplar_labels: str) -> None:
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver"])
    nothing = int(space.encode_lut(["spleen"])[0])
    y = codes(nothing, nothing).view(2, 1, 1, 1, 1)
    logits = voxels([0.1, 0.9]).expand(2, 2, 1, 1, 1)
    found = bound(space, exemplar_labels=exemplar_labels).completed(y, logits, 1)
    assert found.flatten().tolist() == [1, 1 if exemplar_labels == "pseudo" else nothing]


def test_exemplars_that_are_the_whole_batch_are_left_as_they_were_annotated() -> None:
    """GDumb trains on nothing else."""
    gdumb, spy = GDumb(GreedyBalanced()), Spy()
    plugins = (PseudoLabels(exemplar_labels="protocol"), gdumb, spy)
    world = World(*plugins, annotated=ONLY_SPLEEN, bind={"exemplar_bytes": 1 << 20})
    world.learn(0, steps=20)
    world.learn(1, steps=4)
    assert all(torch.equal(a, b) for a, b in zip(spy.before, spy.after, strict=True))


def test_a_hospital_without_the_liver_is_trained_with_the_old_model_s_liver() -> None:
    plugin, spy = PseudoLabels(threshold=0.6), Spy()
    world = two_hospitals(plugin, spy)
    world.learn(0, steps=200)
    teacher = plugin.teacher
    world.learn(1, steps=1)
    y, after = spy.before[-1][:, 0], spy.after[-1][:, 0]
    p = teacher(spy.x).softmax(1)
    open_ = y >= PROTOCOL_BASE
    liver, background = open_ & (p[:, 1] >= 0.6), open_ & (p[:, 0] >= 0.6)
    assert liver.any()
    assert background.any()
    assert (after[liver] == 1).all()
    assert (after[background] == 0).all()
    assert torch.equal(after[~(liver | background)], y[~(liver | background)])


def test_what_is_stored_is_what_the_hospital_annotated() -> None:
    replay, spy = Replay(Reservoir(), exemplars_per_batch=1), Spy()
    world = World(PseudoLabels(), replay, spy, annotated=ONLY_SPLEEN, bind={"exemplar_bytes": 1 << 20})
    world.learn(0, steps=20)
    world.learn(1, steps=4)
    assert len(spy.after[-1]) == 3, "two patches and an exemplar"
    assert any(not torch.equal(a, b) for a, b in zip(spy.before, spy.after, strict=True))
    stored = [parts["y"] for _, parts in replay.memory.held()]
    written = {int(code) for codes in stored for code in codes.unique()}
    assert written <= {*world.sources[0].luts[0].tolist(), *world.sources[1].luts[0].tolist()}


def test_replay_and_pseudo_labels_combine_from_their_own_yamls() -> None:
    def strategy(name: str) -> dict[str, Any]:
        config = compose.plain(compose.compose(compose.Request([f"strategy={name}"])))
        found: dict[str, Any] = config["strategy"]
        return found

    both = strategy("replay_pseudo")["plugins"]
    assert both == [*strategy("replay")["plugins"], *strategy("pseudo_labels")["plugins"]]


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.4}, {"threshold": 2}, {"threshold": True}, {"exemplar_labels": "none"}]
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifelongCTError, match=next(iter(wrong))):
        PseudoLabels(**wrong)
