"""The intersection over union of one organ in one case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class IoU:
    """|P ∩ R| / |P ∪ R| (Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x); of one case it is Dice / (2 - Dice).

    Conventions: both masks empty → None (undefined, enters no mean); one of them empty → 0.
    """

    names: tuple[str, ...] = ("iou",)

    def __call__(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Scores bool masks `[D,H,W]`; `spacing` (mm) has no part in it."""
        both = int(np.count_nonzero(prediction & reference))
        either = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference)) - both
        return {"iou": both / either if either else None}
