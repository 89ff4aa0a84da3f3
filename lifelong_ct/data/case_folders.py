"""Layouts with a folder per case: a scan, and a mask per organ or a label map of all."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lifelong_ct.core.paths import listing, names
from lifelong_ct.data.folder_layout import Entry, FolderLayout
from lifelong_ct.data.native_maps import splits_of, with_rules


@dataclass(frozen=True, slots=True)
class Contents:
    """Of the folder of a case: whether scan and labels are there, and the names of the masks."""

    image: bool
    label: bool
    masks: frozenset[str]


class CaseFolders(FolderLayout):
    """Base of these layouts.

    Args:
        hospital: its name in the stream.
        folders: pattern of the folders below the root that are cases.
        options: of `FolderLayout`.
    """

    MASKS = "segmentations"
    MAPS: tuple[str, ...] = ()
    EXPECTED = ""
    """What the root holds, for whoever has another one."""

    def __init__(self, hospital: str, *, folders: str = "*", **options: Any) -> None:
        super().__init__(hospital, **options)
        self.folders = folders
        self._shared: dict[frozenset[str], frozenset[str]] = {}
        self.image = "ct.nii.gz"

    def ids(self) -> Iterator[str]:
        """Names of the folders."""
        for name, is_folder in listing(self.root).items():
            if is_folder and fnmatch.fnmatchcase(name, self.folders):
                yield name

    def found(self) -> list[str]:
        """Ids.

        Raises:
            DataError: there is none, or no folder looks like a case.
        """
        found = list(self.ids())
        if not any(self._fits(name) for name in found):
            fix = (
                "set `root` to the folder that holds the folders of the cases, or `folders` to their pattern"
            )
            raise self.unfit(self.EXPECTED, self.root, fix)
        return found

    def _fits(self, name: str) -> bool:
        try:
            return not {self.image, self.MASKS, *self.MAPS}.isdisjoint(names(self.root / name))
        except OSError:
            return False

    def annotate_masks(self, found: Mapping[str, tuple[str, ...]]) -> None:
        """Sets organs and masks.

        Args:
            found: organ → names of the files that together are it; organs that follow by rule are added.
        """
        derived = with_rules(found)
        self.masks = self.keep(
            {organ: files[0] if len(files) == 1 else files for organ, files in derived.items()}
        )
        self.pairs = splits_of({organ: derived[organ] for organ in self.masks})
        self.organs = tuple(self.masks)

    def files(self) -> frozenset[str]:
        """Names of all masks."""
        each = ((files,) if isinstance(files, str) else files for files in self.masks.values())
        return frozenset(chain.from_iterable(each))

    def contents(self, name: str, label: str) -> Contents:
        """What the folder of a case holds, as far as it matters.

        Args:
            name: of the folder.
            label: file of the label map, or `MASKS`.

        Raises:
            DataError: it cannot be listed.
        """
        folder = self.root / name
        try:
            inside = names(folder)
            masks = frozenset(names(folder / label) if label == self.MASKS and label in inside else ())
        except OSError as error:
            what = f"it cannot be listed: {error}"
            raise self.wrong(
                what, f"case {name}, {folder}", "check its rights, or copy it again", "missing"
            ) from error
        return Contents(self.image in inside, label in inside, self._shared.setdefault(masks, masks))

    def entry(
        self, name: str, label: str, inside: Contents, needed: frozenset[str], split: str | None = None
    ) -> Entry:
        """The entry of a case, with what it lacks of the masks that are needed."""
        folder = self.root / name
        absent = [] if inside.image else [folder / self.image]
        if not inside.label:
            absent.append(folder / label)
        elif lacking := needed - inside.masks:
            absent += [folder / label / mask for mask in sorted(lacking)]
        return Entry(name, (folder / self.image,), folder / label, split, tuple(absent))
