"""The slices of a DICOM series in order; refused where they are not one volume with even spacing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers.dicom_slice import Slice, read_slice
from lifelong_ct.data.types import bad_file

SUFFIXES = (".dcm", ".ima", ".dicom")
SAME_PLACE = 0.01
"""mm; positions that are closer are one."""
UNEVEN = 0.1
"""Share of the usual step by which a step may differ."""
AWAY = 0.25
"""Share of the smallest spacing by which a slice may lie beside its place."""
ASKEW = 0.01
"""Sideways over forward, as in NIfTI."""


@dataclass(frozen=True)
class Series:
    """Slices in the order in which they lie.

    Attributes:
        slices: at least two.
        affine: (column, row, slice) → mm, RAS+.
    """

    slices: tuple[Slice, ...]
    affine: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        rows, columns = self.slices[0].size
        return columns, rows, len(self.slices)


def files(folder: Path) -> list[Path]:
    """The DICOM files of a folder by name; subfolders, hidden files, a DICOMDIR and files of other formats are
    left out.

    Raises:
        DataError: missing; or corrupt, for a file that is DICOM by its name only.
    """
    try:
        found = sorted(
            p for p in folder.iterdir() if p.is_file() and p.name[0] != "." and p.name != "DICOMDIR"
        )
        return [path for path in found if _is_dicom(path)]
    except OSError as error:
        raise bad_file(folder, f"it cannot be read: {error.strerror}", "missing", "check the path") from error


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        marked = file.read(132)[128:] == b"DICM"
    if not marked and path.name.lower().endswith(SUFFIXES):
        raise bad_file(path, "it has no DICOM header (DICM after 128 bytes)", "corrupt", "export it again")
    return marked


def read_series(folder: Path) -> Series:
    """The series that a folder holds, from its headers.

    Raises:
        DataError: as `files` and `read_slice`; or empty-series, several-series, too-thin, slice-mismatch,
            not-3d, duplicate-slices, missing-slices, uneven-slices, sheared, geometry-conflict.
    """
    paths = files(folder)
    if not paths:
        raise bad_file(folder, "it holds no DICOM file", "empty-series", "give the folder of the slices")
    slices = [read_slice(path) for path in paths]
    _check_one(folder, slices)
    if len(slices) < 2:
        raise bad_file(folder, "it holds a single slice", "too-thin", "give a series of several slices")
    _check_alike(slices)
    normal = slices[0].normal
    slices.sort(key=lambda part: float(part.position @ normal))
    usual = _check_steps(folder, np.array([part.position @ normal for part in slices]))
    _check_line(folder, slices, usual)
    _check_tilt(slices[0])
    return Series(tuple(slices), _affine(slices))


def _check_one(folder: Path, slices: Iterable[Slice]) -> None:
    counts = Counter(part.series for part in slices)
    if len(counts) > 1:
        sizes = ", ".join(str(n) for _, n in counts.most_common())
        what = f"it holds {len(counts)} series, of {sizes} files"
        raise bad_file(folder, what, "several-series", "give each series a folder of its own")


def _common(part: Slice) -> dict[str, tuple[float, ...]]:
    return {
        "size": part.size,
        "pixel spacing": part.spacing,
        "orientation": tuple(part.directions.ravel().tolist()),
        "rescale slope and intercept": part.rescale,
        "number of bits": (part.bits,),
    }


def _check_alike(slices: Sequence[Slice]) -> None:
    rounded = [str([np.round(v, 3).tolist() for v in _common(part).values()]) for part in slices]
    usual = _common(slices[rounded.index(Counter(rounded).most_common(1)[0][0])])
    for part in slices:
        for name, mine in _common(part).items():
            if not np.allclose(mine, usual[name], rtol=1e-4, atol=1e-4):
                raise bad_file(
                    part.path,
                    f"its {name} is {_numbers(mine)}, that of the other slices {_numbers(usual[name])}",
                    "slice-mismatch",
                    "keep the slices of one scan in the folder, or export it again",
                )


def _check_steps(folder: Path, places: npt.NDArray[np.float64]) -> float:
    """Positions along the normal in mm, ascending → the usual step."""
    groups = np.split(places, np.flatnonzero(np.diff(places) > SAME_PLACE) + 1)
    twice = [float(group[0]) for group in groups if len(group) > 1]
    if len(twice) == len(groups) and len({len(group) for group in groups}) == 1:
        what = (
            f"each of its {len(groups)} positions occurs {len(groups[0])} times: phases of time or contrast"
        )
        raise bad_file(folder, what, "not-3d", "give each phase a folder of its own")
    if twice:
        what = f"positions that occur more than once: {_numbers(twice)} mm"
        raise bad_file(folder, what, "duplicate-slices", "remove the copies")
    steps = np.diff(places)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    odd = np.flatnonzero(np.abs(steps - usual) > UNEVEN * usual)
    times = np.rint(steps[odd] / usual)
    if len(odd) and (times >= 2).all() and (np.abs(steps[odd] - times * usual) <= UNEVEN * usual).all():
        gone = [places[i] + k * usual for i, n in zip(odd, times, strict=True) for k in range(1, int(n))]
        what = f"slices are missing at {_numbers(gone)} mm"
        raise bad_file(folder, what, "missing-slices", "copy the series again from its source")
    if len(odd):
        i = int(odd[0])
        what = (
            f"its slices are {usual:.2f} mm apart, but {steps[i]:.2f} mm between those at {places[i]:.2f} and "
            f"{places[i + 1]:.2f} mm"
        )
        raise bad_file(folder, what, "uneven-slices", "export the series again, or resample it")
    return usual


def _check_line(folder: Path, slices: Sequence[Slice], usual: float) -> None:
    """First pixels must lie one above the other."""
    normal = slices[0].normal
    corners = np.array([part.position for part in slices])
    whole = corners[-1] - corners[0]
    forward = float(whole @ normal)
    sideways = float(np.linalg.norm(whole - forward * normal))
    if sideways > ASKEW * forward:
        angle = np.degrees(np.arctan2(sideways, forward))
        what = f"its slices are stacked {angle:.1f}° askew (gantry tilt)"
        raise bad_file(folder, what, "sheared", "resample it upright, or reconstruct it without tilt")
    even = corners[0] + np.linspace(0, 1, len(slices))[:, None] * whole
    away = np.linalg.norm(corners - even, axis=1)
    worst = int(away.argmax())
    if away[worst] > AWAY * min(usual, *slices[0].spacing):
        what = f"its slice at {corners[worst] @ normal:.2f} mm lies {away[worst]:.2f} mm beside its place"
        raise bad_file(folder, what, "uneven-slices", "export the series again, or resample it")


def _check_tilt(part: Slice) -> None:
    """A tilted gantry whose slices claim to lie upright: one of the two is wrong."""
    leaning = np.degrees(np.arccos(min(1.0, np.abs(part.normal).max())))
    if abs(part.tilt) > 0.5 and leaning < 0.25:
        raise bad_file(
            part.path,
            f"its gantry is tilted by {part.tilt:g}°, and its orientation says that it is not",
            "geometry-conflict",
            "reconstruct it without tilt; if that was done, set GantryDetectorTilt to 0",
        )


def _affine(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """(column, row, slice) → mm, RAS+: DICOM PS3.3 C.7.6.2.1.1, with x and y turned from LPS."""
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:6]) + (" …" if len(values) > 6 else "")
