"""Hospitals that are drawn: no file, no download, the same bytes whoever asks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.core.types import Case, Split
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.phantom import real_anatomy
from lifelong_ct.data.phantom.anatomy import ORGANS, TISSUES, Points, Population, draw_tissues
from lifelong_ct.data.phantom.scanner import PHASES, Scanner, scan, tissue_hu
from lifelong_ct.data.types import RawCase

VERSION = 1
"""A change of what is drawn changes this, and re-runs every table."""


class PhantomLayout:
    """Draws patients of one hospital.

    Args:
        hospital: its name; with `seed` it chooses the patients.
        train, test: number of patients.
        shape: voxels.
        seed: of the stream's data; not the run's.
        phase: contrast phase, a key of `phantom.scanner.PHASES`.
        scanner: arguments of `phantom.scanner.Scanner`.
        population: arguments of `phantom.anatomy.Population`.
        organs: annotation protocol; the nine organs where None.
        spread: standard deviation of HU between patients.
        enhancement: HU per tissue in place of the phase's; for stress tests.
        invert: HU about which contrast is mirrored; for stress tests.
        anatomy: folder of real label maps whose organs replace the drawn ones.

    Raises:
        LifelongCTError: an unknown phase, organ or option.
    """

    def __init__(
        self,
        hospital: str,
        *,
        train: int = 8,
        test: int = 4,
        shape: Sequence[int] = (64, 64, 64),
        seed: int = 0,
        phase: str = "portal_venous",
        scanner: Mapping[str, Any] | None = None,
        population: Mapping[str, Any] | None = None,
        organs: Sequence[str] | None = None,
        spread: float = 6.0,
        enhancement: Mapping[str, float] | None = None,
        invert: float | None = None,
        anatomy: str | None = None,
    ) -> None:
        where = f"phantom hospital {hospital}"
        if phase not in PHASES:
            raise LifelongCTError(f"there is no phase {phase!r}", where, f"use one of {', '.join(PHASES)}")
        vocabulary = default_vocabulary()
        self.organs = tuple(vocabulary.canonical(organ, where) for organ in organs or ORGANS)
        undrawn = [organ for organ in self.organs if organ not in ORGANS]
        if undrawn:
            raise LifelongCTError(f"{undrawn[0]} is not drawn", where, f"use some of {', '.join(ORGANS)}")
        unknown = sorted(set(enhancement or {}) - set(TISSUES))
        if unknown:
            raise LifelongCTError(f"no tissue {unknown[0]!r}", where, f"use some of {', '.join(TISSUES)}")
        self.hospital, self.counts = hospital, {"train": train, "test": test}
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.seed, self.phase, self.spread = seed, phase, spread
        self.scanner, self.population = Scanner(**(scanner or {})), Population(**(population or {}))
        self.enhancement, self.invert = dict(enhancement or {}), invert
        self.maps = real_anatomy.label_maps(Path(anatomy)) if anatomy else []

    def cases(self) -> Iterator[Case]:
        """Patients of the training split, then of the test split."""
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            for i in range(self.counts[split]):
                name = f"phantom-{self.hospital}-{split}-{i:03d}"
                yield Case(
                    self.hospital,
                    name,
                    name,
                    split,
                    self.organs,
                    licence="CC0-1.0",
                    label_kind="synthetic",
                    params={
                        "index": i,
                        "shape": "x".join(map(str, self.shape)),
                        "drawing": self._drawing(),
                    },
                )

    def load(self, case: Case) -> RawCase:
        """Draws a case; a pure function of the stream's seed, the hospital and the case."""
        who = (self.seed, "phantom", VERSION, self.hospital, case.split, case.params["index"])
        points, affine, spacing = self._grid()
        tissues = draw_tissues(points, self.population, generator(*who, "anatomy"))
        if self.maps:
            rng = generator(*who, "map")
            tissues = real_anatomy.place(tissues, self.maps[rng.integers(len(self.maps))], points, rng)
        hu = tissue_hu(self.phase, self.spread, generator(*who, "hu"), self.enhancement, self.invert)
        image = scan(tissues, hu, spacing, self.scanner, generator(*who, "noise"))
        label = np.zeros(self.shape, np.uint8)
        for i, organ in enumerate(case.organs, start=1):
            label[tissues == TISSUES.index(organ)] = i
        return RawCase(image, label, affine, case.organs)

    def _grid(self) -> tuple[Points, np.ndarray, tuple[float, float, float]]:
        """World coordinates of the voxels, affine and spacing; the body's middle is the origin."""
        view, thick = self.scanner.field_of_view, self.scanner.slice_thickness
        spacing = (view / self.shape[0], view / self.shape[1], thick)
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.shape, spacing, strict=True)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = [axis[0] for axis in axes]
        return (x, y, z), affine, spacing

    def _drawing(self) -> str:
        """Everything that decides the voxels, as text."""
        parts = {
            "version": VERSION,
            "seed": self.seed,
            "phase": self.phase,
            "scanner": vars(self.scanner),
            "population": vars(self.population),
            "spread": self.spread,
            "enhancement": self.enhancement,
            "invert": self.invert,
            "maps": [path.name for path in self.maps],
        }
        return json.dumps(parts, sort_keys=True)
