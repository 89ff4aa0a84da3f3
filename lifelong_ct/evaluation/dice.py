"""The Dice coefficient of one organ in one case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Dice:
    """2 |P ∩ R| / (|P| + |R|) (Dice 1945, doi:10.2307/1932409).

    Conventions: both masks empty → None (undefined, enters no mean); one of them empty → 0.
    """

    names: tuple[str, ...] = ("dice",)

    def __call__(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Scores bool masks `[D,H,W]`; `spacing` (mm) has no part in it."""
        total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
        both = int(np.count_nonzero(prediction & reference))
        return {"dice": 2 * both / total if total else None}
