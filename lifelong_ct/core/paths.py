"""Local paths and URLs alike: who reads files uses the interface of `pathlib.Path` and gets it for both.

A URL is anything that fsspec opens: `s3://bucket/folder`, `https://host/folder`, `zip://::/data/hospital.zip`, …
Credentials belong into fsspec's own configuration or the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lifelong_ct.core.errors import LifelongCTError

_LOCAL = ("file://", "local://")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether it is a URL, by its form."""
    return "://" in str(text)


def open_path(text: str | os.PathLike[str]) -> Path:
    """A `pathlib.Path` for a local path, a `UPath` with the same interface for a URL.

    Raises:
        LifelongCTError: a kind of URL that fsspec does not know, or whose package is not installed.
    """
    if not is_url(text):
        return Path(text)
    from upath import UPath

    try:
        path = UPath(str(text))
        path.fs  # noqa: B018 - imports the package that the protocol needs
    except (ImportError, ValueError) as error:
        what = f"this kind of URL cannot be opened: {error}"
        raise LifelongCTError(
            what, str(text), "install the package that it names, or copy the files"
        ) from error
    except Exception:  # the server does not answer: whoever reads there says so, with its place
        return cast(Path, path)
    return Path(path.path) if str(text).startswith(_LOCAL) and "::" not in str(text) else cast(Path, path)


def below(root: Path, name: str) -> Path:
    """A path or URL as a user writes it: relative ones start in `root`."""
    return open_path(name) if is_url(name) or os.path.isabs(name) else root / name


def is_remote(path: Path) -> bool:
    """Whether it is read through fsspec."""
    return not isinstance(path, Path)


def listing(folder: Path) -> dict[str, bool]:
    """What a folder holds, hidden entries left out: name → whether it is a folder, in the order of the names.

    Raises:
        OSError: it cannot be listed.
    """
    if is_remote(folder):
        with _as_oserror():
            entries = _filesystem(folder).ls(_inside(folder), detail=True)
        found = ((e["name"].rstrip("/").rpartition("/")[2], e["type"] == "directory") for e in entries)
    else:
        with os.scandir(folder) as entries:
            return dict(sorted((e.name, e.is_dir()) for e in entries if e.name[0] != "."))
    return dict(sorted((name, is_folder) for name, is_folder in found if name[:1] not in ("", ".")))


def names(folder: Path) -> list[str]:
    """What a folder holds, hidden entries left out, in any order; the quickest look there is.

    Raises:
        OSError: it cannot be listed.
    """
    if is_remote(folder):
        return list(listing(folder))
    return [name for name in os.listdir(folder) if name[0] != "."]


def head(path: Path, nbytes: int, start: int = 0) -> bytes:
    """The first bytes of a file, or those from `start` on; from a server no more than these where it can serve a part.

    Raises:
        OSError: it cannot be read.
    """
    if is_remote(path):
        with _as_oserror():
            return bytes(_filesystem(path).cat_file(_inside(path), start=start, end=start + nbytes))[:nbytes]
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(nbytes)


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        OSError: it cannot be read.
    """
    with _as_oserror():
        return path.read_bytes()


def blocks(path: Path, nbytes: int) -> Iterator[bytes]:
    """A file, piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    with _as_oserror(), path.open("rb") as file:
        while block := file.read(nbytes):
            yield block


def read_text(path: Path) -> str:
    """A whole file of UTF-8; Excel and others begin it with a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig")


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a server that does not answer has none."""
    try:
        with _as_oserror():
            return path.is_dir()
    except OSError:
        return False


def exists(path: Path) -> bool:
    """Whether there is something, as far as it may be seen."""
    if not is_remote(path):
        return os.path.exists(path)  # Path.exists raises where a folder may not be read
    try:
        with _as_oserror():
            return path.exists()
    except OSError:
        return False


def why_no_folder(path: Path) -> str:
    """What a server says where there is no folder; empty for a local path."""
    if is_remote(path):
        try:
            names(path)
        except OSError as error:
            return f": {error}"
    return ""


def stamp(path: Path) -> tuple[Any, ...]:
    """Changes when the file changes: size and time of a local file; of a remote one whatever its server tells,
    such as size, time, ETag or checksum.

    Raises:
        OSError: there is no such file.
    """
    if not is_remote(path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    with _as_oserror():
        info = _filesystem(path).info(_inside(path))
    return tuple((key, str(info[key])) for key in sorted(info) if key not in ("name", "url", "atime"))


def spellings(url: str) -> set[str]:
    """What of a URL may turn up in messages: the URL, its places one by one where it names several, each without
    credentials and without its protocol. Files inside an archive are told by their protocol."""
    found = {url}
    for part in url.split("::"):
        bare = re.sub(r"://[^/@]*@", "://", part)
        found |= {part, bare, bare.partition("://")[2] or part}
        path = re.sub(r"^[^/]*", "", bare.partition("://")[2])
        if len(path) > 3:
            found |= {path, f"{part.partition('://')[0]}://{path}"}
    if "::" in url:
        found.add(f"{url.partition('://')[0]}:/")
    return found


def private_words(url: str) -> Iterator[str]:
    """The names of a URL that say nothing to a reader and much about the hospital: user, password, host, bucket,
    and values of its query."""
    for part in filter(is_url, url.split("::")):
        rest = part.partition("://")[2]
        user, _, host = re.split(r"[/?]", rest)[0].rpartition("@")
        yield from filter(None, (*user.split(":"), host.partition(":")[0]))
        yield from re.findall(r"[?&][^=&]*=([^&#]+)", rest)


@contextmanager
def _as_oserror() -> Iterator[None]:
    """Clients of servers raise what they like."""
    try:
        yield
    except (OSError, LifelongCTError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _filesystem(path: Any) -> Any:
    return path.fs


def _inside(path: Any) -> str:
    return path.path
