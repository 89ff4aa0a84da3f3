"""The `dataset.json` of nnU-Net and of the Medical Segmentation Decathlon: what they have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.paths import listing
from lifelong_ct.data.folder_layout import FolderLayout
from lifelong_ct.data.labels import default_vocabulary

FILE = "dataset.json"
OTHER = "other"
"""Key of ids that are declared and are no organ."""
_MR = ("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "adc", "dwi", "pd")
_MODALITIES = {"ct": "CT", **dict.fromkeys(_MR, "MR"), "us": "US", "ultrasound": "US"}


class DatasetJsonLayout(FolderLayout):
    """Base of these layouts.

    Args:
        hospital: its name in the stream.
        labels: organ → id or ids, in place of the names in the file.
        modality: CT or MR, where the names of the channels do not tell.
        options: of `FolderLayout`. With `organs`, names in the file that are no organs are left alone.
    """

    EXPECTED = ""

    def __init__(
        self,
        hospital: str,
        *,
        labels: Mapping[str, Any] | None = None,
        modality: str | None = None,
        licence: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(hospital, **options)
        self.content = self._read()
        own = self.content.get("licence") or self.content.get("license")
        self.licence = licence or str(own or self.LICENCE)
        self._given_labels, self._given_modality = labels, modality

    def describe(self, names: Mapping[str, Iterable[int]], channels: Any) -> None:
        """Sets organs, ids and modality.

        Args:
            names: of the file → ids, without the background.
            channels: number → name of each channel, or a list of names.

        Raises:
            LifelongCTError: a name that is no organ, ids that are none, or a modality that is not known.
        """
        self.label_ids = (
            self._own(self._given_labels) if self._given_labels is not None else self._by_name(names)
        )
        self.organs = tuple(self.keep({o: ids for o, ids in self.label_ids.items() if o != OTHER}))
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
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.wrong(f"it cannot be read: {error}", str(path), "copy it again") from error
        if not isinstance(content, Mapping):
            raise self.wrong("it is no JSON object", str(path), "copy it again")
        return content

    def _own(self, given: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        where = f"hospital {self.hospital}, labels"
        if not isinstance(given, Mapping) or not given:
            raise self.wrong(f"labels={given!r}", "labels", "write organ: id for each")
        return {
            default_vocabulary().canonical(str(organ), where): self.whole(ids, str(organ), "labels")
            for organ, ids in given.items()
        }

    def _by_name(self, names: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for name, ids in names.items():
            organ = self._organ(name)
            found[organ] = tuple(dict.fromkeys((*found.get(organ, ()), *ids)))
        return found

    def _organ(self, name: str) -> str:
        try:
            return default_vocabulary().canonical(name, f"hospital {self.hospital}, labels of {FILE}")
        except LifelongCTError as error:
            if self.wanted is not None:
                return OTHER
            fix = f"{error.fix} Say what its ids mean, labels: {{organ: id}}, or list the organs, organs: […]"
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
                self._folders[path.parent] = _names(path.parent)
            if path.name not in self._folders[path.parent]:
                yield path


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(listing(folder))
    except OSError:
        return frozenset()
