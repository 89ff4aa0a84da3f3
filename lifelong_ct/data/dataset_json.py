"""The `dataset.json` of nnU-Net and of the Medical Segmentation Decathlon: what they have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.paths import listing, names, read_text
from lifelong_ct.core.types import OTHER, UNKNOWN
from lifelong_ct.data.folder_layout import FolderLayout
from lifelong_ct.data.native_maps import NativeMap, native_map, own_map
from lifelong_ct.data.vocabulary import default_vocabulary

FILE = "dataset.json"
_MR = ("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "adc", "dwi", "pd")
_MODALITIES = {"ct": "CT", **dict.fromkeys(_MR, "MR"), "us": "US", "ultrasound": "US"}

Ids = tuple[int, ...]


class DatasetJsonLayout(FolderLayout):
    """Base of these layouts.

    Args:
        hospital: its name in the stream.
        labels: organ → id or ids, or the name of a map that ships with the library such as `MSD Liver`, in place of
            the names in the file.
        modality: of all channels or of each such as CT+MR, where the names of the channels do not tell.
        options: of `FolderLayout`. With `organs`, names in the file that are no organs are left alone.
    """

    EXPECTED = ""

    def __init__(
        self,
        hospital: str,
        *,
        labels: str | Mapping[str, Any] | None = None,
        modality: str | None = None,
        licence: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(hospital, **options)
        self.content = self._read()
        own = self.content.get("licence") or self.content.get("license")
        self.licence = licence or str(own or self.LICENCE)
        self._labels, self._given_modality = labels, modality

    def describe(self, named: Mapping[str, Ids], channels: Any, unknown: Ids = ()) -> None:
        """Sets organs, ids and modality.

        Args:
            named: names of the file → ids, without the background.
            channels: number → name of each channel, or a list of names.
            unknown: ids of voxels that nobody annotated.

        Raises:
            LifelongCTError: a name that is no organ, ids that are none, or a modality that is not known.
        """
        known = self._known(named)
        if known.partial and self.wanted is None:
            what = f"in {known.name} the organs differ from case to case"
            raise self.wrong(what, "labels", "list those that all cases annotate: organs: […]")
        if unknown:
            known = replace(known, label_ids={**known.label_ids, UNKNOWN: unknown})
        self.label_ids, self.pairs = known.label_ids, known.splits
        self.organs = tuple(self.keep(dict.fromkeys(known.organs)))
        self.modality = self._given_modality or self._modality(channels)

    def whole(self, value: Any, name: str, where: str) -> tuple[int, ...]:
        """Ids, each from 1."""
        ids = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not ids or any(not isinstance(i, int) or isinstance(i, bool) or i < 1 for i in ids):
            raise self.wrong(f"the id of {name!r} is {value!r}", where, "write whole numbers from 1")
        return ids

    def _read(self) -> Mapping[str, Any]:
        if FILE not in listing(self.root):
            raise self.unfit(self.EXPECTED, self.root, f"set `root` to the folder of {FILE}")
        path = self.root / FILE
        try:
            content = json.loads(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise self.wrong(f"it cannot be read: {error}", str(path), "copy it again") from error
        if not isinstance(content, Mapping):
            raise self.wrong("it is no JSON object", str(path), "copy it again")
        return content

    def _known(self, named: Mapping[str, Ids]) -> NativeMap:
        where = f"hospital {self.hospital}, labels"
        if isinstance(self._labels, str):
            return native_map(self._labels, where)
        if self._labels is None:
            found: dict[str, Ids] = {}
            for name, ids in named.items():
                organ = self._organ(name)
                found[organ] = tuple(dict.fromkeys((*found.get(organ, ()), *ids)))
            return own_map(FILE, found)
        if not isinstance(self._labels, Mapping) or not self._labels:
            raise self.wrong(
                f"labels={self._labels!r}", "labels", "write organ: id for each, or the name of a map"
            )
        canonical = default_vocabulary().canonical
        return own_map(
            where,
            {canonical(str(o), where): self.whole(i, str(o), "labels") for o, i in self._labels.items()},
        )

    def _organ(self, name: str) -> str:
        try:
            return default_vocabulary().canonical(name, f"hospital {self.hospital}, labels of {FILE}")
        except LifelongCTError as error:
            if self.wanted is not None:
                return OTHER
            fix = (
                f"{error.fix} Say what the ids mean, labels: {{organ: id}} or the name of a map such as MSD Liver; "
                "or list the organs, organs: […]"
            )
            raise self.wrong(error.what, f"labels of {self.root / FILE}", fix) from error

    def _modality(self, channels: Any) -> str:
        names = list(channels.values()) if isinstance(channels, Mapping) else list(channels or ())
        known = [_MODALITIES.get(str(name).strip().lower()) for name in names]
        if not known or None in known:
            what = f"expected channels such as CT or T1; found {names}"
            raise self.wrong(what, str(self.root / FILE), "write modality: CT, or MR")
        return "+".join(dict.fromkeys(map(str, known))) if len(set(known)) == 1 else "+".join(map(str, known))


class Presence:
    """Which files there are, by one look at each of their folders."""

    def __init__(self) -> None:
        self._folders: dict[Path, frozenset[str]] = {}

    def lacking(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Those that are not there."""
        for path in paths:
            if path.parent not in self._folders:
                self._folders[path.parent] = _inside(path.parent)
            if path.name not in self._folders[path.parent]:
                yield path


def _inside(folder: Path) -> frozenset[str]:
    try:
        return frozenset(names(folder))
    except OSError:
        return frozenset()
