"""Which cases serve for training and which for testing, as a user says it."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.paths import below, read_text

SIDES = ("train", "test", "none")
"""`none`: left out."""


class Splits:
    """Cases by their ids, or by patterns such as `site2_*`.

    Args:
        sides: train, test, none → ids and patterns. A case that is in train or in test is never left out.
        rest: side of the cases that no entry names; None where that is an error.
        where: of errors.
    """

    def __init__(self, sides: Mapping[str, Iterable[str]], rest: str | None, where: str) -> None:
        self._rest, self._where = rest, where
        self._ids: dict[str, set[str]] = {side: set() for side in SIDES}
        self._patterns: list[tuple[str, str, re.Pattern[str]]] = []
        for side, entries in sides.items():
            for entry in entries:
                if set("*?[") & set(entry):
                    self._patterns.append((side, entry, re.compile(fnmatch.translate(entry))))
                else:
                    self._ids[side].add(entry)
        self._unused = set().union(*self._ids.values(), (entry for _, entry, _ in self._patterns))

    @property
    def names(self) -> Iterator[str]:
        """Ids and patterns that it was given."""
        for ids in self._ids.values():
            yield from ids
        yield from (entry for _, entry, _ in self._patterns)

    def side(self, name: str) -> str:
        """train, test or none.

        Raises:
            DataError: the case is in train and in test, or in none of the lists.
        """
        fits = [(side, entry) for side, entry, pattern in self._patterns if pattern.match(name)]
        fits += [(side, name) for side in SIDES if name in self._ids[side]]
        self._unused.difference_update(entry for _, entry in fits)
        used = {side for side, _ in fits}
        if {"train", "test"} <= used:
            raise self._wrong("it is in train and in test", name)
        found = next((side for side in SIDES if side in used), self._rest)
        if found is None:
            raise self._wrong("it is in none of the lists", name)
        return found

    def unused(self) -> list[str]:
        """Entries that no case has fitted so far."""
        return sorted(self._unused)

    def _wrong(self, what: str, name: str) -> DataError:
        fix = "list every case once, under train, test or none; patterns such as a* may be used"
        return DataError(what, f"{self._where}, case {name}", fix, "split")


def read_splits(test: Any, split: Any, root: Path, where: str) -> Splits | None:
    """The splits of a hospital's options; None where it has neither.

    Args:
        test: ids or patterns of the test cases, all others are for training; or a file of them.
        split: {train: […], test: […], none: […]} of ids or patterns, or a JSON file of that.
        root: where files lie that are named by relative paths.
        where: of errors.

    Raises:
        DataError: both, or something else.
    """
    if test is not None and split is not None:
        fix = "keep `test` (all others train) or `split` (every case is listed)"
        raise DataError("both `test` and `split` are given", where, fix, "split")
    if test is not None:
        entries = read_list(test, root, f"{where}, test")
        return Splits({"test": entries}, "train", f"{where}, test")
    if split is None:
        return None
    place = f"{where}, split"
    content = read_file(split, root, place)
    if not isinstance(content, Mapping) or not content or not set(content) <= set(SIDES):
        fix = "write {train: [ids or patterns], test: […]}, or name a JSON file of that; `none` leaves out"
        raise DataError("the split is no lists of train and test", place, fix, "split")
    return Splits({side: _strings(entries, place) for side, entries in content.items()}, None, place)


def read_list(given: Any, root: Path, where: str) -> list[str]:
    """A list of ids, or a file of them: JSON, or text with one in each line.

    Raises:
        DataError: anything else.
    """
    return _strings(read_file(given, root, where), where)


def read_file(given: Any, root: Path, where: str) -> Any:
    """What stands in a JSON or text file if `given` is a name, else `given`.

    Raises:
        DataError: the file cannot be read.
    """
    if not isinstance(given, str):
        return given
    path = below(root, given)
    try:
        text = read_text(path)
        return json.loads(text) if path.suffix == ".json" else text.split("\n")
    except (OSError, ValueError, RecursionError) as error:
        what = f"the file cannot be read: {error}"
        raise DataError(
            what, f"{where}, {path}", "name a .json file, or a text file with an id per line"
        ) from error


def _strings(given: Any, where: str) -> list[str]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DataError("it is no list", where, "write [id, id, …]", "split")
    return [text for entry in given if (text := str(entry).strip())]
