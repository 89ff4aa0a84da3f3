"""Which lesions of one case were found, and what was taken for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import default_vocabulary

_RANK = {6: 1, 18: 2, 26: 3}
Mask = npt.NDArray[np.bool_]


class Lesions:
    """Sensitivity and false positives of a scan, by connected component.

    A lesion is a connected component of the reference. It is found where more than `overlap` of its voxels are
    predicted, by whichever components. A false positive is a connected component of the prediction that shares no voxel
    with the reference: one that is too large, or joins two lesions, is no false alarm, and Dice shows it.

    - `lesions`: of the reference; `lesions_found`: those of them that are found. Their sums over scans give the
      sensitivity per lesion.
    - `lesion_sensitivity`: found / lesions of this scan.
    - `lesion_false_positives`: their number; its mean over scans is FP per scan (free-response ROC, Bunch et al. 1977,
      doi:10.1117/12.955926).

    Conventions: no lesion in the reference → sensitivity None, false positives count; nothing predicted → sensitivity
    0 and no false positive. A component smaller than `min_mm3` is no lesion, neither found nor missed, and no false
    positive; but its voxels still count where another is looked for or touched. A component that the field of view
    cuts counts by what is seen of it.

    Args:
        overlap: share of a lesion's voxels, 0 (any voxel) to below 1.
        connectivity: 26 (voxels that share a corner belong together), 18 (an edge) or 6 (a face).
        min_mm3: smallest volume of a component that counts.
        organs: what is a lesion; what the vocabulary calls so where None.

    Raises:
        LifelongCTError: a value that is none of these.
    """

    names: tuple[str, ...] = ("lesions", "lesions_found", "lesion_sensitivity", "lesion_false_positives")

    def __init__(
        self,
        overlap: float = 0.0,
        connectivity: int = 26,
        min_mm3: float = 0.0,
        organs: Iterable[str] | None = None,
    ) -> None:
        _check(0 <= overlap < 1, f"overlap={overlap!r}", "write a share from 0 to below 1")
        _check(connectivity in _RANK, f"connectivity={connectivity!r}", "write 6, 18 or 26")
        _check(0 <= min_mm3 < float("inf"), f"min_mm3={min_mm3!r}", "write 0 or more mm³")
        self.overlap, self.connectivity, self.min_mm3 = overlap, connectivity, min_mm3
        known = default_vocabulary()
        self.organs = known.lesions if organs is None else frozenset(known.canonical(o) for o in organs)

    def for_organ(self, organ: str) -> Lesions | None:
        """Itself for a lesion (canonical name); None for other organs."""
        return self if organ in self.organs else None

    def __call__(
        self, prediction: Mask, reference: Mask, spacing: Sequence[float]
    ) -> dict[str, float | None]:
        """Counts in bool masks `[D,H,W]` with voxels of `spacing` mm."""
        smallest = self.min_mm3 / float(np.prod(np.asarray(spacing, dtype=np.float64)))
        sizes, predicted = self._components(reference, prediction)
        lesion = sizes >= smallest
        found = lesion & (predicted > self.overlap * sizes)
        sizes, true = self._components(prediction, reference)
        false = (sizes >= smallest) & (true == 0)
        lesions, hits = int(np.count_nonzero(lesion)), int(np.count_nonzero(found))
        values = (lesions, hits, hits / lesions if lesions else None, int(np.count_nonzero(false)))
        return dict(zip(self.names, values, strict=True))

    def _components(self, mask: Mask, other: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Voxels of each component of a mask, and how many of these the other mask has too."""
        structure = ndimage.generate_binary_structure(3, _RANK[self.connectivity])
        labels, count = ndimage.label(mask, structure)
        sizes, shared = (
            np.bincount(labels[where], minlength=count + 1)[1:] for where in (mask, mask & other)
        )
        return sizes, shared


def _check(holds: bool, what: str, fix: str) -> None:
    if not holds:
        raise LifelongCTError(what, "evaluation.metrics Lesions", fix)
