"""AbdomenAtlas 1.0 and 1.1, whole or Mini: Qu et al., arXiv 2305.09666; Li et al., arXiv 2407.16697."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.case_folders import CaseFolders
from lifelong_ct.data.folder_layout import Entry
from lifelong_ct.data.native_maps import native_map, with_rules

VERSIONS = ("1.0", "1.0Mini", "1.1", "1.1Mini")
COMBINED = "combined_labels.nii.gz"


class AbdomenAtlasLayout(CaseFolders):
    """Reads `BDMAP_########/{ct.nii.gz, segmentations/<organ>.nii.gz}`, or `combined_labels.nii.gz` beside the scan.

    Nothing in it tells training from testing: `test` or `split` is needed.

    Args:
        hospital: its name in the stream.
        version: 1.0 (nine organs) or 1.1 (25), also 1.0Mini and 1.1Mini. What follows from them by rule, as both
            kidneys together, is annotated too.
        combined: read the label maps and not the masks; None: where the first case has no masks. Masks may overlap,
            a label map has lost what does.
        options: of `CaseFolders`. `organs` may name more than the release defines: masks of these names.

    Raises:
        LifelongCTError: an option that is none.
    """

    LICENCE, LABEL_KIND = "CC-BY-NC-SA-4.0", "semi-automatic"
    MAPS = (COMBINED,)
    EXPECTED = f"a folder per case such as BDMAP_00000001, with ct.nii.gz and segmentations or {COMBINED}"

    def __init__(self, hospital: str, *, version: str, combined: bool | None = None, **options: Any) -> None:
        super().__init__(hospital, **options)
        if str(version) not in VERSIONS:
            raise self.wrong(f"version={version!r}", "version", f"use one of {', '.join(VERSIONS)}")
        if self.chosen is None:
            raise self.needs_split("the release has no test cases")
        self.combined = combined
        self._release = native_map(f"AbdomenAtlas {version}")

    def entries(self) -> Iterator[Entry | LifelongCTError]:
        """Its folders."""
        names = self.found()
        if self.combined is None:
            self.combined = not self.contents(names[0], self.MASKS).label
        label = COMBINED if self.combined else self.MASKS
        self._annotate()
        needed = self.files()
        for name in names:
            try:
                yield self.entry(name, label, self.contents(name, label), needed)
            except LifelongCTError as error:
                yield error

    def _annotate(self) -> None:
        """Masks, or ids, of the organs."""
        if self.combined:
            self.label_ids, self.pairs = self._release.label_ids, self._release.splits
            self.organs = tuple(self.keep(dict.fromkeys(self._release.organs)))
        else:
            own = {name: (f"{name}.nii.gz",) for name in self._release.names.values()}
            asked = {organ: (f"{name}.nii.gz",) for organ, name in (self.wanted or {}).items()}
            derived = with_rules(own)
            self.annotate_masks({**{o: files for o, files in asked.items() if o not in derived}, **own})
