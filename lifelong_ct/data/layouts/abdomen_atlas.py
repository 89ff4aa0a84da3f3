"""AbdomenAtlas 1.0 and 1.1, whole or Mini: Qu et al., arXiv 2305.09666; Li et al., arXiv 2407.16697."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.case_folders import CaseFolders
from lifelong_ct.data.folder_layout import Entry

_FIRST = [
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
]
_MORE = [
    "adrenal_gland_left",
    "adrenal_gland_right",
    "bladder",
    "celiac_trunk",
    "colon",
    "duodenum",
    "esophagus",
    "femur_left",
    "femur_right",
    "hepatic_vessel",
    "intestine",
    "lung_left",
    "lung_right",
    "portal_vein_and_splenic_vein",
    "prostate",
    "rectum",
]
RELEASES = {"1.0": _FIRST, "1.1": [*_FIRST, *_MORE]}
"""What a release annotates, by the names of its files, in the order of the ids of its combined label maps."""
COMBINED = "combined_labels.nii.gz"


class AbdomenAtlasLayout(CaseFolders):
    """Reads `BDMAP_########/{ct.nii.gz, segmentations/<organ>.nii.gz}`, or `combined_labels.nii.gz` beside the scan.

    Nothing in it tells training from testing: `test` or `split` is needed.

    Args:
        hospital: its name in the stream.
        version: 1.0 (nine organs) or 1.1 (25), also 1.0Mini and 1.1Mini.
        combined: read the label maps and not the masks; None: where the first case has no masks. Masks may overlap,
            a label map has lost what does.
        options: of `CaseFolders`. `organs` may name more than the release defines: masks of these names.

    Raises:
        LifelongCTError: an option that is none.
    """

    LICENCE, LABEL_KIND = "CC-BY-NC-SA-4.0", "semi-automatic"
    EXPECTED = f"a folder per case such as BDMAP_00000001, with ct.nii.gz and segmentations or {COMBINED}"

    def __init__(self, hospital: str, *, version: str, combined: bool | None = None, **options: Any) -> None:
        super().__init__(hospital, **options)
        release = str(version).removesuffix("Mini")
        if release not in RELEASES:
            versions = [name for known in RELEASES for name in (known, f"{known}Mini")]
            raise self.wrong(f"version={version!r}", "version", f"use one of {', '.join(versions)}")
        if self.chosen is None:
            raise self.needs_split("the release has no test cases")
        self.combined = combined
        self._release = RELEASES[release]

    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """Its folders."""
        names = self.found()
        if self.combined is None:
            self.combined = not self.contents(names[0], self.MASKS).label
        label = COMBINED if self.combined else self.MASKS
        self._annotate()
        needed = frozenset(self.masks.values())
        for name in names:
            try:
                yield self.entry(name, label, self.contents(name, label), needed)
            except LifelongCTError as error:
                yield error

    def _annotate(self) -> None:
        """Masks, or ids, of the organs."""
        if self.combined:
            self.label_ids = {organ: (i,) for i, organ in enumerate(self._release, start=1)}
            self.organs = tuple(self.keep(self.label_ids))
        else:
            further = {organ: f"{name}.nii.gz" for organ, name in (self.wanted or {}).items()}
            self.masks = self.keep({**further, **{organ: f"{organ}.nii.gz" for organ in self._release}})
            self.organs = tuple(self.masks)
