"""Rotation, scaling and elastic deformation, in one resampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.data.loading.patches import PAD_HU
from lifelong_ct.training.augmentation.blur import gaussians
from lifelong_ct.training.augmentation.noise import normal
from lifelong_ct.training.augmentation.separable import mapped
from lifelong_ct.training.augmentation.transform import Drawn, Transform, bounds, number, thick_axis


class Spatial(Transform):
    """Looks voxel p of the patch up at A (p + u(p)) around its middle: trilinear in the image, nearest neighbour in the
    labels, so that no label is made up.

    A is a rotation by an angle of its own about each axis and one factor for all axes, in mm. Across slices more than
    three times as thick as the finest spacing it turns nothing and keeps their number, as nnU-Net's pseudo-2D does. u is
    Gaussian noise, smoothed, whose largest component along each axis is drawn. What lies outside the patch is filled with
    air and told as unknown (`IGNORE`): nnU-Net reads a larger patch for it, which here would be read for every sample.

    Args:
        rotation: degrees either way about each voxel axis; one number, or one per axis (0 left-right, 1
            anterior-posterior, 2 superior-inferior).
        p_rotation: probability.
        scaling: lowest and highest factor; above 1 makes things smaller.
        p_scaling: probability.
        p_elastic: probability.
        elastic_sigma: width of the smoothing in shares of the patch's edge, lowest and highest.
        elastic_magnitude: largest displacement in voxels, lowest and highest.
        fill: HU outside the patch; at least the window's lower end, where there is one.

    Raises:
        LifelongCTError: arguments that make no sense.
    """

    def __init__(
        self,
        rotation: float | Sequence[float] = 30.0,
        p_rotation: float = 0.2,
        scaling: Sequence[float] = (0.7, 1.4),
        p_scaling: float = 0.2,
        p_elastic: float = 0.0,
        elastic_sigma: Sequence[float] = (0.1, 0.25),
        elastic_magnitude: Sequence[float] = (0.0, 4.0),
        fill: float = PAD_HU,
    ) -> None:
        self.p_rotation, self.p_scaling = (
            number(p_rotation, "p_rotation", 0, 1),
            number(p_scaling, "p_scaling", 0, 1),
        )
        self.p_elastic = number(p_elastic, "p_elastic", 0, 1)
        super().__init__(1.0)
        self.rotation = _per_axis(rotation)
        self.scaling = bounds(scaling, "scaling", 0.1, 10)
        self.elastic_sigma = bounds(elastic_sigma, "elastic_sigma", 0.01, 1)
        self.elastic_magnitude = bounds(elastic_magnitude, "elastic_magnitude", 0)
        self.fill = number(fill, "fill", -32768, 32767)
        self._spacing: Sequence[float] = (1.0, 1.0, 1.0)

    def bind(
        self, space: LabelSpace, spacing: Sequence[float] | None, seen: Iterable[Sequence[str]] = ()
    ) -> None:
        self._spacing = spacing or (1.0, 1.0, 1.0)

    def parameters(self, rng: np.random.Generator, shape: Sequence[int]) -> Drawn | None:
        turned, scaled, bent = rng.random(3) < (self.p_rotation, self.p_scaling, self.p_elastic)
        angles = rng.uniform(-1, 1, 3) * self.rotation * turned
        factor = rng.uniform(*self.scaling) if scaled else 1.0
        if not (turned or scaled or bent):
            return None
        return {
            "matrix": self.matrix(angles, factor),
            "sigma": rng.uniform(*self.elastic_sigma, 3) * shape[1:],
            "magnitude": rng.uniform(*self.elastic_magnitude, 3) * bent,
            "seed": np.asarray(rng.integers(2**62)),
        }

    def matrix(self, degrees: Sequence[float] | np.ndarray, factor: float) -> np.ndarray:
        """A in voxels `[3,3]`: about axis 0 first, then 1, then 2."""
        angles, factors, thick = np.array(degrees, float), np.full(3, factor), thick_axis(self._spacing)
        if thick is not None:
            angles[[axis for axis in range(3) if axis != thick]] = 0.0
            factors[thick] = 1.0
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        spacing = np.asarray(self._spacing, float)
        return turn * spacing / spacing[:, None] * factors

    def __call__(self, x: Tensor, y: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        size = torch.tensor(x.shape[2:], device=x.device)
        at = _middle_out(x) + _displacements(x, drawn)
        at = at @ torch.from_numpy(drawn["matrix"]).to(at).mT[:, None, None]
        grid = (at * (2 / size)).flip(-1)  # grid_sample counts axes from the last
        image = grid_sample(x - self.fill, grid, "bilinear", "zeros", align_corners=False) + self.fill
        codes = grid_sample(y.float() - IGNORE, grid, "nearest", "zeros", align_corners=False) + IGNORE
        return image, codes.to(y.dtype)


def _middle_out(x: Tensor) -> Tensor:
    """`[D,H,W,3]`: voxels from the middle of the patch."""
    axes = [torch.arange(n, device=x.device, dtype=torch.float32) - (n - 1) / 2 for n in x.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _displacements(x: Tensor, drawn: Drawn) -> Tensor:
    """`[n,D,H,W,3]` in voxels, or 0 where no sample is bent; on average none, as the patch is not to be shifted."""
    magnitude = torch.from_numpy(drawn["magnitude"]).to(x)[:, :, None, None, None]
    if not drawn["magnitude"].any():
        return x.new_zeros(1)
    shape = (len(x), 3, *x.shape[2:])
    sigma = np.repeat(drawn["sigma"][:, :, None], 3, 2)  # each component as wide along all axes
    field = mapped(normal(shape, drawn["seed"], x.device), gaussians(x.shape[2:], sigma))
    field = field - field.mean((2, 3, 4), keepdim=True)
    field = field * (magnitude / field.abs().amax((2, 3, 4), keepdim=True).clamp(min=1e-12))
    return field.permute(0, 2, 3, 4, 1)


def _per_axis(value: Any) -> np.ndarray:
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3:
        raise LifelongCTError(
            f"rotation={value}", "trainer.augment", "write degrees, or one number per voxel axis"
        )
    return np.array([number(each, "rotation", 0, 180) for each in values])
