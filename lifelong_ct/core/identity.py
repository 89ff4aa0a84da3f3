"""Pseudonyms, and the removal of paths and identifiers from whatever leaves the machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_bytes
from lifelong_ct.core.paths import is_remote, is_url, open_path, private_words, spellings
from lifelong_ct.core.types import Case

KEY_FILE = "identity.key"
# fmt: off
_COMMON = (
    "anonymous", "case", "cases", "ct", "data", "dataset", "dicom", "image", "images", "imagestr",
    "imagests", "imaging", "img", "label", "labels", "labelstr", "labelsts", "mask", "masks", "mr",
    "nifti", "none", "patient", "patients", "raw", "scan", "scans", "seg", "segmentation",
    "segmentations", "study", "test", "train", "unknown", "val", "volume", "volumes",
)
# fmt: on
"""Words that folders and files of any data set are named with."""


class Identity:
    """HMAC-SHA256 pseudonyms with the key in `paths.state`. Nothing orders or samples by them.

    Args:
        state: folder of the key; the key is made on first use, readable by its owner only.
    """

    def __init__(self, state: Path) -> None:
        path = state / KEY_FILE
        if not path.exists():
            write_bytes(path, secrets.token_hex(32).encode())
            path.chmod(0o600)
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise LifelongCTError(
                f"the key of the pseudonyms cannot be read: {error.strerror}", str(path), "check paths.state"
            ) from error
        if len(key) < 32:
            raise LifelongCTError(
                "the key of the pseudonyms is damaged", str(path), "restore it from a backup"
            )
        self._key = key

    def pseudonym(self, hospital: str, source_id: str) -> str:
        """16 hex digits for a case of a hospital."""
        message = f"{hospital}\x1f{source_id}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:16]

    def of_patient(self, hospital: str, patient: str) -> str:
        """The keyed hash of a patient of a hospital, 16 hex digits. It is no case's pseudonym."""
        return self.pseudonym(hospital, f"\x1fpatient\x1f{patient}")

    def of(self, case: Case) -> str:
        """The pseudonym of a case."""
        return self.pseudonym(case.hospital, case.id)


class Redactor:
    """Replaces private texts: folders with everything below them, and identifiers.

    Below a hidden folder everything up to the end of the path goes, also across spaces as far as a path can
    be told from the sentence around it: up to the closing quote; unquoted, as long as a further `/` or the
    extension of a data file follows; after `where:`, to the end of the line. Identifiers of six characters
    or more are found inside longer words too, shorter ones as whole words; in upper and lower case, composed or
    decomposed (Unicode NFC, NFD), and as `repr`, JSON or a URL write them. Organs, names of hospitals, words
    that any data set uses, and numbers of fewer than five digits are no identifiers.

    Args:
        public: further words that are never hidden.
    """

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._roots: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._parts: dict[str, tuple[str, str] | None] = {}
        self._public = {word.lower() for word in (*public, *_COMMON)}
        self._ready: tuple[re.Pattern[str] | None, WordIndex] | None = None

    def hide_root(self, root: str | os.PathLike[str], name: str) -> None:
        """Hides a folder or URL and what stands below it, as `<name>`. A relative one of a single word, such as
        `data`, is hidden where something stands below it: alone it is a word. Of a URL its user, password and
        host are hidden everywhere."""
        if is_url(root):
            self.hide_words((word, f"<{name}>") for word in private_words(str(root)))
        for path in _places(root):
            if path.strip("./"):
                for spelt in _spellings(path.rstrip("/")):
                    self._roots[_folded(spelt)] = f"<{name}>"
        self._ready = None

    def hide_words(self, words: Iterable[tuple[str, str]]) -> None:
        """Hides identifiers of at least three characters, each as its pseudonym."""
        self._words.update(words)
        self._ready = None

    def hide_path(
        self, path: Path, owner: str, pseudonym: str, root: str | os.PathLike[str] | None = None
    ) -> None:
        """Hides the parts of a path that belong to one owner only, as `<pseudonym>-file`.

        Args:
            path: of a file.
            owner: whose it is; a part that two owners share says nothing about either.
            pseudonym: of the owner.
            root: only what stands below it counts; the last two parts where None.
        """
        for part in _below(path, root):
            for word in {part, part.split(".")[0]}:
                first = self._parts.setdefault(word, (owner, f"{pseudonym}-file"))
                if first is not None and first[0] != owner:
                    self._parts[word] = None
        self._ready = None

    def hide_case(self, case: Case, pseudonym: str, root: str | os.PathLike[str] | None = None) -> None:
        """Hides the source's identifiers of a case, and what in the paths of its files is its patient's own.

        Args:
            case: whose `id` and `patient` are private.
            pseudonym: what to show.
            root: folder of the hospital; see `hide_path`.
        """
        self._public.update(word.lower() for word in (case.hospital, *case.organs))
        self.hide_words((word, pseudonym) for word in (case.id, case.patient))
        for path in (*case.images, *filter(None, [case.label])):
            self.hide_path(path, case.patient, pseudonym, root)

    def __call__(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        if self._ready is None:
            self._ready = self._prepare()
        roots, words = self._ready
        return words.replace(self._without_roots(text, roots) if roots else text)

    def _prepare(self) -> tuple[re.Pattern[str] | None, WordIndex]:
        own = {word: entry[1] for word, entry in self._parts.items() if entry is not None}
        words = {word: name for word, name in {**own, **self._words}.items() if self._identifies(word)}
        spelt = {spelling: name for word, name in words.items() for spelling in _spellings(word)}
        return _roots_pattern(self._roots), WordIndex(spelt)

    def _identifies(self, word: str) -> bool:
        enough = 5 if word.isdigit() else 3
        return len(word) >= enough and word.lower() not in self._public

    def _without_roots(self, text: str, roots: re.Pattern[str]) -> str:
        done, position = [], 0
        folded = _folded(text)
        while match := roots.search(folded, position):
            done += [text[position : match.start()], self._roots[match[0]]]
            position = _end_of_path(text, match.start(), match.end())
        return "".join([*done, text[position:]])


class WordIndex:
    """Finds many words in a text at once, in upper and lower case: its time does not depend on how many there are.

    Args:
        names: word → what takes its place; the longest word that fits wins.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {_folded(word): name for word, name in names.items()}
        self._lengths = sorted({len(word) for word in names}, reverse=True)
        self._starts = {word[:3] for word in self._names}

    def replace(self, text: str) -> str:
        """The text with every word replaced."""
        done, last, i = [], 0, 0
        folded = _folded(text)
        while i < len(text):
            word = self._at(folded, i) if folded[i : i + 3] in self._starts else None
            if word is not None:
                done += [text[last:i], self._names[word]]
                last = i + len(word)
            i = max(i + 1, last)
        return "".join([*done, text[last:]])

    def _at(self, text: str, i: int) -> str | None:
        for length in self._lengths:
            word = text[i : i + length]
            long = len(word) >= 6 and not word.isdigit()
            if word in self._names and (long or _stands_alone(text, i, word)):
                return word
        return None


def _folded(text: str) -> str:
    """Lower case, of the same length: a letter whose lower case is longer stays as it is."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _spellings(word: str) -> set[str]:
    """A text as itself, and as `repr`, JSON and URLs write it."""
    word = unicodedata.normalize("NFC", word)
    forms = {word}
    for form in (word, unicodedata.normalize("NFD", word)):
        escaped = form.encode("unicode_escape").decode()
        forms |= {
            escaped,
            escaped.replace("'", "\\'"),
            json.dumps(form)[1:-1],
            quote(form, errors="surrogateescape"),
        }
    return forms


def _stands_alone(text: str, i: int, word: str) -> bool:
    before, after = text[i - 1 : i], text[i + len(word) : i + len(word) + 1]
    if word.isdigit() and (before == "." or after == "."):  # a decimal number, unless a file name
        beyond = text[i + len(word) + 1 : i + len(word) + 2]
        return not before.isalnum() and before != "." and beyond.isalpha()
    return not before.isalnum() and not after.isalnum()


def _below(path: Path, root: Any) -> tuple[str, ...]:
    if root is not None:
        for base in _bases(root, os.getcwd()):
            if path.parts[: len(base.parts)] == base.parts:
                return path.parts[len(base.parts) :]
    return path.parts[-2:]


@lru_cache(maxsize=64)
def _bases(root: Any, _cwd: str) -> tuple[Path, ...]:
    """Asked for every file of a hospital: to resolve a folder takes longer than all the rest. What it gives
    depends on the current folder."""
    path = open_path(root) if isinstance(root, str) else root
    return (path,) if is_remote(path) else (path, path.absolute(), path.resolve())


def _places(root: Any) -> set[str]:
    return spellings(str(root)) if is_url(root) else {str(base) for base in _bases(root, os.getcwd())}


def _roots_pattern(roots: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(roots, key=len, reverse=True)
    choices = [re.escape(root) + ("" if "/" in root else "(?=/)") for root in longest_first]
    pattern = rf"(?<![A-Za-z0-9_.-])(?:{'|'.join(choices)})(?![A-Za-z0-9_-])"
    return re.compile(pattern) if choices else None


def _end_of_path(text: str, start: int, position: int) -> int:
    """Where the path ends whose root stands at `text[start:position]`."""
    line_end = position + len(text[position:].partition("\n")[0])
    closing = _CLOSING.get(text[start - 1 : start])
    if closing and (close := closing.search(text, position, line_end)):
        return close.start()
    end = _match_end(_RUN, text, position, line_end)
    while not _FILE.search(text, position, end) and text[end - 1] != ":":
        further = _match_end(_ACROSS_SPACES, text, end, line_end)
        if further == end:
            break
        end = further
    if not _FILE.search(text, position, end) and _WHERE.search(text[:start]):
        return line_end
    return position + len(text[position:end].rstrip(".,;:)]}"))


def _match_end(pattern: re.Pattern[str], text: str, start: int, stop: int) -> int:
    match = pattern.match(text, start, stop)
    return match.end() if match else start


_CLOSING = {quote: re.compile(rf"{quote}(?!\w)") for quote in ("'", '"')}
_RUN = re.compile(r"(?:[^\s'\"]|['\"](?=\w))*")
_EXTENSION = r"\.(?:nii|gz|mha|mhd|nrrd|dcm|npy|npz|json|csv|ya?ml|txt|zip|pt|safetensors)"
_FILE = re.compile(_EXTENSION + r"[.,;:)\]}]*$", re.IGNORECASE)
_LETTER = r"(?:[^\s'\"=]|'(?=\w))"
_WORD = rf" +(?![/<]){_LETTER}"
_REST = rf"/(?:[^\s'\"]|['\"](?=\w))*|{_EXTENSION}(?![A-Za-z0-9])[^\s'\"]*"
_ACROSS_SPACES = re.compile(rf"(?:{_WORD}{_LETTER}*)*?{_WORD}{_LETTER}*?(?:{_REST})", re.IGNORECASE)
_WHERE = re.compile(r"where: [^\n]*$")
