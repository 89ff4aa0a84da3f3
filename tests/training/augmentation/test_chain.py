"""nnU-Net's set as it is configured."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.augmentation import Chain, Noise

ALWAYS = [
    f"trainer.augment.transforms.{name}.p=1"
    for name in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
]


def chain(*overrides: str) -> Chain:
    values = compose.plain(compose.compose(compose.Request(["augment=nnunet", *overrides])))
    made = build(values["trainer"]["augment"], "trainer.augment")
    assert isinstance(made, Chain)
    return made


def batch(samples: int, edge: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-900, 900, (samples, 2, edge, edge, edge), generator=rng, dtype=torch.int16)
    return x, torch.randint(0, 4, (samples, 1, edge, edge, edge), generator=rng, dtype=torch.uint8)


def test_a_batch_is_what_its_samples_are_alone() -> None:
    made, (x, y) = chain(*ALWAYS, "trainer.augment.transforms.spatial.p_elastic=0.5"), batch(6)
    drawn = [made.draw(7, i, x.shape[1:]) for i in range(6)]
    together = made.apply(x, y, drawn)
    assert sum(d["spatial"] is not None for d in drawn) in range(1, 6)
    for i in range(6):
        alone = made.apply(x[i : i + 1], y[i : i + 1], drawn[i : i + 1])
        assert torch.allclose(together[0][i], alone[0][0], atol=0.01)
        assert torch.equal(together[1][i], alone[1][0])


def test_it_depends_on_the_seed_only_and_leaves_the_batch_as_it_was() -> None:
    made, (x, y) = chain(*ALWAYS), batch(3)
    kept = x.clone(), y.clone()
    first = made(x, y, 1)
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(first, made(x, y, 1)))
    assert not torch.equal(first[0], made(x, y, 2)[0])
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


def test_more_samples_behind_change_nothing_before_them() -> None:
    made, (x, y) = chain(), batch(5)
    assert all(torch.equal(a[:2], b) for a, b in zip(made(x, y, 4), made(x[:2], y[:2], 4)))


def test_samples_differ() -> None:
    x, y = batch(1)
    out, _ = chain()(x.expand(40, -1, -1, -1, -1), y.expand(40, -1, -1, -1, -1), 0)
    unchanged = sum(torch.equal(each, x[0].float().clamp(-175, 250)) for each in out)
    # nothing at all, two channels: neither turned nor scaled, no noise, no blur, … and not mirrored along two axes
    p = 0.8 * 0.8 * 0.9 * (1 - 0.2 * 0.75) * 0.85 * 0.85 * (1 - 0.25 * 0.75) * 0.9 * 0.7 * 0.25
    assert stats.binomtest(unchanged, 40, p).pvalue > 1e-3
    assert len({each.numpy().tobytes() for each in out}) > 25


def test_voxels_are_clipped_to_the_models_window_and_what_lies_outside_is_its_lower_end() -> None:
    made = chain("model.window=[-100,200]", "trainer.augment.transforms.spatial.p_scaling=1")
    assert made.window == (-100, 200)
    assert made.transforms["spatial"].fill == -100  # type: ignore[attr-defined]
    assert Chain({}, None)(*batch(1), 0)[0].max() > 800


def test_a_transform_is_left_out_by_null() -> None:
    assert "noise" not in chain("trainer.augment.transforms.noise=null").transforms


@pytest.mark.parametrize(
    ("transforms", "where"),
    [({"noise": "loud"}, "trainer.augment.transforms.noise"), ({"n": Noise(1, [0, 1])}, "trainer.augment")],
)
def test_what_is_no_transform_or_no_window_is_refused(transforms: dict[str, Any], where: str) -> None:
    with pytest.raises(LifelongCTError) as error:
        Chain(transforms, [250, -175])
    assert error.value.where in (where, "trainer.augment")
    with pytest.raises(LifelongCTError):
        Chain({"noise": "loud"})  # type: ignore[dict-item]


def test_the_default_and_none_are_what_they_were() -> None:
    def composed(*overrides: str) -> Any:
        return compose.plain(compose.compose(compose.Request(list(overrides))))["trainer"]["augment"]

    target = "lifelong_ct.training.augment.Augment"
    assert composed() == {"_target_": target, "noise": 10.0, "shift": 10.0, "scale": 0.05, "mirror": []}
    assert composed("trainer.augment.noise=3")["noise"] == 3
    assert composed("augment=none") is None


def test_its_distribution_is_nnunets() -> None:
    """Means, deviations and roughness of patches that went through either set without its turns, which need a larger
    patch there."""
    peer = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer
    theirs = peer.get_training_transforms((12, 12, 12), (0.0, 0.0), None, (1, 2), False)
    ours = chain(
        "trainer.augment.transforms.spatial=null",
        "trainer.augment.window=null",
        "trainer.augment.transforms.noise.std=[0,0.1]",
        "trainer.augment.transforms.brightness.level=0",
    )
    theirs.transforms = theirs.transforms[1:]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 12, 12, 12, generator=rng).cumsum(2) / 3
    y = torch.zeros(1, 1, 12, 12, 12, dtype=torch.uint8)
    np.random.seed(0)  # noqa: NPY002 - theirs draws from it
    torch.manual_seed(0)
    count = 600
    found = ours(x.expand(count, -1, -1, -1, -1), y.expand(count, -1, -1, -1, -1), 0)[0]
    wanted = [theirs(image=x[0].clone(), segmentation=y[0].to(torch.int16))["image"] for _ in range(count)]
    for told in (
        lambda v: v.mean(),
        lambda v: v.std(),
        lambda v: v.diff(dim=-1).abs().mean(),
        lambda v: v.max(),
        lambda v: v.min(),
    ):
        a, b = ([float(told(each)) for each in group] for group in (found, wanted))
        assert stats.ks_2samp(np.round(a, 5), np.round(b, 5)).pvalue > 1e-3
