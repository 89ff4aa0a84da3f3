"""Each odd or broken pair gets its verdict from `verify`, and the same from what `ingest` reads."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_pairs import LIVER, OK, PAIRS, scan

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.ingest import prepare
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.verify import verify


def hospital(root: Path, changes: dict[str, Any]) -> Any:
    row = {"id": "case-7", "patient": "p", "split": "train", "organs": ["liver", "spleen"]}
    row |= {"image": str(root / "ct.nii.gz"), "label": str(root / "seg.nii.gz"), **changes}
    content = {"labels": {"liver": 1, "spleen": 2}, "cases": [row]}
    return open_layout({"name": "north", "layout": "manifest", "manifest": content, "root": str(root)})


@pytest.mark.parametrize("name", PAIRS)
def test_the_verdict(name: str, tmp_path: Path) -> None:
    verdict, make = PAIRS[name]
    layout = hospital(tmp_path, make(tmp_path) or {})
    problems = list(verify(layout))
    if verdict == OK:
        assert problems == []
        (case,) = layout.cases()
        check(layout.load(case))
        return
    assert problems
    assert problems[0].code in verdict.split()
    for problem in problems:
        assert problem.case == "case-7"
        assert problem.file
        assert problem.found
        assert problem.fix
        assert problem.expected or problem.code in ("configuration", "manifest", "modality")
    with pytest.raises(LifelongCTError) as caught:
        prepare(layout.load(next(iter(layout.cases()))), (3.0, 3.0, 4.0))
    if isinstance(caught.value, DataError):
        assert caught.value.code in verdict.split()


def check(raw: Any) -> None:
    """In RAS order, and every liver voxel on the liver of the scan."""
    assert raw.image.dtype == np.int16
    turned = raw.affine[:3, :3] / np.linalg.norm(raw.affine[:3, :3], axis=0)
    assert np.diag(turned).min() > 0.8
    liver = raw.mask("liver")
    assert liver.sum() == 240
    lit = np.argwhere(liver).min(axis=0), np.argwhere(liver).max(axis=0)
    assert [tuple(at) for at in lit] == [(13, 6, 6), (18, 13, 10)]
    if raw.scales == ():
        assert abs(raw.image[liver].mean() - scan()[LIVER].mean()) < 1  # the spine reaches into it
        assert abs(np.median(raw.image[11:14, 5:7, 1:15]) - 600) < 20


def test_a_missing_file_does_not_hide_what_is_wrong_with_the_others(tmp_path: Path) -> None:
    _, make = PAIRS["numbers: one NaN"]
    layout = hospital(tmp_path, make(tmp_path) or {})
    (tmp_path / "seg.nii.gz").unlink()
    problems = list(verify(layout))
    assert [(problem.case, problem.code) for problem in problems] == [
        ("case-7", "missing"),
        ("case-7", "non-finite"),
    ]


def test_an_error_about_a_missing_file_can_be_made_again_in_another_process(tmp_path: Path) -> None:
    for error, first in zip(hospital(tmp_path, {}).inspect(), (True, False), strict=True):
        again = copy.copy(error)  # by what would be sent
        assert (str(again), again.code, again.case, again.first) == (str(error), "missing", error.case, first)
