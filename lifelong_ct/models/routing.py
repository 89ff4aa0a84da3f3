"""A router: which of the hospitals learnt so far does a case resemble?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError

TILE = 32
"""Edge of the tiles that a case is described by, about, in voxels."""
_SHRINK = 1e-3


class Router(nn.Module):
    """The nearest hospital in the Mahalanobis distance, decided per case.

    Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks", NeurIPS
    2018 (arXiv 1807.03888), eq. 1-2: classes are Gaussians with means μ_c and one covariance Σ, and
    M(x) = min_c (f(x) - μ_c)ᵀ Σ⁻¹ (f(x) - μ_c). Here a class is a hospital, f(x) the mean and the log of the standard
    deviation of each channel of a frozen convolution over a tile of the case, and a case counts by the mean over its
    tiles; such statistics of features tell domains apart (Li et al., arXiv 1603.04779). Σ, of the tiles around the mean
    of their hospital, is the mean over hospitals, with a thousandth of its mean variance on the diagonal.

    What is kept of a hospital is its mean and its share in Σ: aggregates over all tiles of its training cases, no
    voxels. They are features all the same: who forbids even these is left out (`Learnt.routed`). Bytes: 8 (n d + d²)
    for n hospitals and d features.

    Args:
        features: d, twice the channels of the convolution.
        known: hospitals at the start, for a state to be loaded into.
    """

    def __init__(self, features: int, known: int = 0) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(known, features, dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(features, features, dtype=torch.float64))

    @property
    def known(self) -> int:
        """Hospitals so far."""
        return self.mean.shape[0]

    @torch.no_grad()
    def learn(self, described: Tensor) -> None:
        """Adds a hospital by the features `[tiles, d]` of its cases."""
        rows = described.to(self.mean)
        mean = rows.mean(0, keepdim=True)
        spread = (rows - mean).T @ (rows - mean) / len(rows)
        self.spread = (self.spread * self.known + spread) / (self.known + 1)
        self.mean = torch.cat([self.mean, mean])

    @torch.no_grad()
    def distances(self, described: Tensor) -> list[float]:
        """Of a case `[tiles, d]` to every hospital, in their order."""
        away = self.mean - described.to(self.mean).mean(0)
        ridge = _SHRINK * self.spread.diagonal().mean().clamp(min=1e-12)
        covariance = self.spread + ridge * torch.eye(len(self.spread)).to(self.spread)
        return (away * torch.linalg.solve(covariance, away.T).T).sum(1).tolist()


def described(features: Tensor) -> Tensor:
    """Mean and log standard deviation of each channel: `[B,F,d,h,w]` → float64 `[B, 2F]`."""
    flat = features.double().flatten(2)
    return torch.cat([flat.mean(2), 0.5 * (flat.var(2, correction=0) + 1e-6).log()], 1)


def tiles(shape: Sequence[int], edge: int = TILE) -> Iterator[tuple[slice, ...]]:
    """Boxes of about equal size that cover a volume `(D, H, W)`, each voxel once."""
    for spans in product(*(list(pairwise(_cuts(n, edge))) for n in shape)):
        yield tuple(slice(a, b) for a, b in spans)


def _cuts(n: int, edge: int) -> list[int]:
    count = max(1, round(n / edge))
    return [n * i // count for i in range(count + 1)]


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv3d]:
    """Name and module of the convolution that sees the image first.

    Raises:
        LifelongCTError: the network has none.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d):
            return name, module
    raise LifelongCTError(
        "the network has no 3D convolution that a router could see with", "model", "use another network"
    )


def stacked(rows: Iterable[Tensor]) -> Tensor:
    """Rows `[1, d]` → `[n, d]`."""
    return torch.cat(list(rows))
