"""nnU-Net's augmentation on the CPU: ours in batches beside MONAI's transforms and nnU-Net's own, sample by sample.

python -m benchmarks.augmentation [--patch 96] [--batch 2] [--batches 12] [--rounds 7]

CPU time per patch of one channel, one thread. Each round augments the same number of batches in each way, in an order that
turns round after it; a way's seeds are the same in no two rounds. MONAI has no rotation and scaling with probabilities of their
own in one resampling: it does both where nnU-Net does either.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import monai.transforms as mt
import numpy as np
import torch
from torch import Tensor

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.training.augmentation import PerSample

Way = Callable[[Tensor, Tensor, int], object]
BOTH, IMAGE = ["image", "label"], ["image"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--batches", type=int, default=12, help="per round")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ways = {"ours": ours(), "MONAI": PerSample(of_monai())} | of_nnunet(chosen.patch)
    times = measured(ways, chosen)
    own = statistics.median(times["ours"])
    print(
        f"load {os.getloadavg()[0]:.1f}\n\n| way | CPU ms per patch | lowest to highest | × ours |\n|---|---|---|---|"
    )
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.1f} | {min(found):.1f} to {max(found):.1f} | {middle / own:.2f} |")


def measured(ways: dict[str, Way], chosen: argparse.Namespace) -> dict[str, list[float]]:
    """CPU ms per patch in each round."""
    rng = torch.Generator().manual_seed(0)
    shape = (chosen.batch, 1, *[chosen.patch] * 3)
    x = torch.randint(-300, 400, shape, generator=rng, dtype=torch.int16)
    y = torch.randint(0, 10, shape, generator=rng, dtype=torch.uint8)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, chosen.rounds):  # the first warms up
        order = list(ways)[:: 1 if turn % 2 else -1]
        for name in order:
            begin = time.process_time()
            for i in range(chosen.batches):
                ways[name](x, y, 1000 * (turn + 1) + i)
            if turn >= 0:
                times[name].append(1e3 * (time.process_time() - begin) / (chosen.batches * chosen.batch))
    return times


def ours() -> Way:
    """`augment=nnunet`."""
    values = compose.plain(compose.compose(compose.Request(["augment=nnunet"])))
    made: Way = build(values["trainer"]["augment"], "trainer.augment")
    return made


def of_monai(window: Sequence[float] = (-175.0, 250.0)) -> list[object]:
    """The same set by MONAI's transforms of dictionaries, for one channel."""
    turns, factors = [math.pi / 6] * 3, [(-0.3, 0.4)] * 3
    gamma = {"keys": IMAGE, "gamma": (0.7, 1.5), "retain_stats": True}
    return [
        mt.ScaleIntensityRanged(IMAGE, *window, *window, clip=True),
        mt.RandAffined(
            BOTH,
            prob=0.36,
            rotate_range=turns,
            scale_range=factors,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        mt.RandGaussianNoised(IMAGE, 0.1, std=12.0),
        mt.RandGaussianSmoothd(IMAGE, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
        mt.RandScaleIntensityd(IMAGE, 0.25, prob=0.15),
        mt.RandScaleIntensityFixedMeand(IMAGE, factors=0.25, preserve_range=True, prob=0.15),
        mt.RandSimulateLowResolutiond(IMAGE, prob=0.125, zoom_range=(0.5, 1.0)),
        mt.RandAdjustContrastd(prob=0.1, invert_image=True, **gamma),
        mt.RandAdjustContrastd(prob=0.3, **gamma),
        mt.RandFlipd(BOTH, 0.5, spatial_axis=1),
        mt.RandFlipd(BOTH, 0.5, spatial_axis=2),
    ]


def of_nnunet(patch: int) -> dict[str, Way]:
    """nnU-Net's own, where it is installed."""
    try:
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    except ImportError:
        return {}
    angle = math.pi / 6
    steps = nnUNetTrainer.get_training_transforms((patch,) * 3, (-angle, angle), None, (1, 2), False)

    def way(x: Tensor, y: Tensor, seed: int) -> list[object]:
        np.random.seed(seed)  # noqa: NPY002 - it draws from the global generators
        torch.manual_seed(seed)
        pairs = zip(x.float().clamp(-175, 250), y.to(torch.int16), strict=True)
        return [steps(image=(image - 37.5) / 123, segmentation=codes) for image, codes in pairs]

    return {"nnU-Net v2": way}


if __name__ == "__main__":
    main()
