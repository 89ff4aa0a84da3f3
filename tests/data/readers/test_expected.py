"""Every problem that a reader names says what would be right."""

import ast
from pathlib import Path

import pytest

import lifelong_ct.data
from lifelong_ct.data.verify import EXPECTED

ROOM = Path(lifelong_ct.data.__file__).parent
FILES = [
    *(ROOM / "readers").glob("*.py"),
    ROOM / "scales.py",
    ROOM / "images.py",
    ROOM / "layouts" / "dicom.py",
]


def codes(file: Path) -> set[str]:
    """Text in the place of a code: after `fix` in `bad_file` and `wrong`, the last of a `DataError`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = {"bad_file": 2, "DataError": 3, "wrong": 3}.get(name)
            if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                found.add(node.args[place].value)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_code_is_expected_otherwise(file):
    assert codes(file) <= set(EXPECTED)


def test_the_search_finds_codes():
    assert {"not-watertight", "empty-shape"} <= codes(ROOM / "readers" / "mesh.py")
