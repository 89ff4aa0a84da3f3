"""Joint shift: classes and domains change at once, and only a share of the cases is annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.marks import ranked
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.organ_incremental import OrganIncremental
from lifelong_ct.streams.parts import Experience, unannotated


class JointShift(OrganIncremental):
    """Every experience is another hospital and other organs; no organ is taught twice.

    Classes and domains that change together are the setting of Simon et al., "On generalizing beyond domains in
    cross-domain continual learning", CVPR 2022 (arXiv 2203.03970). The share of annotated cases is that of
    semi-supervised continual learning (Wang et al., "ORDisCo", CVPR 2021, arXiv 2101.00407): the others arrive as scans
    alone, their loss is 0, and whoever can use them may.

    Args:
        protocols: see `OrganIncremental`; no organ at two hospitals.
        label_fraction: share of each hospital's training cases that keep their annotation, 0 to 1; rounded to whole
            cases, at least one above 0.
        seed: chooses them; of the data, not of the run.
        **given: options of `Stream`.

    Raises:
        LifelongCTError: no share, or an organ at two hospitals.
    """

    def __init__(
        self,
        *,
        protocols: Mapping[str, Sequence[str]],
        label_fraction: float = 1.0,
        seed: int = 0,
        **given: Any,
    ) -> None:
        if isinstance(label_fraction, bool) or not isinstance(label_fraction, (int, float)):
            label_fraction = -1.0
        if not 0 <= label_fraction <= 1:
            raise LifelongCTError(
                "it is no share of the cases", "stream.label_fraction", "write a number from 0 to 1"
            )
        self.label_fraction, self.seed = float(label_fraction), seed
        super().__init__(protocols=protocols, **given)

    def _arrivals(self) -> list[Experience]:
        taught = [organ for hospital in self.hospitals for organ in self.protocol(hospital)]
        twice = sorted({organ for organ in taught if taught.count(organ) > 1})
        if twice:
            raise LifelongCTError(
                f"two hospitals teach {', '.join(twice)}",
                "stream.protocols",
                "list every organ once, or use stream=organ",
            )
        return super()._arrivals()

    def annotated(self, hospital: Hospital, organs: tuple[str, ...]) -> list[Case]:
        """See `OrganIncremental`; the cases keep their order."""
        cases = super().annotated(hospital, organs)
        kept = set(ranked(cases, "labels", self.seed)[: share_of(len(cases), self.label_fraction)])
        return [case if i in kept else unannotated(case) for i, case in enumerate(cases)]


def share_of(cases: int, share: float) -> int:
    """Whole cases of a share, halves upwards, at least one of a share above 0."""
    return min(cases, max(1, int(share * cases + 0.5))) if share > 0 else 0
