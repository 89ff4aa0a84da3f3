"""Native maps: what the ids, or the files, of a release of a public dataset mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import OTHER, UNKNOWN
from lifelong_ct.data.vocabulary import DEFAULT, Vocabulary, default_vocabulary, nearest, read_documents

Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class NativeMap:
    """What one release annotates.

    Attributes:
        name: of the release.
        label_ids: organ → its ids in a label map, as `Case.label_ids` has them: with whole organs, merges and
            sides by the vocabulary's rules, `OTHER` for what is no organ of the vocabulary, `UNKNOWN` for ids
            whose voxels may be of an organ that the release does not tell.
        names: id → the release's own name, also that of the file where there is one per organ; empty for a map
            that is not shipped.
        meaning: own name → canonical organ, before the rules, or `OTHER`.
        splits: pairs (left, right) that share their ids, as `Case.splits`.
        partial: the organs differ from case to case; each case has to say its own.
        source: where the release describes itself, and where else its ids were looked up.
    """

    name: str
    label_ids: Mapping[str, tuple[int, ...]]
    names: Mapping[int, str] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[tuple[str, str], ...] = ()
    partial: bool = False
    source: str = ""

    @property
    def organs(self) -> tuple[str, ...]:
        """The canonical organs that a case annotates, present or not."""
        return tuple(organ for organ in self.label_ids if organ not in (OTHER, UNKNOWN))

    def only(self, names: Iterable[str], where: str = "labels") -> NativeMap:
        """The same release where it has only some of its names, such as the files that a folder holds.

        Raises:
            LifelongCTError: a name that the release does not have; the message names the nearest.
        """
        chosen = dict.fromkeys(names)
        for name in chosen:
            if name not in self.meaning:
                near = ", ".join(nearest(name, self.meaning))
                raise LifelongCTError(f"{self.name} has no {name!r}", where, f"did you mean {near}?")
        unknown = frozenset(self.names[i] for i in self.label_ids.get(UNKNOWN, ()))
        kept = {number: native for number, native in self.names.items() if native in chosen}
        return _built(self, kept, {native: self.meaning[native] for native in kept.values()}, unknown)

    def masks(self, suffix: str = ".nii.gz") -> dict[str, tuple[str, ...]]:
        """Organ → names of the files that together are its mask, as `Case.masks`."""
        return {o: tuple(f"{self.names[i]}{suffix}" for i in self.label_ids[o]) for o in self.organs}


def native_map(name: str, where: str = "labels") -> NativeMap:
    """The map of a release by its name; case and punctuation do not count.

    Raises:
        LifelongCTError: there is none; the message names the nearest.
    """
    maps = _shipped()
    found = maps.get(_key(name))
    if found is None:
        near = nearest(_key(name), maps)
        names = dict.fromkeys(maps[key].name for key in near)
        raise LifelongCTError(f"there is no label map {name!r}", where, f"did you mean {', '.join(names)}?")
    return found


def known_maps() -> list[str]:
    """Names of the maps that ship with the library."""
    return list(dict.fromkeys(m.name for m in _shipped().values()))


def own_map(
    name: str, label_ids: Mapping[str, tuple[int, ...]], vocabulary: Vocabulary | None = None
) -> NativeMap:
    """A map from canonical organs, with what the rules add."""
    derived = with_rules(label_ids, vocabulary)
    return NativeMap(name, derived, splits=splits_of(derived, vocabulary))


def map_of_names(name: str, entry: Mapping[str, Any], vocabulary: Vocabulary | None = None) -> NativeMap:
    """A map from an entry of the second document of `labels.yaml`.

    Raises:
        LifelongCTError: a name that is no organ and of which the entry does not say what it is.
    """
    vocabulary = vocabulary or default_vocabulary()
    given = entry["names"]
    by_id: dict[int, str] = dict(given) if isinstance(given, Mapping) else dict(enumerate(given, start=1))
    told = entry.get("organs", {})
    meaning = {}
    for native in by_id.values():
        organ = told.get(native, native)
        meaning[native] = (
            OTHER if organ is None else vocabulary.canonical(organ, f"label map {name}, {native}")
        )
    unknown = frozenset(entry.get("ignore", ()))
    return _built(
        NativeMap(name, {}, partial=bool(entry.get("partial")), source=str(entry.get("source", ""))),
        by_id,
        meaning,
        unknown,
        vocabulary,
    )


def _built(
    like: NativeMap,
    names: Mapping[int, str],
    meaning: Mapping[str, str],
    unknown: frozenset[str],
    vocabulary: Vocabulary | None = None,
) -> NativeMap:
    label_ids: dict[str, tuple[int, ...]] = {}
    for number, native in names.items():
        label_ids[meaning[native]] = (*label_ids.get(meaning[native], ()), number)
    label_ids = with_rules(label_ids, vocabulary)
    if not unknown.isdisjoint(names.values()):
        label_ids[UNKNOWN] = tuple(number for number, native in names.items() if native in unknown)
    return replace(
        like, label_ids=label_ids, names=names, meaning=meaning, splits=splits_of(label_ids, vocabulary)
    )


def with_rules(
    labels: Mapping[str, tuple[Key, ...]], vocabulary: Vocabulary | None = None
) -> dict[str, tuple[Key, ...]]:
    """Adds the organs that follow by rule: an organ all of whose parts are there (a merge), and both sides of
    one whose sides the source does not tell (a split; see `splits_of`).

    The sides of what lies in a paired organ, as a tumour in a kidney, are added only where that organ is there
    too, for its side is then the tumour's.

    Args:
        labels: organ → ids, or names of masks.
        vocabulary: the rules; the library's own where None.
    """
    vocabulary = vocabulary or default_vocabulary()
    found = dict(labels)
    for _ in range(2):  # merges that splits make possible, and the other way round
        for organ in _innermost_first(vocabulary):
            parts = vocabulary.parts[organ]
            if organ not in found and all(part in found for part in parts):
                found[organ] = tuple(dict.fromkeys(key for part in parts for key in found[part]))
        for organ, pair in vocabulary.sides.items():
            around = [o for o in vocabulary.sides if organ != o and vocabulary.contains(o, organ)]
            told = not around or any(o in found for o in around)
            if organ in found and told and not any(side in found for side in pair):
                found |= dict.fromkeys(pair, found[organ])
    return found


def splits_of(
    labels: Mapping[str, tuple[Any, ...]], vocabulary: Vocabulary | None = None
) -> tuple[tuple[str, str], ...]:
    """The pairs (left, right) that share their ids or masks."""
    pairs = (vocabulary or default_vocabulary()).sides.values()
    return tuple(pair for pair in pairs if pair[0] in labels and labels[pair[0]] == labels.get(pair[1]))


def _innermost_first(vocabulary: Vocabulary) -> list[str]:
    return sorted(vocabulary.parts, key=lambda organ: -len(vocabulary.containers[organ]))


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


@lru_cache(maxsize=1)
def _shipped() -> dict[str, NativeMap]:
    """The maps by their names without case and punctuation."""
    _, entries = read_documents(DEFAULT)
    found: dict[str, NativeMap] = {}
    for name, entry in entries.items():
        one = map_of_names(name, entry)
        found |= {_key(alias): one for alias in (name, *entry.get("same", ()))}
    return found
