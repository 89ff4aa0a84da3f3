"""NIfTI files and a manifest that says what they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.paths import below, exists, is_folder, open_path, read_text
from lifelong_ct.core.types import Case
from lifelong_ct.data.file_layout import FileLayout
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.native_maps import NativeMap, native_map, own_map
from lifelong_ct.data.scales import each_modality

FIELDS = ("id", "image", "label", "patient", "modality", "split", "organs", "labels", "licence", "label_kind")


class ManifestLayout(FileLayout):
    """Reads a hospital from its manifest.

    A manifest is JSON, {hospital, labels: {organ: id}, cases: [{id, image, label, patient, modality, split,
    organs, labels, licence, label_kind}]}, or CSV with a column per field of a case, where `organs` is
    separated by semicolons and `labels` reads `liver=1;spleen=2`. A list of images is one channel each.
    `labels` may also name a map that ships with the library, as `KiTS`; then `organs` may be left out where the
    release annotates the same organs in every case.

    Args:
        hospital: its name in the stream.
        manifest: file, or the manifest itself.
        root: folder or URL that paths start from; that of the manifest's file where None.
        options: of `FileLayout`.

    Raises:
        LifelongCTError: no manifest, an unknown organ, a wrong field; the case is named.
    """

    def __init__(
        self, hospital: str, *, manifest: str | Mapping[str, Any], root: str | None = None, **options: Any
    ) -> None:
        self.hospital = hospital
        folder, content = self._open(manifest, root)
        super().__init__(hospital, folder, **options)
        self.ids: dict[str, int] = {}
        self.labels = self._map(content.get("labels") or {}, "labels of the manifest")
        if not self.labels.names:
            self.ids = self._labels(content.get("labels") or {}, "labels of the manifest")
        rows = content.get("cases")
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise self._wrong("`cases` is no list of cases", "cases", "see the README for a manifest")
        self.rows = rows

    def inspect(self) -> Iterator[Case | LifelongCTError]:
        """Cases, and every problem of the manifest in place of the case that has it."""
        ids: set[str] = set()
        splits: dict[str, str] = {}
        for row in self.rows:
            try:
                case = self._case(row)
                if case.id in ids:
                    raise self._wrong("the id is used twice", f"case {case.id}", "give every case its own id")
                other = splits.setdefault(case.patient, case.split)
                if other != case.split:
                    raise self.wrong(
                        "the patient is in train and in test",
                        f"case {case.id}, patient {case.patient}",
                        "keep all scans of a patient in one split",
                        "patient-in-both",
                    )
                ids.add(case.id)
            except LifelongCTError as error:
                error.case_id = str(row["id"]) if isinstance(row.get("id"), (str, int)) else ""
                yield error
            else:
                missing = self.missing(case)
                yield from missing if missing else [case]

    def _case(self, row: Mapping[str, Any]) -> Case:
        name = str(row.get("id") or "")
        where = f"case {name or '?'}"
        unknown = sorted(set(row) - set(FIELDS))
        if unknown:
            raise self._wrong(f"unknown field {unknown[0]!r}", where, f"fields are {', '.join(FIELDS)}")
        for key in ("id", "image", "patient", "split"):
            if not row.get(key):
                raise self._wrong(f"the field {key!r} is missing", where, "give it")
        for key in ("id", "patient"):
            if not isinstance(row[key], (str, int)):
                raise self._wrong(f"the field {key!r} is no text", "case ?", "write a text or a number")
        images = row["image"] if isinstance(row["image"], list) else [row["image"]]
        modality = str(row.get("modality") or "CT").upper()
        each_modality(modality, len(images), f"hospital {self.hospital}, {where}")
        if row["split"] not in ("train", "test"):
            raise self._wrong(f"the split is {row['split']!r}", where, "write train or test")
        known = self._map(row["labels"], where) if row.get("labels") else self.labels
        organs = self._organs(row.get("organs"), where)
        if not organs and known.names and not known.partial:
            organs = known.organs
        if row.get("label") and (not organs or any(organ not in known.label_ids for organ in organs)):
            lacking = [organ for organ in organs if organ not in known.label_ids]
            what = (
                f"no id is declared for {', '.join(lacking)}" if lacking else "it says no annotated `organs`"
            )
            fix = "declare annotated organs and their ids"
            if known.partial:
                fix = f"list those of this case: in {known.name} they differ from case to case"
            raise self._wrong(what, where, fix)
        return Case(
            self.hospital,
            name,
            str(row["patient"]),
            row["split"],
            organs if row.get("label") else (),
            tuple(below(self.root, str(image)) for image in images),
            below(self.root, str(row["label"])) if row.get("label") else None,
            label_ids=known.label_ids,
            splits=known.splits,
            modality=modality,
            licence=str(row.get("licence") or "unknown"),
            label_kind=str(row.get("label_kind") or "unknown"),
        )

    def _organs(self, value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, str | list | None):
            raise self._wrong(f"`organs` is {value!r}", where, "list the annotated organs")
        names = [n.strip() for n in value.split(";")] if isinstance(value, str) else value or []
        place = f"hospital {self.hospital}, {where}, organs"
        return tuple(dict.fromkeys(default_vocabulary().canonical(str(n), place) for n in names if n))

    def _map(self, value: Any, where: str) -> NativeMap:
        """What the ids mean: a map that ships with the library, by its name, or organs and their ids."""
        place = f"hospital {self.hospital}, {where}"
        if isinstance(value, str) and value and "=" not in value:
            return native_map(value, place)
        ids = self._distinct({**self.ids, **self._labels(value, where)}, where)
        return own_map(place, {organ: (number,) for organ, number in ids.items()})

    def _labels(self, value: Any, where: str) -> dict[str, int]:
        if isinstance(value, str):
            value = dict(part.split("=", 1) for part in value.split(";") if "=" in part)
        if not isinstance(value, Mapping):
            raise self._wrong(f"`labels` is {value!r}", where, "write organ: id for each")
        place = f"hospital {self.hospital}, {where}"
        labels: dict[str, int] = {}
        for organ, number in value.items():
            digits = str(number).strip() if isinstance(number, (int, str)) else ""
            if not digits.removeprefix("-").isdecimal():
                raise self._wrong(f"the id of {organ} is {number!r}", where, "write a whole number")
            labels[default_vocabulary().canonical(str(organ), place)] = int(digits)
        return labels

    def _distinct(self, labels: dict[str, int], where: str) -> dict[str, int]:
        twice = sorted({n for n in labels.values() if list(labels.values()).count(n) > 1})
        if twice or 0 in labels.values():
            raise self._wrong(
                f"the id {(twice or [0])[0]} cannot stand for an organ", where, "one id per organ, not 0"
            )
        return labels

    def _open(self, manifest: str | Mapping[str, Any], root: str | None) -> tuple[Path, Mapping[str, Any]]:
        base = open_path(root) if root else None
        if isinstance(manifest, Mapping):
            folder = base or Path()
            if not is_folder(folder):
                raise self._wrong(f"the folder {folder} does not exist", "root", "set paths.data=FOLDER")
            return folder, manifest
        path = below(base, manifest) if base and exists(below(base, manifest)) else open_path(manifest)
        folder = base or path.parent
        try:
            text = read_text(path)
            if path.suffix == ".csv":
                return folder, {"cases": list(csv.DictReader(text.splitlines()))}
            content = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise self._wrong(
                f"the manifest cannot be read: {error}", str(path), "give a JSON or CSV file"
            ) from error
        if not isinstance(content, Mapping):
            raise self._wrong("the manifest is no JSON object", str(path), "see the README for a manifest")
        return folder, content

    def _wrong(self, what: str, where: str, fix: str) -> DataError:
        return self.wrong(what, where, fix, "manifest")
