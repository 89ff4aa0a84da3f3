"""nnU-Net v2 raw datasets: Isensee et al., Nature Methods 2021, doi 10.1038/s41592-020-01008-z."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.paths import below, listing
from lifelong_ct.data.dataset_json import FILE, DatasetJsonLayout, Presence
from lifelong_ct.data.folder_layout import Entry
from lifelong_ct.data.readers.nifti import SUFFIXES
from lifelong_ct.data.splits import Splits, read_file


class NnunetLayout(DatasetJsonLayout):
    """Reads `Dataset###_<name>/{dataset.json, imagesTr/<case>_<channel>.nii.gz, labelsTr/<case>.nii.gz}`.

    Cases of `imagesTr` train, those of `imagesTs` test where `labelsTs` has their labels; otherwise `fold`, `test` or
    `split` is needed. A region is an organ with several ids; voxels of the label `ignore` are unknown. `dataset` in `dataset.json` (case → images and label)
    takes the place of `imagesTr`.

    Args:
        hospital: its name in the stream.
        fold: of `splits_final.json`: its `val` cases are for testing; `imagesTs` is left alone.
        splits: that file, which nnU-Net keeps in its folder of preprocessed data.
        options: of `DatasetJsonLayout`.

    Raises:
        LifelongCTError: an option that is none, or another `dataset.json`.
    """

    EXPECTED = f"a dataset with {FILE}, imagesTr and labelsTr"

    def __init__(
        self, hospital: str, *, fold: int | None = None, splits: str = "splits_final.json", **options: Any
    ) -> None:
        super().__init__(hospital, **options)
        self.ending = str(self.content.get("file_ending"))
        labels, channels = self._described()
        ignored = self.whole(labels["ignore"], "ignore", "labels") if "ignore" in labels else ()
        self.describe(self._organs_of(labels), channels, ignored)
        self.channels = len(channels)
        self._parts = {"Tr": "train"} if fold is not None else {"Tr": "train", "Ts": "test"}
        if fold is not None:
            self.chosen = self._fold(fold, splits)
        elif self.chosen is None and not self._folder("labelsTs"):
            raise self.needs_split("it has no labelsTs")

    def ids(self) -> Iterable[str]:
        """Names of the images without channel."""
        for part in self._parts:
            own = self.content.get("dataset") if part == "Tr" else None
            yield from own if isinstance(own, Mapping) else self._images(part)

    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """Training cases, then test cases."""
        presence = Presence()
        found = {part: self._cases(part) for part in self._parts}
        if not any(found.values()):
            raise self.unfit(self.EXPECTED, self.root, "set `root` to the folder of one dataset")
        for part, split in self._parts.items():
            labelled = part == "Tr" or bool(self._folder("labelsTs"))
            for name, (images, label) in found[part].items():
                if len(images) > self.channels or (part == "Ts" and name in found["Tr"]):
                    twice = "it is in imagesTr and in imagesTs"
                    many = f"it has {len(images)} channels, {FILE} {self.channels}"
                    what = many if len(images) > self.channels else twice
                    yield self.wrong(what, f"case {name}, {images[0]}", f"mend {FILE}, or remove files")
                    continue
                labels = label if labelled else None
                absent = presence.lacking((*images, *filter(None, [labels])))
                yield Entry(name, images, labels, split, tuple(absent))
            yield from self._orphans(part, {label.name for _, label in found[part].values()})

    def _orphans(self, part: str, known: set[str]) -> Iterator[LifelongCTError]:
        for file in self._folder(f"labels{part}"):
            if file.endswith(self.ending) and file not in known:
                where = f"'{self.root / f'labels{part}' / file}'"
                yield self.wrong("it is a label without an image", where, "copy the image, or remove it")

    def _cases(self, part: str) -> dict[str, tuple[tuple[Path, ...], Path]]:
        """Case → its images, one per channel that there is or should be, and its label."""
        if part == "Tr" and "dataset" in self.content:
            return dict(self._listed(self.content["dataset"]))
        images, labels = self.root / f"images{part}", self.root / f"labels{part}"
        return {
            name: (
                tuple(images / f"{name}_{i:04d}{self.ending}" for i in sorted(numbers)),
                labels / f"{name}{self.ending}",
            )
            for name, numbers in self._images(part).items()
        }

    def _images(self, part: str) -> dict[str, set[int]]:
        """Case → numbers of its channels, those that should be there included."""
        pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(self.ending)}")
        found: dict[str, set[int]] = {}
        for match in filter(None, map(pattern.fullmatch, self._folder(f"images{part}"))):
            found.setdefault(match[1], set(range(self.channels))).add(int(match[2]))
        return dict(sorted(found.items()))

    def _listed(self, dataset: Any) -> Iterator[tuple[str, tuple[tuple[Path, ...], Path]]]:
        for name, row in dataset.items() if isinstance(dataset, Mapping) else ():
            images, label = (
                (row.get("images"), row.get("label")) if isinstance(row, Mapping) else (None, None)
            )
            if not isinstance(images, list) or not isinstance(label, str):
                what = "expected {images: […], label} in `dataset`"
                raise self.wrong(what, f"case {name}, {self.root / FILE}", "mend it")
            paths = [below(self.root, os.path.expandvars(str(path))) for path in (*images, label)]
            yield str(name), (tuple(paths[:-1]), paths[-1])

    def _folder(self, name: str) -> dict[str, bool]:
        try:
            return listing(self.root / name)
        except OSError:
            return {}

    def _described(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Labels and channels of the file."""
        labels, channels = self.content.get("labels"), self.content.get("channel_names")
        if (
            isinstance(labels, Mapping)
            and isinstance(channels, Mapping)
            and not all(str(name).isdecimal() for name in labels)
            and self.ending in SUFFIXES
        ):
            return labels, channels
        keys = ("channel_names", "labels", "file_ending")
        what = f"expected channel_names, labels: {{name: id}} and file_ending {' or '.join(SUFFIXES)}; found "
        what += ", ".join(f"{key}: {self.content.get(key)!r}" for key in keys)
        hint = "; this one is of the decathlon: layout: msd" if "modality" in self.content else ""
        raise self.wrong(what, str(self.root / FILE), f"convert the dataset to nnU-Net v2{hint}")

    def _organs_of(self, labels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Names of regions or labels and their ids."""
        where = f"labels of {self.root / FILE}"
        return {
            str(name): self.whole(ids, str(name), where)
            for name, ids in labels.items()
            if ids not in (0, [0]) and name != "ignore"
        }

    def _fold(self, fold: int, file: str) -> Splits:
        where = f"hospital {self.hospital}, fold {fold} of {file}"
        if self.chosen is not None:
            raise self.wrong("`fold` is given beside `test` or `split`", "fold", "keep one of them", "split")
        folds = read_file(file, self.root, where)
        if not isinstance(folds, list) or not all(
            isinstance(f, Mapping) and {"train", "val"} <= set(f) for f in folds
        ):
            what = f"expected a list of {{train: […], val: […]}} in {file}"
            raise self.wrong(what, "splits", "name nnU-Net's splits_final.json", "split")
        if fold not in range(len(folds)):
            raise self.wrong(f"there is no fold {fold!r}", file, f"there are 0 to {len(folds) - 1}", "split")
        return Splits({"train": folds[fold]["train"], "test": folds[fold]["val"]}, None, where)
