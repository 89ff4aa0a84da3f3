"""Pairs of masks that surface metrics may fall over, drawn from a seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Rng = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 0.5, 0.8), (2.0, 2.0, 2.0), (0.8, 0.8, 0.8)]


@dataclass(frozen=True)
class Shapes:
    """A prediction and a reference, neither empty."""

    kind: str
    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]
    tolerance: float


def draw(seed: int) -> Shapes:
    """The pair of a seed: the kinds in turn, the rest by chance; some tolerances are multiples of the spacing."""
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    shape = tuple(int(n) for n in rng.integers(12, 28, 3))
    prediction, reference = KINDS[kind](rng, shape)
    chosen = SPACINGS[int(rng.integers(len(SPACINGS)))]
    spacing = chosen if rng.random() < 0.7 else tuple(float(s) for s in rng.uniform(0.4, 4, 3))
    tolerance = spacing[0] * int(rng.integers(0, 4)) if rng.random() < 0.4 else float(rng.uniform(0, 6))
    return Shapes(kind, prediction, reference, spacing, tolerance)


def blob(rng: Rng, shape: tuple[int, ...], share: float = 0.2) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 2.5)
    return smooth > np.quantile(smooth, 1 - share)


def box(shape: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high))] = True
    return mask


def _near(rng: Rng, shape: tuple[int, ...]) -> Pair:
    one = blob(rng, shape)
    return ndimage.binary_dilation(one, iterations=int(rng.integers(1, 3))), one


def _cut(rng: Rng, shape: tuple[int, ...]) -> Pair:
    low, high = (0, 0, 0), (shape[0], shape[1] // 2, shape[2] // 3 + 1)
    return box(shape, low, high), box(shape, (2, 0, 0), (shape[0], shape[1] // 2 + 2, shape[2]))


def _single(rng: Rng, shape: tuple[int, ...]) -> Pair:
    return tuple(box(shape, tuple(at), tuple(at + 1)) for at in rng.integers(0, shape, (2, 3)))


def _hollow(rng: Rng, shape: tuple[int, ...]) -> Pair:
    whole = box(shape, (1, 1, 1), tuple(n - 1 for n in shape))
    return whole, whole & ~ndimage.binary_erosion(whole, iterations=int(rng.integers(1, 3)))


def _lines(rng: Rng, shape: tuple[int, ...]) -> Pair:
    one, two = np.zeros((2, *shape), bool)
    one[:, shape[1] // 2, int(rng.integers(shape[2]))] = True
    two[shape[0] // 2, :, 3] = True
    return one, two


def _plates(rng: Rng, shape: tuple[int, ...]) -> Pair:
    one, two = np.zeros((2, *shape), bool)
    one[int(rng.integers(shape[0]))] = True
    two[int(rng.integers(shape[0])), 2:] = True
    return one, two


def _flat(rng: Rng, shape: tuple[int, ...]) -> Pair:
    return tuple(blob(rng, (shape[0], 1, shape[2]), 0.4) for _ in range(2))


def _scattered(rng: Rng, shape: tuple[int, ...]) -> Pair:
    """Lone voxels, 5 or 20 of them: all elements have one area, and 95 % of it ends exactly between two."""
    one, two = np.zeros((2, *shape), bool)
    places = np.stack(np.meshgrid(*(np.arange(0, n - 1, 3) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    for mask in (one, two):
        mask[tuple(rng.permutation(places)[: int(rng.choice([5, 20]))].T)] = True
    return one, two


def _missed(rng: Rng, shape: tuple[int, ...]) -> Pair:
    """One of two components, far apart, is missing."""
    one = box(shape, (0, 0, 0), (4, 5, 3))
    return one, one | box(shape, tuple(n - 3 for n in shape), shape)


def _disjoint(rng: Rng, shape: tuple[int, ...]) -> Pair:
    return box(shape, (0, 0, 0), (3, 4, 5)), box(shape, tuple(n - 4 for n in shape), shape)


def _same(rng: Rng, shape: tuple[int, ...]) -> Pair:
    one = blob(rng, shape)
    return one, one.copy()


def _shifted(rng: Rng, shape: tuple[int, ...]) -> Pair:
    one = blob(rng, shape)
    return np.roll(one, int(rng.integers(1, 4)), axis=int(rng.integers(3))), one


KINDS: dict[str, Callable[[Rng, tuple[int, ...]], Pair]] = {
    "dilated": _near,
    "unlike": lambda rng, shape: (blob(rng, shape), blob(rng, shape, 0.05)),
    "single voxels": _single,
    "cut by the border": _cut,
    "hollow": _hollow,
    "lines": _lines,
    "plates": _plates,
    "one slice": _flat,
    "noise": lambda rng, shape: tuple(rng.random((2, *shape)) < rng.uniform(0.02, 0.98)),
    "scattered": _scattered,
    "everything": lambda rng, shape: (np.ones(shape, bool), blob(rng, shape, 0.6)),
    "missed": _missed,
    "disjoint": _disjoint,
    "same": _same,
    "shifted": _shifted,
}
