"""Medical Segmentation Decathlon: Antonelli et al., Nature Communications 2022, doi 10.1038/s41467-022-30695-9."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.paths import below
from lifelong_ct.data.dataset_json import FILE, DatasetJsonLayout, Presence
from lifelong_ct.data.folder_layout import Entry

LISTS = {"training": "train", "validation": "val", "test": "test"}


class MsdLayout(DatasetJsonLayout):
    """Reads a task: `dataset.json` with {modality, labels: {id: name}, training: [{image, label}], test: [image]}.

    Others use the format too, some with a list `validation` or with labels of the test cases. Where these are kept
    back, as in the decathlon, `test` or `split` is needed; it speaks of the cases that have labels.

    Args:
        hospital: its name in the stream.
        options: of `DatasetJsonLayout`.

    Raises:
        LifelongCTError: an option that is none, or another `dataset.json`.
    """

    LABEL_KIND = "expert"
    EXPECTED = f"a task with {FILE}, imagesTr and labelsTr"

    def __init__(self, hospital: str, **options: Any) -> None:
        super().__init__(hospital, **options)
        labels, content = self.content.get("labels"), self.content
        if not isinstance(labels, Mapping) or not all(str(key).isdecimal() for key in labels):
            hint = "; this one is of nnU-Net: layout: nnunet" if "channel_names" in content else ""
            what = f"expected labels: {{id: name}}; found {labels!r}"
            raise self.wrong(what, str(self.root / FILE), f"copy it from the release{hint}")
        names: dict[str, tuple[int, ...]] = {}
        for number, name in labels.items():
            if int(number):
                names[str(name)] = (*names.get(str(name), ()), int(number))
        self.describe(names, content.get("modality"))
        self._rows = [(split, row) for key, split in LISTS.items() for row in self._list(key)]
        if self.chosen is None and not any(split == "test" and label for split, (_, label) in self._rows):
            raise self.needs_split("its test cases have no labels")

    def ids(self) -> Iterable[str]:
        """Names of the images."""
        return (_id(image) for _, (image, _) in self._rows)

    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """Its lists, one after the other."""
        presence, seen = Presence(), set()
        for split, (image, label) in self._rows:
            name = _id(image)
            if name in seen:
                yield self.wrong(
                    "it is listed twice", f"case {name}, {self.root / FILE}", "remove one of them"
                )
                continue
            seen.add(name)
            scan = below(self.root, image)
            labels = None if label is None else below(self.root, label)
            absent = presence.lacking(path for path in (scan, labels) if path is not None)
            yield Entry(name, (scan,), labels, split, tuple(absent))

    def _list(self, key: str) -> Iterator[tuple[str, str | None]]:
        """Image and label of each row."""
        rows = self.content.get(key) or []
        for row in rows if isinstance(rows, list) else [rows]:
            image, label = (row.get("image"), row.get("label")) if isinstance(row, Mapping) else (row, None)
            if (
                not isinstance(image, str)
                or not isinstance(label, str | None)
                or (label is None and key != "test")
            ):
                found = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
                what = f"expected rows of image and label in `{key}`; found {found}"
                raise self.wrong(what, str(self.root / FILE), "mend it, or copy it from the release")
            yield _plain(image), None if label is None else _plain(label)


def _plain(path: str) -> str:
    return path.removeprefix("./")


def _id(image: str) -> str:
    return PurePosixPath(image).name.removesuffix(".gz").removesuffix(".nii")
