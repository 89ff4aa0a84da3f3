"""Pictures of the cases that a run segments worst, under their pseudonyms, in the run folder and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import read_json, write_bytes, write_json
from lifelong_ct.data.types import local_ids
from lifelong_ct.reporting.planes import Shown, Within, draw, surroundings, tints

if TYPE_CHECKING:
    from lifelong_ct.training.scoring import Scored

OVERLAYS, INDEX = "overlays", "index.json"
WORST = 6


class Overlay(NamedTuple):
    """A case as it is shown.

    Attributes:
        dice: mean over its organs.
        hospital, case: name and pseudonym.
        organ, organ_dice: its worst organ.
        tints: organ → colour.
        planes: plane → PNG.
    """

    dice: float
    hospital: str
    case: str
    organ: str
    organ_dice: float
    tints: dict[str, str]
    planes: dict[str, bytes]


class Overlays:
    """Reporter that draws the worst cases of the last evaluation while their voxels are in memory.

    Files: `overlays/<pseudonym>-<plane>.png` and `overlays/index.json`. It never hears of hospitals that do not share
    their voxels (`training.telling`).

    Args:
        path: of the run folder.
        worst: how many cases.
    """

    hears = ("scored", "evaluated")

    def __init__(self, path: Path, worst: int = WORST) -> None:
        self.path, self.worst = path / OVERLAYS, worst
        self._held: list[Overlay] = []

    def event(self, name: str, **data: Any) -> None:
        """Draws what is scored, writes when all is."""
        if name == "scored":
            self._scored(data["hospital"], data["case"], data["scored"])
        elif name == "evaluated" and self._held:
            self._write()

    def close(self, status: str) -> None:
        """Lets go of what is not written."""
        self._held = []

    def _scored(self, hospital: str, case: str, scored: Scored) -> None:
        dice = {
            organ: value for organ, metric, value in scored.scores if metric == "dice" and value is not None
        }
        if not dice:
            return
        mean, organ = sum(dice.values()) / len(dice), min(dice, key=lambda name: dice[name])
        if len(self._held) == self.worst and (mean, hospital, case) >= self._held[-1][:3]:
            return
        shown = _shown(scored)
        drawn = Overlay(
            mean, hospital, case, organ, dice[organ], tints(list(shown.reference)), draw(shown, organ)
        )
        self._held = sorted([*self._held, drawn], key=lambda each: each[:3])[: self.worst]

    def _write(self) -> None:
        for old in self.path.glob("*.png"):
            old.unlink()
        for overlay in self._held:
            for plane, data in overlay.planes.items():
                write_bytes(self.path / f"{overlay.case}-{plane}.png", data)
        write_json(
            self.path / INDEX, [{**each._asdict(), "planes": list(each.planes)} for each in self._held]
        )
        self._held = []


def read_overlays(run_folder: Path) -> list[Overlay]:
    """What `Overlays` wrote, the worst first, without pictures that are no longer there.

    Raises:
        LifelongCTError: the index is damaged.
    """
    folder = run_folder / OVERLAYS
    if not (folder / INDEX).is_file():
        return []
    try:
        found = [Overlay(**{**row, "planes": _pictures(folder, row)}) for row in read_json(folder / INDEX)]
    except (OSError, TypeError, KeyError) as error:
        raise LifelongCTError(
            f"the overlays are damaged: {error!r}", str(folder), "delete the folder; the page does without"
        ) from error
    return [overlay for overlay in found if overlay.planes]


def _pictures(folder: Path, row: dict[str, Any]) -> dict[str, bytes]:
    files = {plane: folder / f"{row['case']}-{plane}.png" for plane in row["planes"]}
    return {plane: file.read_bytes() for plane, file in files.items() if file.is_file()}


def _shown(scored: Scored) -> Shown:
    """Cut out around what is annotated and predicted; the first channel of several. All of it are views: evaluation's
    memory is admitted without pictures."""
    raw = scored.raw
    assert raw.label is not None
    image = raw.image if raw.image.ndim == 3 else raw.image[0]
    ids = {organ: [scored.channels[organ]] for organ in raw.organs if organ in scored.channels}
    any_id = [channel for channels in ids.values() for channel in channels]
    box = surroundings(
        (np.isin(p, any_id) | (r > 0) for p, r in zip(scored.prediction, raw.label, strict=True)), raw.spacing
    )
    prediction, label = scored.prediction[box], raw.label[box]
    return Shown(
        image[box],
        {organ: Within(prediction, ids.get(organ, [])) for organ in raw.organs},
        {organ: Within(label, local_ids(organ, raw.organs, raw.overlaps)) for organ in raw.organs},
        raw.spacing,
    )
