"""How sure a model is of a prediction: a number per organ and scan that says which scans to look at."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHECK_BELOW = 0.9
"""A scan whose certainty is lower is worth a look; chosen on drawn scans (benchmarks/quality_flag.py, docs/predict.md)."""


class Certainty:
    """The Dice that a prediction would have if its probabilities were true, per channel.

    With p the blended softmax and P_k the voxels labelled k: if the true organ were drawn voxel by voxel from p, the
    ratio of the expected overlap to the expected sizes would be

        2 Σ_{v ∈ P_k} p_k(v) / (|P_k| + Σ_v p_k(v)),

    the soft Dice (Milletari et al., arXiv 1606.04797, with plain sums below) of the probabilities and their own
    arg-max. No second pass through the model is needed. Models are too sure of themselves, above all on scans unlike
    those that they know: the number ranks scans, it is no estimate of their Dice.

    Attributes:
        labelled, inside, total: per channel the voxels with that label, the sum of its probability over them, and over
            all voxels; float64 `[K]`, empty before the first `add`.
    """

    def __init__(self) -> None:
        self.labelled = self.inside = self.total = np.zeros(0)

    def add(self, logits: Tensor, labels: Tensor, sigmoid: bool = False) -> None:
        """Counts a part of the volume.

        Args:
            logits: float `[K, …]`, blended and divided by the sum of the weights.
            labels: int64 `[…]`.
            sigmoid: whether the head is one of sigmoids.
        """
        width = len(logits)
        if not len(self.total):
            self.labelled, self.inside, self.total = np.zeros((3, width))
        p = logits.float().flatten(1)
        p = p.sigmoid() if sigmoid else p.softmax(0)
        at = labels.flatten()
        self.total += p.sum(1, dtype=torch.float64).numpy()
        self.inside += torch.bincount(at, p.gather(0, at[None])[0].double(), width).numpy()
        self.labelled += torch.bincount(at, minlength=width).numpy()

    def of_channels(self) -> list[float | None]:
        """Per channel but the background; None where no voxel has its label."""
        return [
            2 * float(i) / (float(n) + float(t)) if n else None
            for n, i, t in zip(self.labelled[1:], self.inside[1:], self.total[1:], strict=True)
        ]

    def of_scan(self) -> float:
        """The mean over the organs that were found; 0 where none was."""
        found = [value for value in self.of_channels() if value is not None]
        return float(np.mean(found)) if found else 0.0
