import numpy as np
import pytest
import torch
from by_hand import PADDING, sample_loss
from monai.losses import DiceCELoss
from torch._subclasses.fake_tensor import FakeTensorMode

from lifelong_ct.data.labels import IGNORE, LabelSpace, default_vocabulary
from lifelong_ct.losses.dice_ce import PartialDiceCE

ORGANS = ["liver", "spleen", "liver_tumor"]
WITHIN = {"liver_tumor": "liver"}
SHAPE = (3, 4, 2)


def logits(batch: int, channels: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(batch, channels, *SHAPE, generator=rng)).requires_grad_()


def drawn(annotated: list[str], seed: int, padding: int = 0) -> tuple[np.ndarray, list[str | None]]:
    """Random local ids of a case, and the same as names; the first voxels are padding."""
    local = np.random.default_rng(seed).integers(0, len(annotated) + 1, SHAPE)
    names: list[str | None] = [None, *annotated]
    labels = [names[i] for i in local.ravel()]
    labels[:padding] = [PADDING] * padding
    return local, labels


def coded(space: LabelSpace, annotated: list[str], local: np.ndarray, padding: int = 0) -> torch.Tensor:
    y = space.encode_lut(annotated)[local]
    y.ravel()[:padding] = IGNORE
    return torch.from_numpy(y)[None]


PROTOCOLS = {
    "everything": ["liver", "spleen", "liver_tumor"],
    "one organ": ["spleen"],
    "a tumour that may hide in the liver": ["liver", "spleen"],
    "a tumour without its organ": ["liver_tumor"],
    "nothing": [],
}


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("annotated", PROTOCOLS.values(), ids=PROTOCOLS)
def test_loss_and_gradient_are_those_of_the_definition(annotated: list[str], padding: int) -> None:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    local, labels = drawn(annotated, seed=3, padding=padding)
    y = coded(space, annotated, local, padding)
    ours, theirs = logits(1, 4), logits(1, 4)
    PartialDiceCE(space)(ours, y[None]).backward()
    expected = sample_loss(theirs[0].flatten(1), labels, annotated, space.channels, WITHIN)
    expected.backward()
    torch.testing.assert_close(PartialDiceCE(space)(ours, y[None]).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_every_sample_weighs_the_same_whatever_the_others_annotate() -> None:
    space = LabelSpace(ORGANS)
    space.see(ORGANS)
    drawings = {name: drawn(organs, seed) for seed, (name, organs) in enumerate(PROTOCOLS.items())}
    y = torch.stack([coded(space, PROTOCOLS[name], local) for name, (local, _) in drawings.items()])
    x = logits(len(y), 4)
    per_sample = [
        sample_loss(x[i].flatten(1), labels, PROTOCOLS[name], space.channels, WITHIN)
        for i, (name, (_, labels)) in enumerate(drawings.items())
    ]
    loss = PartialDiceCE(space)
    torch.testing.assert_close(loss.per_sample(x, y).double(), torch.stack(per_sample), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss(x, y).double(), torch.stack(per_sample).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("annotated", [[], ["liver"]])
def test_a_sample_without_information_gives_zero_with_a_gradient(annotated: list[str]) -> None:
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver", "spleen"])
    code = int(space.encode_lut(annotated)[0]) if not annotated else IGNORE
    x = logits(1, 3)
    loss = PartialDiceCE(space)(x, torch.full((1, 1, *SHAPE), code, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_monai_agrees_where_everything_is_annotated_and_shown() -> None:
    space = LabelSpace(["liver", "spleen"])
    lut = space.encode_lut(["liver", "spleen"])
    y = torch.from_numpy(lut[np.random.default_rng(0).integers(0, 3, (2, 1, *SHAPE))])
    x = logits(2, 3)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=0, smooth_dr=0)
    # MONAI's cross-entropy ignores `include_background=False`, as ours does
    torch.testing.assert_close(PartialDiceCE(space)(x, y), monai(x, y.long()), rtol=1e-5, atol=1e-6)


def test_weights_of_the_two_terms() -> None:
    space = LabelSpace(["liver"])
    y = torch.from_numpy(space.encode_lut(["liver"])[np.random.default_rng(0).integers(0, 2, (1, 1, *SHAPE))])
    x = logits(1, 2)
    both, ce = PartialDiceCE(space)(x, y), PartialDiceCE(space, dice_weight=0.0)(x, y)
    torch.testing.assert_close(ce, torch.nn.functional.cross_entropy(x, y[:, 0].long()))
    torch.testing.assert_close(PartialDiceCE(space, dice_weight=3.0, ce_weight=2.0)(x, y), 3 * both - ce)


def test_the_loss_follows_a_growing_label_space() -> None:
    space = LabelSpace(["liver", "spleen"])
    liver = torch.from_numpy(space.encode_lut(["liver"]))[:1].expand(1, 1, *SHAPE)
    loss = PartialDiceCE(space)
    alone = logits(1, 2)
    expected = torch.nn.functional.cross_entropy(alone, torch.zeros(1, *SHAPE, dtype=torch.long))
    torch.testing.assert_close(loss(alone, liver), expected)  # no other organ yet: it is background
    space.encode_lut(["spleen"])
    grown = logits(1, 3)
    torch.testing.assert_close(loss(grown, liver), -torch.log(1 - grown.softmax(1)[:, 1]).mean())


def test_wide_codes() -> None:
    space = LabelSpace(default_vocabulary().organs[:7])
    for mask in range(1, 127):  # 126 protocols: codes pass 255
        space.encode_lut([o for i, o in enumerate(space.organs) if mask >> i & 1])
    y = space.encode_lut(space.organs[1:])[np.zeros(SHAPE, int)]
    assert y.dtype == np.uint16
    x = logits(1, 8)
    expected = -torch.log(x.softmax(1)[:, :2].sum(1)).mean()
    torch.testing.assert_close(PartialDiceCE(space)(x, torch.from_numpy(y)[None, None]), expected)


def test_runs_without_data_and_leaves_nothing_fake_behind() -> None:
    space = LabelSpace(["liver", "spleen"])
    space.encode_lut(["liver"])
    loss = PartialDiceCE(space)
    y = torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)
    real = logits(1, 2)
    before = loss(real, y)
    with FakeTensorMode():
        fake = torch.randn(1, 2, *SHAPE, requires_grad=True)
        loss(fake, torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)).backward()
        assert fake.grad is not None
        assert fake.grad.shape == fake.shape
    assert torch.equal(loss(real, y), before)
    assert type(PartialDiceCE(space)(real, y)) is torch.Tensor
