"""Which side a case is on."""

import json

import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.splits import Splits, read_splits


def test_ids_and_patterns():
    splits = Splits({"train": ["a1", "b*"], "test": ["c?"], "none": ["*9"]}, None, "north")
    assert [splits.side(name) for name in ("a1", "b", "b9", "c2", "x9")] == [
        "train",
        "train",
        "train",
        "test",
        "none",
    ]
    with pytest.raises(DataError, match="in none of the lists") as caught:
        splits.side("a2")
    assert "case a2" in str(caught.value)


@pytest.mark.parametrize("lists", [{"train": ["a"], "test": ["a"]}, {"train": ["a"], "test": ["*"]}])
def test_a_case_in_train_and_in_test_is_an_error(lists):
    with pytest.raises(DataError, match="in train and in test"):
        Splits(lists, None, "north").side("a")


def test_entries_that_nothing_fitted_are_told():
    splits = Splits({"test": ["a", "b", "c*", "d*"]}, "train", "north")
    assert [splits.side(name) for name in ("a", "c1", "x")] == ["test", "test", "train"]
    assert splits.unused() == ["b", "d*"]
    assert set(splits.names) == {"a", "b", "c*", "d*"}


def test_many_ids_take_no_time_each():
    """Time grows with the cases, not with their square: 30,000 ids, each asked once."""
    names = [f"BDMAP_{i:08d}" for i in range(30_000)]
    splits = Splits({"train": names[1:], "test": names[:1]}, None, "atlas")
    assert sum(splits.side(name) == "train" for name in names) == 29_999
    assert splits.unused() == []


def test_files_say_the_same_as_options(tmp_path):
    (tmp_path / "test.txt").write_text("a\n\n b \r\n")
    (tmp_path / "test.json").write_text(json.dumps(["a", "b"]))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["c"], "test": ["a", "b"]}))
    for test, split in ((["a", "b"], None), ("test.txt", None), ("test.json", None), (None, "split.json")):
        splits = read_splits(test, split, tmp_path, "north")
        assert [splits.side(name) for name in "abc"] == ["test", "test", "train"]
    assert read_splits(None, str(tmp_path / "split.json"), tmp_path / "x", "north").side("c") == "train"
    assert read_splits(None, None, tmp_path, "north") is None
    assert read_splits([], None, tmp_path, "north").side("a") == "train"


@pytest.mark.parametrize(
    ("test", "split", "words"),
    [
        (["a"], {"test": ["b"]}, "both"),
        ("gone.txt", None, "cannot be read"),
        (5, None, "no list"),
        ({"a": 1}, None, "no list"),
        (None, ["a"], "lists of train and test"),
        (None, {}, "lists of train and test"),
        (None, {"validation": ["a"]}, "lists of train and test"),
        (None, {"train": "a"}, "no list"),
    ],
)
def test_what_is_no_split_is_said(test, split, words, tmp_path):
    with pytest.raises(DataError, match=words) as caught:
        read_splits(test, split, tmp_path, "hospital north")
    assert "hospital north" in caught.value.where
    assert caught.value.fix
