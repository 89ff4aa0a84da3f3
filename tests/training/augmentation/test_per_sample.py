import torch

from lifelong_ct.cli.instantiate import build
from lifelong_ct.training.augmentation import PerSample


def test_transforms_of_monai_serve_from_the_configuration() -> None:
    flip = {
        "_target_": "monai.transforms.RandFlipd",
        "keys": ["image", "label"],
        "prob": 0.5,
        "spatial_axis": 1,
    }
    noise = {"_target_": "monai.transforms.RandGaussianNoised", "keys": ["image"], "prob": 1.0, "std": 5.0}
    target = "lifelong_ct.training.augmentation.PerSample"
    made = build({"_target_": target, "transforms": [flip, noise]}, "trainer.augment")
    assert isinstance(made, PerSample)
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-500, 500, (20, 1, 4, 5, 6), generator=rng, dtype=torch.int16)
    y = torch.randint(0, 256, x.shape, generator=rng, dtype=torch.uint8)
    out, codes = made(x, y, 3)
    assert type(out) is torch.Tensor
    assert codes.dtype == torch.uint8
    flipped = [torch.equal(codes[i], y[i].flip(2)) for i in range(20)]
    assert 4 < sum(flipped) < 16
    for i, turned in enumerate(flipped):
        assert turned or torch.equal(codes[i], y[i])
        assert 0 < (out[i] - (x[i].flip(2) if turned else x[i])).std() < 7
    again = made(x, y, 3)
    assert torch.equal(out, again[0])
    assert not torch.equal(out, made(x, y, 4)[0])
