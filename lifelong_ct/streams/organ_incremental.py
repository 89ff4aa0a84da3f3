"""Organ-incremental: every hospital annotates by a protocol of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.entries import check_first, ordered
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.parts import Experience, annotating, part


class OrganIncremental(Stream):
    """One hospital after another, each with other organs annotated in its training cases.

    Ji et al., "Continual Segment", ICCV 2023 (arXiv 2302.00162): data sets arrive that annotate different organs, old
    ones again or not. The test cases keep what the source annotates, so that an organ is scored at every hospital that
    can tell, whoever taught it.

    Args:
        protocols: hospital → organs that its training cases annotate.
        **given: options of `Stream`; `first` is at most the number of hospitals.

    Raises:
        LifelongCTError: a hospital without a protocol, or a protocol that none of its cases can follow.
    """

    def __init__(self, *, protocols: Mapping[str, Sequence[str]], **given: Any) -> None:
        self.protocols = protocols
        super().__init__(**given)

    def _entries(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        chosen = ordered(entries, self.order)
        if self.first is None:
            return chosen
        check_first(self.first, len(chosen))
        return chosen[: self.first]

    def _arrivals(self) -> list[Experience]:
        return [self._experience(hospital) for hospital in self.hospitals]

    def annotated(self, hospital: Hospital, organs: tuple[str, ...]) -> list[Case]:
        """The training cases as they arrive."""
        return [annotating(case, organs) for case in hospital.train if set(organs) & set(case.organs)]

    def protocol(self, hospital: Hospital) -> tuple[str, ...]:
        """Organs that a hospital teaches, in the order of the stream's list."""
        given = self.protocols.get(hospital.name) if isinstance(self.protocols, Mapping) else None
        if not given:
            raise LifelongCTError(
                f"no organs for the hospital {hospital.name}",
                "stream.protocols",
                "write {hospital: [organ, …], …} for every hospital",
            )
        canonical = self.label_space.vocabulary.canonical
        wanted = {canonical(organ, f"stream.protocols {hospital.name}") for organ in given}
        unknown = sorted(wanted - set(self.label_space.organs))
        if unknown:
            raise LifelongCTError(
                f"the stream does not have {', '.join(unknown)}",
                f"stream.protocols {hospital.name}",
                f"use some of {', '.join(self.label_space.organs)}",
            )
        return tuple(organ for organ in self.label_space.organs if organ in wanted)

    def _experience(self, hospital: Hospital) -> Experience:
        organs = self.protocol(hospital)
        own = part(hospital, "protocol", self.annotated(hospital, organs))
        tested = (hospital.name,) if hospital.test else ()
        return Experience(hospital.name, (own,), Task(tested, organs))
