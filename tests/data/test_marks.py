"""An order of cases that names, paths and arrival have no say in."""

import gzip
import shutil

import numpy as np
import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.types import Case
from lifelong_ct.data.marks import mark, ranked


def write(folder, names, packed):
    """Scans that begin alike: padding, and one byte in the middle that differs."""
    folder.mkdir()
    for i, name in enumerate(names):
        data = bytearray(300_000)
        data[150_000] = i
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return [Case("h", name, name, "train", ("liver",), images=(folder / name,)) for name in names]


@pytest.mark.parametrize("packed", [False, True])
def test_renamed_moved_and_shuffled_cases_keep_their_order(tmp_path, packed):
    cases = write(tmp_path / "one", [f"a{i}.nii" for i in range(12)], packed)
    assert len({mark(case) for case in cases}) == 12
    order = [mark(cases[i]) for i in ranked(cases, "x", 0)]
    (tmp_path / "two").mkdir()
    moved = []
    for i, case in enumerate(reversed(cases)):
        path = tmp_path / "two" / f"other-{i}.nii"
        shutil.copy(case.images[0], path)
        moved.append(Case("g", f"id{i}", "p", "train", ("spleen",), images=(path,)))
    assert [mark(moved[i]) for i in ranked(moved, "x", 0)] == order


def test_keys_choose_the_order_and_every_place_comes_up(tmp_path):
    cases = write(tmp_path / "one", [f"a{i}.nii" for i in range(4)], False)
    first = [ranked(cases, "x", seed)[0] for seed in range(200)]
    assert min(np.bincount(first, minlength=4)) > 25  # 50 expected, standard deviation 6
    assert [ranked(cases, "x", seed)[0] for seed in range(200)] == first
    assert [ranked(cases, "y", seed)[0] for seed in range(200)] != first


def test_a_folder_of_slices_is_what_its_files_are(tmp_path):
    slices = tmp_path / "series"
    slices.mkdir()
    for i in range(3):
        (slices / f"{i}.dcm").write_bytes(bytes([i]) * 100)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i in range(3):
        (renamed / f"x{2 - i}.dcm").write_bytes(bytes([i]) * 100)
    one, two = (Case("h", "a", "a", "train", (), images=(path,)) for path in (slices, renamed))
    assert mark(one) == mark(two)
    (renamed / "x0.dcm").write_bytes(b"other")
    assert mark(one) != mark(two)


def test_drawn_cases_are_what_they_are_drawn_from():
    cases = [Case("h", f"c{i}", "p", "train", ("liver",), params={"index": i}) for i in range(5)]
    order = [cases[i].id for i in ranked(cases, "x", 0)]
    turned = cases[::-1]
    assert [turned[i].id for i in ranked(turned, "x", 0)] == order


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as error:
        mark(Case("h", "a", "a", "train", (), images=(tmp_path / "gone.nii",)))
    assert "gone.nii" in error.value.where
