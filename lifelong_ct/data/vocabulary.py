"""Organs: their canonical names, sides and parts, and which lies in which."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lifelong_ct.core.errors import LifelongCTError

DEFAULT = Path(__file__).with_name("labels.yaml")


class Vocabulary:
    """The organs of a YAML like `labels.yaml`, whose head says what its keys mean.

    Args:
        path: the file; the library's own where None.

    Attributes:
        organs: canonical names, in the order of the file.
        mirror: organ → the organ on the other side of the body, both ways.
        parts: organ → the organs that it consists of; the two sides of an organ count as its parts.
        sides: organ → (left, right) of an organ whose sides a source may not tell apart.
        containers: organ → all organs that contain it, at any depth.
        anywhere: organs that may lie in any other.
        lesions: tumours and cysts.
        airy: organs that may hold air: those that say so, what lies in them, and what they are parts of; and what is
            within another organ, since lesions may hold gas.

    Raises:
        LifelongCTError: a name that stands for two organs, a rule about an unknown one, or an organ in itself.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or DEFAULT
        entries: dict[str, dict[str, Any]] = next(read_documents(self._path))
        self.organs = tuple(entries)
        self._names = self._read_names(entries)
        self.anywhere = frozenset(o for o, e in entries.items() if e.get("anywhere"))
        self.lesions = frozenset(o for o, e in entries.items() if e.get("lesion"))
        self.sides: dict[str, tuple[str, str]] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        self.mirror: dict[str, str] = {}
        inside: dict[str, list[str]] = {}
        for organ, entry in entries.items():
            if "sides" in entry:
                left, right = entry["sides"]
                self.sides[organ] = left, right
            if "parts" in entry or "sides" in entry:
                self.parts[organ] = tuple(entry.get("parts") or entry["sides"])
            if "mirror" in entry:
                self.mirror |= {organ: entry["mirror"], entry["mirror"]: organ}
            inside[organ] = [organ] if "within" not in entry else [organ, entry["within"]]
        self._check([*self.mirror, *itertools.chain(*self.parts.values(), *inside.values())])
        above = {organ: {*inside[organ][1:]} for organ in entries}
        for organ, parts in self.parts.items():
            for part in parts:
                above[part].add(organ)
        self.containers = {organ: frozenset(self._all_above(organ, above)) for organ in entries}
        self.airy = frozenset(
            self._airy({organ for organ, entry in entries.items() if entry.get("air")}, entries)
        )

    def canonical(self, name: str, where: str = "organ name") -> str:
        """The canonical organ for a name or alias, in any case, with spaces or hyphens.

        Raises:
            LifelongCTError: unknown; the message names the nearest known ones.
        """
        found = self._names.get(str(name)) or self._names.get(plain(str(name)))
        if found is None:
            near = nearest(plain(str(name)), map(plain, self._names))
            raise LifelongCTError(f"unknown organ {name!r}", where, f"did you mean {', '.join(near)}?")
        return found

    def contains(self, organ: str, name: str | None) -> bool:
        """Whether `name` is the organ, or lies inside it at any depth."""
        return name is not None and (name == organ or organ in self.containers.get(name, ()))

    def innermost(self, organs: Iterable[str]) -> str | None:
        """The organ that all the others contain; None where there is none."""
        names = list(organs)
        return next((o for o in names if all(self.contains(other, o) for other in names)), None)

    def _read_names(self, entries: Mapping[str, dict[str, Any]]) -> dict[str, str]:
        names: dict[str, str] = {}
        for organ, entry in entries.items():
            for name in (organ, *entry.get("aliases", ())):
                for key in {name, plain(name)}:
                    if names.setdefault(key, organ) != organ:
                        raise self._wrong(f"{name!r} stands for {names[key]} and for {organ}", "drop one")
        return names

    def _check(self, organs: Iterable[str]) -> None:
        for organ in organs:
            if organ not in self.organs:
                raise self._wrong(
                    f"a rule names the organ {organ!r}, which is none", "add it, or mend the rule"
                )

    def _all_above(self, organ: str, above: Mapping[str, set[str]]) -> set[str]:
        found: set[str] = set()
        new = above[organ]
        while new:
            found |= new
            new = set().union(*(above[o] for o in new)) - found
        if organ in found:
            raise self._wrong(f"{organ} lies in itself", "mend `within` and `parts`")
        return found

    def _airy(self, told: set[str], entries: Mapping[str, dict[str, Any]]) -> Iterator[str]:
        for organ, entry in entries.items():
            related = {organ, *self.containers[organ], *self.parts.get(organ, ())}
            if "within" in entry or organ in self.anywhere or not told.isdisjoint(related):
                yield organ

    def _wrong(self, what: str, fix: str) -> LifelongCTError:
        return LifelongCTError(what, self._path.name, fix)


def plain(name: str) -> str:
    """A name in small letters, with underscores."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names that have it as a word, or look most like it; the first few where none does."""
    names = sorted(set(known))
    with_it = [other for other in names if name in other.split("_")]
    return with_it[:6] or difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]


def read_documents(path: Path) -> Iterator[Any]:
    """The documents of a YAML, each parsed as it is asked for."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is 20 times as fast, where it is there
    yield from yaml.load_all(path.read_text(encoding="utf-8"), loader)


@lru_cache(maxsize=1)
def default_vocabulary() -> Vocabulary:
    """The vocabulary that ships with the library."""
    return Vocabulary()
