"""The TotalSegmentator dataset: Wasserthal et al., Radiology: Artificial Intelligence 2023, doi 10.1148/ryai.230024."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.paths import listing, read_text
from lifelong_ct.data.case_folders import CaseFolders, Contents
from lifelong_ct.data.folder_layout import Entry
from lifelong_ct.data.native_maps import native_map
from lifelong_ct.data.vocabulary import default_vocabulary

TABLE = "meta.csv"
SUFFIX = ".nii.gz"
RELEASES = ("TotalSegmentator v2", "TotalSegmentator v1", "TotalSegmentator MRI")
"""Whose names of files mean the same."""


class TotalSegmentatorLayout(CaseFolders):
    """Reads `s####/{ct.nii.gz, segmentations/<class>.nii.gz}`, `mri.nii.gz` with `modality: MR`.

    What is annotated are its files, by name, since the ids of v1 and v2 differ: a file that one case has, all must
    have. `meta.csv` (`image_id` and `split`: train, val or test) tells what a case is for, unless `test` or `split`
    does.

    Args:
        hospital: its name in the stream.
        options: of `CaseFolders`. With `organs`, files of other names are left alone.

    Raises:
        LifelongCTError: an option that is none.
    """

    LICENCE, LABEL_KIND = "CC-BY-4.0", "semi-automatic"
    EXPECTED = "a folder per case such as s0001, with ct.nii.gz and segmentations"

    def __init__(self, hospital: str, **options: Any) -> None:
        super().__init__(hospital, **options)
        self.image = "mri.nii.gz" if self.modality == "MR" else "ct.nii.gz"

    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """Its folders, all of them listed before the first is given: what they hold together is annotated."""
        names = self.found()
        sides = {} if self.chosen else self._table()
        inside: dict[str, Contents] = {}
        for name in names:
            try:
                inside[name] = self.contents(name, self.MASKS)
            except LifelongCTError as error:
                yield error
        self._annotate(sorted(set().union(*(each.masks for each in inside.values()))))
        needed = self.files()
        for name, each in inside.items():
            yield self.entry(name, self.MASKS, each, needed, sides.get(name))
        if gone := sorted(set(sides) - set(names)):
            what = f"{TABLE} lists {len(gone)} cases that have no folder"
            fix = "copy them, or say with `split` which cases there are"
            yield self.wrong(
                f"{what}, such as '{self.root / gone[0]}'", str(self.root / TABLE), fix, "missing"
            )

    def _table(self) -> dict[str, str]:
        """Case → train, val or test."""
        if TABLE not in listing(self.root):
            raise self.needs_split(f"there is no {TABLE}")
        path = self.root / TABLE
        try:
            lines = read_text(path).splitlines()
        except (OSError, ValueError) as error:
            raise self.wrong(f"it cannot be read: {error}", str(path), "copy it again") from error
        rows = list(csv.DictReader(lines, delimiter=";" if ";" in "".join(lines[:1]) else ","))
        if not rows or not {"image_id", "split"} <= set(rows[0]):
            columns = ", ".join(map(str, rows[0])) if rows else "no row"
            what = f"expected the columns image_id and split; found {columns}"
            raise self.wrong(what, str(path), "copy it again, or use `split`")
        for number, row in enumerate(rows, start=2):
            if row["split"] not in ("train", "val", "test"):
                what = f"the split is {row['split']!r} in line {number}"
                raise self.wrong(what, str(path), "write train, val or test", "split")
        return {row["image_id"]: row["split"] for row in rows}

    def _annotate(self, files: Iterable[str]) -> None:
        """Organs of the files, by their names."""
        found: dict[str, tuple[str, ...]] = {}
        for file in files:
            organ = self._organ(file.removesuffix(SUFFIX)) if file.endswith(SUFFIX) else None
            if organ in found:
                what = f"both {found[organ][0]} and {file} are {organ}"
                raise self.wrong(what, self.MASKS, "remove one of them")
            if organ is not None:
                found[organ] = (file,)
        if not found:
            raise self.unfit(self.EXPECTED, self.root, "set `root` to the folder of the cases")
        self.annotate_masks(found)

    def _organ(self, name: str) -> str | None:
        """What a file shows; its colon has the rectum in it, for example."""
        if (organ := _meaning().get(name)) is not None:
            return organ
        try:
            return default_vocabulary().canonical(name, f"hospital {self.hospital}, {name}{SUFFIX}")
        except LifelongCTError as error:
            if self.wanted is not None:
                return None
            fix = f"{error.fix} If it is no organ, list those that are: organs: […]"
            raise self.wrong(error.what, f"file {name}{SUFFIX}", fix) from error


@lru_cache(maxsize=1)
def _meaning() -> dict[str, str]:
    """Name of a file → organ. An organ that follows by rule comes after those that the release names."""
    found: dict[str, str] = {}
    for release in map(native_map, RELEASES):
        for number, name in release.names.items():
            found[name] = next(organ for organ, ids in release.label_ids.items() if number in ids)
    return found
