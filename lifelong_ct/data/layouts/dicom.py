"""A hospital whose scans are folders of DICOM slices."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case, Split
from lifelong_ct.data.file_layout import FileLayout
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.readers.dicom_series import files
from lifelong_ct.data.readers.dicom_slice import header
from lifelong_ct.data.scales import MODALITIES


class DicomLayout(FileLayout):
    """One series per folder; a case is named by the path of its folder below the root.

    The patient is the PatientID of the first slice, the modality its Modality; that is all that listing reads.
    Labels are files on the grid of the scan, such as NIfTI; DICOM segmentations are to be converted.

    Args:
        hospital: its name in the stream.
        root: folder that everything lies below.
        split: {train: […], test: […]} of ids of cases or patterns such as `trial/*`, or a JSON file of that
            below the root. Every series must be in one of them, and every entry must fit a series.
        series: pattern of the folders below the root, `*` or for example `*/*/*` (patient, study, series).
        label: of a case, below the root, with `{case}` for its id; None for no labels.
        masks: organ → file of its mask in `label`, which is a folder then.
        labels: organ → id or ids in `label`, which is a label map then.
        patient: header, or folder: the first folder below the root is the patient.
        licence, label_kind: of all cases; see `Case`.
        options: of `FileLayout`.

    Raises:
        LifelongCTError: an option that is none; the message names it.
    """

    def __init__(
        self,
        hospital: str,
        *,
        root: str,
        split: str | Mapping[str, Sequence[str]],
        series: str = "*",
        label: str | None = None,
        masks: Mapping[str, str] | None = None,
        labels: Mapping[str, int | Sequence[int]] | None = None,
        patient: str = "header",
        licence: str = "unknown",
        label_kind: str = "unknown",
        **options: Any,
    ) -> None:
        super().__init__(hospital, Path(root), **options)
        if not self.root.is_dir():
            raise self.wrong(f"the folder {root} does not exist", "root", "set paths.data=FOLDER")
        if patient not in ("header", "folder"):
            raise self.wrong(f"patient={patient!r}", "patient", "use header or folder")
        if (label is None) != (not masks and not labels) or (masks and labels):
            what = "it needs `label` with either `masks` or `labels`, or none of the three"
            raise self.wrong(what, "label", "label: '{case}.nii.gz' with labels: {liver: 1}")
        self.series, self.label, self.patient = series, label, patient
        self.masks = self._by_organ(masks or {}, "masks")
        ids = self._by_organ(labels or {}, "labels")
        self.label_ids = {o: _whole_numbers(self, o, value) for o, value in ids.items()}
        self.split = self._split(split)
        self.licence, self.label_kind = licence, label_kind

    def inspect(self) -> Iterator[Case | LifelongCTError]:
        """Cases by the names of their folders, one header read for each; then entries of `split` without one."""
        splits: dict[str, str] = {}
        unused = {entry for entries in self.split.values() for entry in entries}
        for folder in sorted(path for path in self.root.glob(self.series) if path.is_dir()):
            name = folder.relative_to(self.root).as_posix()
            unused -= {entry for entry in unused if fnmatch.fnmatchcase(name, entry)}
            try:
                case = self._case(name, folder)
                if splits.setdefault(case.patient, case.split) != case.split:
                    what, fix = (
                        "the patient is in train and in test",
                        "keep all scans of a patient in one split",
                    )
                    if self.patient == "header":
                        fix += "; if all headers name the same one, use patient: folder"
                    raise self.wrong(what, f"case {name}", fix)
            except LifelongCTError as error:
                error.case_id = name
                yield error
            else:
                missing = self.missing(case)
                yield from missing if missing else [case]
        for entry in sorted(unused):
            yield self.wrong("no series fits this entry", f"split, {entry}", "correct it, or remove it")

    def _case(self, name: str, folder: Path) -> Case:
        found = files(folder)
        if not found:
            where = f"case {name}, {folder}"
            raise self.wrong("it holds no DICOM file", where, "set `series`, such as */*/*", "empty-series")
        first = header(found[0], ("PatientID", "Modality"))
        modality = str(first.get("Modality") or "")
        if modality not in MODALITIES:
            fix = f"leave it out; there are {', '.join(MODALITIES)}"
            raise self.wrong(f"its modality is {modality!r}", f"case {name}, {found[0]}", fix, "modality")
        return Case(
            self.hospital,
            name,
            self._patient(name, str(first.get("PatientID") or "").strip()),
            self._side(name),
            tuple(self.masks or self.label_ids),
            (folder,),
            self.root / self.label.replace("{case}", name) if self.label else None,
            masks=self.masks,
            label_ids=self.label_ids,
            modality=modality,
            licence=self.licence,
            label_kind=self.label_kind,
        )

    def _patient(self, name: str, in_header: str) -> str:
        patient = in_header if self.patient == "header" else name.split("/")[0]
        if not patient:
            raise self.wrong("its PatientID is empty", f"case {name}", "use patient: folder", "no-patient")
        return patient

    def _side(self, name: str) -> Split:
        train, test = (any(fnmatch.fnmatchcase(name, e) for e in self.split[s]) for s in ("train", "test"))
        if train == test:
            what = "it is in train and in test" if train else "it is neither in train nor in test"
            raise self.wrong(what, f"case {name}, split", "list it once", "split")
        return "train" if train else "test"

    def _split(self, given: str | Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        fix = (
            "write {train: [cases or patterns], test: […]}, or the name of a JSON file of that below the root"
        )
        try:
            content = json.loads((self.root / given).read_text()) if isinstance(given, str) else given
        except (OSError, ValueError) as error:
            raise self.wrong(f"the split cannot be read: {error}", f"split, {given}", fix) from error
        good = isinstance(content, Mapping) and set(content) <= {"train", "test"}
        if not good or any(isinstance(v, str) or not isinstance(v, Iterable) for v in content.values()):
            raise self.wrong("the split is no lists of train and test", "split", fix)
        return {side: [str(entry) for entry in content.get(side, ())] for side in ("train", "test")}

    def _by_organ(self, given: Mapping[str, Any], key: str) -> dict[str, Any]:
        place = f"hospital {self.hospital}, {key}"
        return {default_vocabulary().canonical(str(organ), place): value for organ, value in given.items()}


def _whole_numbers(layout: FileLayout, organ: str, given: Any) -> tuple[int, ...]:
    values = (given,) if isinstance(given, int) else tuple(given) if isinstance(given, list | tuple) else ()
    if not values or any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in values):
        raise layout.wrong(f"the id of {organ} is {given!r}", "labels", "write whole numbers from 1")
    return values
