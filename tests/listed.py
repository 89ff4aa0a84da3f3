"""Hospitals whose cases a test lists by hand: split and organs of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lifelong_ct.core.types import Case
from lifelong_ct.data.types import RawCase

ORGANS = ["aorta", "liver", "pancreas", "spleen"]
ALL = ("aorta", "liver", "pancreas", "spleen")


class ListedLayout:
    """Cases named by the configuration; `shown` are the organs that really have a voxel, those annotated where None."""

    def __init__(
        self,
        hospital: str,
        train: Sequence[Sequence[str]] = (ALL,),
        test: Sequence[Sequence[str]] = (ALL,),
        shown: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self.hospital, self.listed, self.shown = hospital, {"train": train, "test": test}, shown

    def cases(self) -> Iterator[Case]:
        for split, several in self.listed.items():
            for i, organs in enumerate(several):
                yield Case(
                    self.hospital,
                    f"{self.hospital}-{split}-{i}",
                    f"p{i}",
                    split,  # type: ignore[arg-type]
                    tuple(organs),
                    label_kind="synthetic",
                    params={"shape": [16, 16, 16], "number": i},
                )

    def load(self, case: Case) -> RawCase:
        rng = np.random.default_rng([*case.id.encode()])
        image = rng.integers(-200, 200, (16, 16, 16)).astype(np.int16)
        label = np.zeros((16, 16, 16), np.uint8)
        there = case.organs if self.shown is None else self.shown[int(case.params["number"])]
        for i, organ in enumerate(case.organs, start=1):
            if organ in there:
                label[3 * ALL.index(organ), 2:9, 2:9] = i
        return RawCase(image, label, np.eye(4), case.organs)


def entry(name: str, **more: Any) -> dict[str, Any]:
    """A hospital of the layout."""
    return {"name": name, "layout": f"{__name__}:ListedLayout", **more}


def given(**more: Any) -> dict[str, Any]:
    """Options of a stream."""
    return {"name": "s", "organs": ORGANS, "patch": [8, 8, 8], "steps": 2, **more}


def content(made: Any) -> list[tuple[str, list[tuple[str, list[tuple[str, tuple[str, ...]]]]]]]:
    """Experience → hospital → number of the case and what is annotated."""
    return [
        (
            experience.name,
            [(h.name, [(c.id.rpartition("-")[2], c.organs) for c in h.train]) for h in experience.hospitals],
        )
        for experience in made.experiences
    ]
