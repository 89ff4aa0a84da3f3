"""Everything that decides a phantom hospital's voxels, as one JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.phantom.magnetic import spin_echo
from lifelong_ct.data.phantom.population import Population
from lifelong_ct.data.phantom.scanner import Scanner
from lifelong_ct.data.phantom.tissue import mean_attenuation

VERSION = 1
"""Of the drawing. A change of any voxel raises it, so that stores and tables do not mix."""

Part = TypeVar("Part", Scanner, Population)


@dataclass(frozen=True)
class Recipe:
    """A phantom hospital.

    Attributes:
        hospital, seed: together with split and number they choose the patient.
        shape: voxels `[D, H, W]`.
        phase: contrast phase, see `tissue.PHASES`.
        scanner, population: see there.
        enhancement: mean HU per tissue that replaces the phase's; for stress streams, not physical.
        invert: HU about which contrast is inverted; for stress streams, not physical.
        oral_contrast: HU of positive oral contrast in stomach and bowel, 0 for none; 150-300 HU is a typical
            textbook range.
        anatomy: folder of real label maps that replace the drawn organs.
        sequence: of an MR scanner, see `magnetic.SEQUENCES`; None for CT. What belongs to CT (phase, enhancement,
            invert, oral contrast) has no meaning then.
        version: of the drawing.
    """

    hospital: str
    seed: int
    shape: tuple[int, int, int]
    phase: str
    scanner: Scanner
    population: Population
    enhancement: Mapping[str, float] = field(default_factory=dict)
    invert: float | None = None
    oral_contrast: float = 0.0
    anatomy: str | None = None
    sequence: str | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        mean_attenuation(self.phase, self.enhancement)
        if self.sequence is not None:
            self._check_magnetic(self.sequence)
        if len(self.shape) != 3 or min(self.shape) < 8:
            raise LifelongCTError(
                f"shape {list(self.shape)}", f"phantom {self.hospital}", "three sizes, at least 8"
            )

    def _check_magnetic(self, sequence: str) -> None:
        spin_echo(sequence, 1.0, 1.0, 1.0)
        if self.enhancement or self.invert is not None or self.oral_contrast:
            raise LifelongCTError(
                "enhancement, invert and oral_contrast are of CT, the hospital has an MR sequence",
                f"phantom {self.hospital}",
                "leave them out, or sequence: null",
            )

    def to_json(self) -> str:
        """Canonical JSON: the same text for the same hospital. CT, which came first, says nothing of sequences: the
        names of stored volumes follow from this text."""
        fields = {k: v for k, v in asdict(self).items() if k != "sequence" or v is not None}
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """The recipe of `to_json`."""
        fields = json.loads(text)
        fields["shape"] = tuple(fields["shape"])
        fields["scanner"] = build(Scanner, fields["scanner"], "scanner")
        fields["population"] = build(Population, fields["population"], "population")
        return Recipe(**fields)


def build(kind: type[Part], options: Mapping[str, Any] | None, what: str) -> Part:
    """A scanner or population from options.

    Raises:
        LifelongCTError: an unknown option.
    """
    given = dict(options or {})
    known = kind.__dataclass_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise LifelongCTError(
            f"unknown option {', '.join(unknown)}", f"phantom {what}", f"use {', '.join(known)}"
        )
    if "spacing" in given:
        given["spacing"] = tuple(float(s) for s in given["spacing"])
    return kind(**given)
