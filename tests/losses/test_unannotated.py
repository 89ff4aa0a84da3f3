"""What a voxel that nobody annotated teaches, by `loss.unannotated`."""

import pytest
import torch
from by_hand import PADDING, candidates, sample_loss
from test_dice_ce import ORGANS, SHAPE, WITHIN, coded, drawn, logits
from torch._subclasses.fake_tensor import FakeTensorMode

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.losses.dice_ce import UNANNOTATED, PartialDiceCE

PARTIAL = [["spleen"], ["liver", "spleen"], ["liver_tumor"], []]


def both(unannotated: str, labels: list[str | None], y: torch.Tensor, space: LabelSpace) -> None:
    """Value and gradient of ours and of the definition on labels that everybody annotated."""
    ours, theirs = logits(1, 4), logits(1, 4)
    found = PartialDiceCE(space, unannotated=unannotated)(ours, y[None])
    expected = sample_loss(theirs[0].flatten(1), labels, ORGANS, space.channels)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("annotated", PARTIAL, ids="-".join)
def test_background_is_the_loss_of_the_labels_as_they_stand(annotated: list[str]) -> None:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    local, labels = drawn(annotated, seed=1, padding=3)
    both("background", labels, coded(space, annotated, local, 3), space)


@pytest.mark.parametrize("annotated", PARTIAL, ids="-".join)
def test_ignore_is_the_loss_of_padding_wherever_an_organ_is_not_certain(annotated: list[str]) -> None:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    local, labels = drawn(annotated, seed=2)
    certain = [
        label if len(candidates(label, annotated, ORGANS, WITHIN)) == 1 else PADDING for label in labels
    ]
    both("ignore", certain, coded(space, annotated, local), space)


def test_two_voxels_by_hand() -> None:
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver", "spleen"])
    y = torch.from_numpy(space.encode_lut(["spleen"])).view(1, 1, 1, 1, 2)  # not annotated, spleen
    p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]]).T.reshape(1, 3, 1, 1, 2)
    ce = {mode: PartialDiceCE(space, 0.0, unannotated=mode)(p.log(), y).item() for mode in UNANNOTATED}
    spleen = -torch.tensor(0.6).log()
    assert ce["marginal"] == pytest.approx((-torch.tensor(0.7).log() + spleen).item() / 2)
    assert ce["background"] == pytest.approx((-torch.tensor(0.2).log() + spleen).item() / 2)
    assert ce["ignore"] == pytest.approx(spleen.item())


@pytest.mark.parametrize("mode", UNANNOTATED)
def test_every_mode_runs_without_data(mode: str) -> None:
    space = LabelSpace(["liver", "spleen"])
    space.encode_lut(["liver"])
    space.encode_lut(["spleen"])
    with FakeTensorMode():
        fake = torch.randn(1, 3, *SHAPE, requires_grad=True)
        PartialDiceCE(space, unannotated=mode)(fake, torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)).backward()
        assert fake.grad is not None


def test_another_word_is_refused() -> None:
    with pytest.raises(LifelongCTError, match=r"loss\.unannotated") as error:
        PartialDiceCE(LabelSpace(["liver"]), unannotated="masked")
    assert "background" in error.value.fix
