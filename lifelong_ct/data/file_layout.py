"""What layouts of files have in common: a layout lists cases, this reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.paths import exists, listing
from lifelong_ct.core.types import Case
from lifelong_ct.data.annotations import Rules, annotate, read_label
from lifelong_ct.data.images import Watch, nobody, read_image, same_grid
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.types import RawCase


class MissingFile(DataError):
    """A file of a case is not there.

    Args:
        case: whose file.
        path: of the file.
        first: of the case's such errors; whoever collects problems looks at the case's other files then.
    """

    def __init__(self, case: Case, path: Path, first: bool) -> None:
        fix = "check the path, or leave the case out"
        super().__init__("the file does not exist", f"case {case.id}, {path}", fix, "missing")
        self.case, self.path, self.first = case, path, first

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are made again from what they tell; this one is made from a case."""
        return type(self), (self.case, self.path, self.first)


def lacking(case: Case, absent: Sequence[Path]) -> list[LifelongCTError]:
    """An error for each file that is not there."""
    return [MissingFile(case, path, first=i == 0) for i, path in enumerate(absent)]


class FileLayout(ABC):
    """Base of layouts that read files.

    Args:
        hospital: its name in the stream.
        root: folder that everything lies below.
        other_labels: error or ignore, for ids in a label map that are not declared.
        empty_labels: error or ignore, for a case without any labelled voxel.
        priority: organs; where two overlap that do not contain one another, the earlier keeps the voxel.
        shapes: how meshes, points and fields lie in space; see `Shapes`.

    Raises:
        LifelongCTError: an option that is none, or an unknown organ.
    """

    def __init__(
        self,
        hospital: str,
        root: Path,
        *,
        other_labels: str = "error",
        empty_labels: str = "error",
        priority: Sequence[str] = (),
        shapes: Mapping[str, Any] | None = None,
    ) -> None:
        self.hospital, self.root = hospital, root
        for key, value in (("other_labels", other_labels), ("empty_labels", empty_labels)):
            if value not in ("error", "ignore"):
                raise LifelongCTError(f"{key}={value!r}", f"hospital {hospital}", "use error or ignore")
        names = (default_vocabulary().canonical(o, f"hospital {hospital}, priority") for o in priority)
        self.shapes = Shapes.of(shapes, f"hospital {hospital}, shapes")
        self.rules = Rules(other_labels, empty_labels, tuple(names), self.shapes)

    @abstractmethod
    def inspect(self) -> Iterator[Case | LifelongCTError]:
        """Cases, and every problem of the listing in place of the case that has it; headers only."""

    def names(self) -> Iterator[str]:
        """Identifiers of cases and patients, as far as they are told without looking at each case: what errors of
        the listing may not show outside."""
        return iter(())

    def cases(self) -> Iterator[Case]:
        """The cases. What shapes are read with is part of them: other options make other volumes.

        Raises:
            LifelongCTError: the first problem of the listing, or a missing file.
        """
        plain = self.shapes == Shapes()
        for found in self.inspect():
            if isinstance(found, LifelongCTError):
                raise found
            yield found if plain else replace(found, params={**found.params, "shapes": asdict(self.shapes)})

    def load(self, case: Case) -> RawCase:
        """Voxels of a case.

        Raises:
            DataError: the first problem of its files; the case is named.
        """
        try:
            return annotate(case, read_image(case.images, case.modality, self.shapes), self.rules)
        except DataError as error:
            raise of_case(case, error) from error

    def problems(self, case: Case, watch: Watch = nobody) -> list[DataError]:
        """Every problem of a case's files; `watch` as of `read_image`."""
        found: list[DataError] = []
        image = None
        try:
            image = read_image(case.images, case.modality, self.shapes, watch)
        except DataError as error:
            found.append(of_case(case, error))
        if image is None:
            return [*found, *self._label_problems(case)]
        try:
            annotate(case, image, self.rules)
        except DataError as error:
            each = list(self._label_problems(case, image))
            told = of_case(case, error)
            found += each if any(e.where == told.where for e in each) else [told, *each]
        return found

    def _label_problems(self, case: Case, image: RawCase | None = None) -> Iterator[DataError]:
        """Of each file of labels, and how it lies where there is an image."""
        for path in case.files[len(case.images) :]:
            try:
                label = read_label(path, image, self.shapes)
                if image is not None:
                    same_grid(path, label, image)
            except DataError as error:
                if error.code != "no-voxel-size":  # a shape gets the grid of its image, which is not there
                    yield of_case(case, error)

    def missing(self, case: Case) -> list[LifelongCTError]:
        """An error for each file that is not there."""
        return lacking(case, [path for path in case.files if not exists(path)])

    def unfit(self, expected: str, folder: Path, fix: str) -> DataError:
        """The error about a folder that is laid out in another way: what was expected and what is there."""
        try:
            inside = listing(folder)
        except OSError as error:
            return self.wrong(f"it cannot be listed: {error}", f"folder {folder}", fix, "missing")
        folders = sum(inside.values())
        found = f"{folders} folders and {len(inside) - folders} files"
        if inside:
            found += f", such as '{folder / next(iter(inside))}'"
        return self.wrong(f"expected {expected}; found {found}", f"folder {folder}", fix)

    def wrong(self, what: str, where: str, fix: str, code: str = "layout") -> DataError:
        """The error about the listing of this hospital."""
        return DataError(what, f"hospital {self.hospital}, {where}", fix, code)


def of_case(case: Case, error: DataError) -> DataError:
    """The error with the case named."""
    return DataError(error.what, f"case {case.id}, {error.where}", error.fix, error.code)
