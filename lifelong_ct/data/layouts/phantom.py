"""A hospital that is drawn, not read: see `lifelong_ct.data.phantom`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import checksum
from lifelong_ct.core.types import Case, Split
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.phantom import ORGANS, Population, Recipe, Scanner, draw
from lifelong_ct.data.phantom.real_anatomy import label_maps
from lifelong_ct.data.phantom.recipe import build
from lifelong_ct.data.types import RawCase


class PhantomLayout:
    """Cases of a phantom hospital.

    Args:
        hospital: name; other names have other patients.
        train, test: numbers of cases.
        shape: voxels `[D, H, W]`.
        seed: of the stream's data, not of the run.
        phase: contrast phase: unenhanced, arterial, portal_venous or delayed.
        scanner, population: options of `Scanner` and `Population`.
        organs: annotated here; None for all nine.
        enhancement, invert, oral_contrast: see `Recipe`.
        anatomy: folder of label maps (TotalSegmentator v2 ids) that replace the drawn organs.
        sequence: t1 or t2 of an MR scanner; None for CT.

    Raises:
        LifelongCTError: an unknown phase, organ or option, or no label map in `anatomy`.
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
        enhancement: Mapping[str, float] | None = None,
        invert: float | None = None,
        oral_contrast: float = 0.0,
        anatomy: str | None = None,
        sequence: str | None = None,
    ) -> None:
        maps = [] if anatomy is None else label_maps(Path(anatomy))
        self._maps = {"maps": [checksum(path) for path in maps]} if maps else {}
        self.hospital, self.sizes = hospital, {"train": train, "test": test}
        self.organs = _protocol(hospital, organs)
        self.recipe = Recipe(
            hospital,
            int(seed),
            tuple(int(n) for n in shape),  # type: ignore[arg-type]
            phase,
            build(Scanner, scanner, "scanner"),
            build(Population, population, "population"),
            dict(enhancement or {}),
            invert,
            float(oral_contrast),
            None if anatomy is None else str(anatomy),
            sequence,
        )

    def cases(self) -> Iterator[Case]:
        """Metadata only; nothing is drawn."""
        text = self.recipe.to_json()
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            for index in range(self.sizes[split]):
                name = f"phantom-{self.hospital}-{split}-{index:03d}"
                yield Case(
                    hospital=self.hospital,
                    id=name,
                    patient=name,
                    split=split,
                    organs=self.organs,
                    modality="CT" if self.recipe.sequence is None else "MR",
                    licence="CC0-1.0",
                    label_kind="synthetic",
                    params={
                        "recipe": text,
                        "shape": list(self.recipe.shape),
                        "split": split,
                        "index": index,
                        **self._maps,  # other maps make other voxels, though the folder is the same
                    },
                )

    def spacing(self, case: Case) -> tuple[float, float, float]:
        """mm per axis of a case, without drawing it."""
        x, y, z = _recipe(str(case.params["recipe"])).scanner.spacing
        return x, y, z

    def load(self, case: Case) -> RawCase:
        """Draws a case; the label follows `case.organs`."""
        recipe = _recipe(str(case.params["recipe"]))
        return draw(recipe, str(case.params["split"]), int(case.params["index"]), case.organs)


@lru_cache(maxsize=64)
def _recipe(text: str) -> Recipe:
    return Recipe.from_json(text)


def _protocol(hospital: str, organs: Sequence[str] | None) -> tuple[str, ...]:
    where = f"phantom {hospital} organs"
    given = ORGANS if organs is None else organs
    chosen = {default_vocabulary().canonical(organ, where) for organ in given}
    unknown = sorted(chosen - set(ORGANS))
    if unknown or not chosen:
        what = f"the phantom has no {', '.join(unknown)}" if unknown else "nothing is annotated"
        raise LifelongCTError(what, where, f"use some of {', '.join(ORGANS)}")
    return tuple(organ for organ in ORGANS if organ in chosen)
