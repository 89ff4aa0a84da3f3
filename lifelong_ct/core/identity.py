"""Pseudonyms, and the removal of paths and identifiers from whatever leaves the machine."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import write_bytes
from lifelong_ct.core.types import Case

KEY_FILE = "identity.key"


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
        key = path.read_bytes().strip()
        if len(key) < 32:
            raise LifelongCTError(
                "the key of the pseudonyms is damaged", str(path), "restore it from a backup"
            )
        self._key = key

    def pseudonym(self, hospital: str, source_id: str) -> str:
        """16 hex digits for a case of a hospital."""
        message = f"{hospital}\x1f{source_id}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:16]

    def of(self, case: Case) -> str:
        """The pseudonym of a case."""
        return self.pseudonym(case.hospital, case.id)


class Redactor:
    """Replaces private texts: roots with everything below them, and identifiers as whole words."""

    def __init__(self) -> None:
        self._roots: dict[str, str] = {}
        self._words: dict[str, str] = {}

    def hide_root(self, root: str | os.PathLike[str], name: str) -> None:
        """Hides a folder and what stands below it, as `<name>`."""
        for text in {str(root), str(Path(root).absolute()), str(Path(root).resolve())}:
            if text.strip("./"):
                self._roots[text.rstrip("/")] = f"<{name}>"

    def hide_words(self, words: Iterable[tuple[str, str]]) -> None:
        """Hides identifiers of at least three characters, each as its pseudonym."""
        self._words.update({word: pseudonym for word, pseudonym in words if len(word) >= 3})

    def hide_case(self, case: Case, pseudonym: str) -> None:
        """Hides the source's identifiers of a case and the names of its files."""
        files = [part for path in (case.image, case.label) if path for part in (path.name, path.parent.name)]
        stems = [name.split(".")[0] for name in files]
        self.hide_words((word, pseudonym) for word in (case.id, case.patient))
        self.hide_words(
            (w, f"{pseudonym}-file") for w in (*files, *stems) if w not in (case.id, case.patient)
        )

    def __call__(self, text: str) -> str:
        for root, name in sorted(self._roots.items(), key=lambda item: -len(item[0])):
            text = re.sub(re.escape(root) + r"(?=$|[/\s'\":,;)\]])(/[^\s'\":,;)\]]*)?", name, text)
        if self._words:
            longest_first = sorted(self._words, key=len, reverse=True)
            pattern = r"(?<![A-Za-z0-9])(" + "|".join(map(re.escape, longest_first)) + r")(?![A-Za-z0-9])"
            text = re.sub(pattern, lambda match: self._words[match[1]], text)
        return text
