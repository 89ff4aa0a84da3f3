"""Layouts that find their cases in a folder: what they share is splits, patients and what is annotated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.paths import is_folder, open_path, why_no_folder
from lifelong_ct.core.types import Case, Split
from lifelong_ct.data.file_layout import FileLayout, lacking
from lifelong_ct.data.splits import read_file, read_splits
from lifelong_ct.data.vocabulary import default_vocabulary

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Entry:
    """A case as its folder tells it.

    Attributes:
        id: of the source.
        images: one per channel.
        label: label map, or folder of masks; None without labels.
        split: train, test or val where the convention says it; None where it says nothing.
        absent: files that should be there and are not.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    split: str | None = None
    absent: tuple[Path, ...] = ()


class FolderLayout(FileLayout):
    """Base of layouts whose cases are what a folder holds.

    Args:
        hospital: its name in the stream.
        root: folder or URL.
        test: ids of the test cases, or patterns such as `site2_*`; all others are for training. Also the name of a
            file of them: JSON, or text with one in each line. `[]` for none.
        split: {train: […], test: […], none: […]} of ids or patterns, or a JSON file of that: then every case must
            be in one of them; `none` leaves cases out.
        val: train, test or none: what cases serve for that the source keeps for validation.
        patients: id → patient, or a JSON file of that; without it every case is a patient of its own.
        organs: annotated organs; None for all that the source defines.
        modality, licence, label_kind: of all cases, where the source does not tell; see `Case`.
        options: of `FileLayout`.

    Raises:
        LifelongCTError: an option that is none.
    """

    MODALITY, LICENCE, LABEL_KIND = "CT", "unknown", "unknown"

    def __init__(
        self,
        hospital: str,
        *,
        root: str,
        test: Any = None,
        split: Any = None,
        val: str | None = None,
        patients: Any = None,
        organs: Sequence[str] | None = None,
        modality: str | None = None,
        licence: str | None = None,
        label_kind: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(hospital, open_path(root), **options)
        if not is_folder(self.root):
            what = f"the folder {root} does not exist{why_no_folder(self.root)}"
            raise self.wrong(what, "root", "set paths.data=FOLDER", "missing")
        if val not in (None, "train", "test", "none"):
            raise self.wrong(f"val={val!r}", "val", "use train, test or none")
        self.val = val
        self.chosen = read_splits(test, split, self.root, f"hospital {hospital}")
        self.patients = self._patients(patients)
        self.wanted = None if organs is None else self._organs(organs)
        self.modality = modality or self.MODALITY
        self.licence, self.label_kind = licence or self.LICENCE, label_kind or self.LABEL_KIND
        self.masks: Mapping[str, str | tuple[str, ...]] = {}
        self.label_ids: Mapping[str, tuple[int, ...]] = {}
        self.pairs: tuple[tuple[str, str], ...] = ()
        self.organs: tuple[str, ...] = ()

    @abstractmethod
    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """What the folder holds, in the order of the ids."""

    @abstractmethod
    def ids(self) -> Iterable[str]:
        """The ids of `entries`, cheaply."""

    def names(self) -> Iterator[str]:
        """Identifiers of cases and patients."""
        yield from self.ids()
        yield from self.patients.values()
        if self.chosen:
            yield from self.chosen.names

    def inspect(self) -> Iterator[Case | LifelongCTError]:
        """Cases, and every problem in place of the case that has it; then what no case fitted."""
        sides: dict[str, Split] = {}
        for entry in self.entries():
            if isinstance(entry, LifelongCTError):
                yield entry
                continue
            try:
                case = self._case(entry)
                if case and sides.setdefault(case.patient, case.split) != case.split:
                    raise self._torn(case)
            except LifelongCTError as error:
                error.case_id = entry.id
                yield error
            else:
                absent = lacking(case, entry.absent) if case else []
                yield from absent or filter(None, [case])
        for name in self.chosen.unused() if self.chosen else ():
            yield self.wrong(
                "no case fits this entry", f"split, case {name}", "correct it, or remove it", "split"
            )

    def keep(self, found: Mapping[str, Value]) -> dict[str, Value]:
        """What the source annotates of the organs that are wanted, in the vocabulary's order.

        Raises:
            DataError: an organ is wanted that the source does not annotate.
        """
        wanted = set(found) if self.wanted is None else set(self.wanted)
        if lacking := sorted(wanted - set(found)):
            what = f"it does not annotate {', '.join(lacking)}"
            raise self.wrong(what, "organs", f"use some of {', '.join(in_order(found))}")
        return {organ: found[organ] for organ in in_order(wanted)}

    def needs_split(self, reason: str) -> DataError:
        """The error that says how to tell training from testing."""
        fix = (
            "write test: [ids or patterns] (the others train; [] for none), or split: {train: […], test: […]}"
        )
        return self.wrong(f"{reason}, so it does not say which cases are for testing", "test", fix, "split")

    def _case(self, entry: Entry) -> Case | None:
        kept_back = entry.split == "test" and entry.label is None
        side = self.chosen.side(entry.id) if self.chosen and not kept_back else self._side(entry)
        if side not in ("train", "test"):
            return None
        if self.patients and entry.id not in self.patients:
            raise self.wrong("its patient is not told", f"patients, case {entry.id}", "add it to `patients`")
        return Case(
            self.hospital,
            entry.id,
            self.patients.get(entry.id, entry.id),
            "train" if side == "train" else "test",
            () if entry.label is None else self.organs,
            entry.images,
            entry.label,
            self.masks,
            self.label_ids,
            self.pairs,
            modality=self.modality,
            licence=self.licence,
            label_kind=self.label_kind,
        )

    def _side(self, entry: Entry) -> str:
        if entry.split == "val" and self.val is None:
            fix = "write val: train, val: test, or val: none to leave these cases out"
            raise self.wrong("the source keeps it for validation", f"case {entry.id}", fix, "split")
        side = self.val if entry.split == "val" else entry.split
        if side is None:
            raise self.wrong(
                "the source does not say what it is for", f"case {entry.id}", "use `split`", "split"
            )
        return side

    def _torn(self, case: Case) -> DataError:
        where = f"case {case.id}, patient {case.patient}"
        fix = "keep all scans of a patient in one split"
        return self.wrong("the patient is in train and in test", where, fix, "patient-in-both")

    def _patients(self, given: Any) -> dict[str, str]:
        content = read_file(given, self.root, f"hospital {self.hospital}, patients")
        if not isinstance(content, Mapping | None):
            raise self.wrong("it is no table", "patients", "write {id: patient}, or name a JSON file of that")
        return {str(name): str(patient) for name, patient in (content or {}).items()}

    def _organs(self, given: Sequence[str]) -> dict[str, str]:
        """Canonical organ → as the user writes it."""
        if isinstance(given, str) or not given:
            raise self.wrong(f"organs={given!r}", "organs", "list the annotated organs")
        where = f"hospital {self.hospital}, organs"
        return {default_vocabulary().canonical(str(organ), where): str(organ) for organ in given}


def in_order(organs: Iterable[str]) -> tuple[str, ...]:
    """Canonical organs in the vocabulary's order, whatever order a source has: it is part of a volume's digest."""
    place = {organ: i for i, organ in enumerate(default_vocabulary().organs)}
    return tuple(sorted(organs, key=place.__getitem__))
