"""NIfTI files and a manifest that says what they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.nifti import Volume, read_image, read_label, same_grid
from lifelong_ct.data.types import RawCase

FIELDS = ("id", "image", "label", "patient", "modality", "split", "organs", "labels", "licence", "label_kind")
MODALITIES = ("CT", "MR")


class ManifestLayout:
    """Reads a hospital from its manifest.

    A manifest is JSON, {hospital, labels: {organ: id}, cases: [{id, image, label, patient, modality, split,
    organs, labels, licence, label_kind}]}, or CSV with a column per field of a case, where `organs` is
    separated by semicolons and `labels` reads `liver=1;spleen=2`.

    Args:
        hospital: its name in the stream.
        manifest: file, or the manifest itself.
        root: folder that paths start from; that of the manifest's file where None.
        other_labels: error or ignore, for ids in a label map that the manifest does not declare.
        empty_labels: error or ignore, for a label map without any organ.

    Raises:
        LifelongCTError: no manifest, an unknown organ, a wrong field; the case is named.
    """

    def __init__(
        self,
        hospital: str,
        *,
        manifest: str | Mapping[str, Any],
        root: str | None = None,
        other_labels: str = "error",
        empty_labels: str = "error",
    ) -> None:
        self.hospital = hospital
        for key, value in (("other_labels", other_labels), ("empty_labels", empty_labels)):
            if value not in ("error", "ignore"):
                raise LifelongCTError(f"{key}={value!r}", f"hospital {hospital}", "use error or ignore")
        self.other_labels, self.empty_labels = other_labels, empty_labels
        self.root, content = self._open(manifest, root)
        labels = self._labels(content.get("labels") or {}, "labels of the manifest")
        self.labels = self._distinct(labels, "labels of the manifest")
        rows = content.get("cases")
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise self._wrong("`cases` is no list of cases", "cases", "see the README for a manifest")
        self.rows = rows

    def cases(self) -> Iterator[Case]:
        """The cases in the order of the manifest.

        Raises:
            LifelongCTError: the first problem of the manifest, or a missing file.
        """
        for found in self.inspect():
            if isinstance(found, LifelongCTError):
                raise found
            yield found

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
                    raise self._wrong(
                        "the patient is in train and in test",
                        f"case {case.id}, patient {case.patient}",
                        "keep all scans of a patient in one split",
                    )
                ids.add(case.id)
                for path in (case.image, case.label):
                    if path is not None and not path.is_file():
                        raise DataError(
                            "the file does not exist", f"case {case.id}, {path}", "check the path", "missing"
                        )
            except LifelongCTError as error:
                yield error
            else:
                yield case

    def load(self, case: Case) -> RawCase:
        """Voxels of a case.

        Raises:
            DataError: the first problem of its files; the case is named.
        """
        found = self._read(case)
        if isinstance(found, RawCase):
            return found
        raise found[0]

    def problems(self, case: Case) -> list[DataError]:
        """Every problem of a case's files."""
        found = self._read(case)
        return [] if isinstance(found, RawCase) else found

    def _read(self, case: Case) -> RawCase | list[DataError]:
        problems: list[DataError] = []
        image = label = None
        assert case.image is not None
        try:
            image = read_image(case.image, case.modality)
        except DataError as error:
            problems.append(_of(case, error))
        if case.label is not None:
            try:
                label = read_label(case.label)
                if image is not None:
                    same_grid(case.label, label, image)
                local = self._local(case, label)
                _check_sides(case, label, local)
            except DataError as error:
                problems.append(_of(case, error))
        if problems or image is None:
            return problems
        if label is None:
            return image
        return replace(image, label=local, organs=case.organs)

    def _local(self, case: Case, label: Volume) -> np.ndarray:
        """File ids → 1 … n in the order of the case's organs."""
        ids = label.voxels
        present = set(np.unique(ids).tolist()) - {0}
        undeclared = sorted(present - set(case.label_ids.values()))
        where = str(case.label)
        if undeclared and self.other_labels == "error":
            raise DataError(
                f"the ids {undeclared[:5]} are not declared",
                where,
                "declare them, or other_labels: ignore",
                "unknown-label",
            )
        if not present and self.empty_labels == "error":
            raise DataError(
                "nothing is labelled", where, "remove the case, or empty_labels: ignore", "empty-label"
            )
        table = np.zeros(int(ids.max()) + 1, np.uint8 if len(case.organs) < 256 else np.uint16)
        for i, organ in enumerate(case.organs, start=1):
            if case.label_ids[organ] < len(table):
                table[case.label_ids[organ]] = i
        return table[ids]

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
        modality = str(row.get("modality") or "CT").upper()
        if modality not in MODALITIES:
            raise self._wrong(f"the modality is {row['modality']!r}", where, f"use {' or '.join(MODALITIES)}")
        if row["split"] not in ("train", "test"):
            raise self._wrong(f"the split is {row['split']!r}", where, "write train or test")
        organs = self._organs(row.get("organs"), where)
        ids = self._distinct({**self.labels, **self._labels(row.get("labels") or {}, where)}, where)
        if row.get("label") and (not organs or any(organ not in ids for organ in organs)):
            lacking = [organ for organ in organs if organ not in ids]
            what = (
                f"no id is declared for {', '.join(lacking)}" if lacking else "it says no annotated `organs`"
            )
            raise self._wrong(what, where, "declare annotated organs and their ids")
        return Case(
            self.hospital,
            name,
            str(row["patient"]),
            row["split"],
            organs if row.get("label") else (),
            self.root / str(row["image"]),
            self.root / str(row["label"]) if row.get("label") else None,
            ids,
            modality,
            str(row.get("licence") or "unknown"),
            str(row.get("label_kind") or "unknown"),
        )

    def _organs(self, value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, str | list | None):
            raise self._wrong(f"`organs` is {value!r}", where, "list the annotated organs")
        names = [n.strip() for n in value.split(";")] if isinstance(value, str) else value or []
        place = f"hospital {self.hospital}, {where}, organs"
        return tuple(dict.fromkeys(default_vocabulary().canonical(str(n), place) for n in names if n))

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
        if isinstance(manifest, Mapping):
            folder = Path(root or ".")
            if not folder.is_dir():
                raise self._wrong(f"the folder {folder} does not exist", "root", "set paths.data=FOLDER")
            return folder, manifest
        path = Path(root, manifest) if root and (Path(root) / manifest).exists() else Path(manifest)
        folder = Path(root) if root else path.parent
        try:
            text = path.read_text(encoding="utf-8-sig")  # Excel begins a CSV with a byte order mark
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
        return DataError(what, f"hospital {self.hospital}, {where}", fix, "manifest")


def _check_sides(case: Case, label: Volume, local: np.ndarray) -> None:
    """Finds labels that are mirrored against the patient, which no shape or affine shows: what is on the right
    must lie to the right."""
    right_of = {"liver": "spleen"}
    right_of |= {o: other for o, other in default_vocabulary().mirror.items() if o.endswith("_right")}
    for right, left in right_of.items():
        if right in case.organs and left in case.organs:
            x = [_lateral(local == case.organs.index(organ) + 1, label.affine) for organ in (right, left)]
            if x[0] is not None and x[1] is not None and x[0] <= x[1]:
                raise DataError(
                    f"{right} lies to the left of {left}: the labels are mirrored against the scan",
                    str(case.label),
                    "mirror them back, or swap the organs' ids",
                    "geometry-mismatch",
                )


def _lateral(mask: np.ndarray, affine: np.ndarray) -> float | None:
    """Middle of a mask in mm to the right; None where it is empty."""
    found = np.argwhere(mask)
    return float(affine[0, :3] @ found.mean(0) + affine[0, 3]) if len(found) else None


def _of(case: Case, error: DataError) -> DataError:
    return DataError(error.what, f"case {case.id}, {error.where}", error.fix, error.code)
