"""Local paths and URLs by one interface; what of a URL may turn up in a message."""

import http.server
import os
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
from upath import UPath

from lifelong_ct.core import paths
from lifelong_ct.core.errors import LifelongCTError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of ten bytes, a folder, and hidden entries."""
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "b.bin").write_bytes(b"0123456789")
    (tmp_path / "here" / ".hidden").write_bytes(b"")
    return tmp_path / "here"


@pytest.fixture
def urls(folder: Path, tmp_path: Path):
    """The same folder, by kind of place."""
    archive = tmp_path / "here.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, path.relative_to(folder))
    memory = UPath("memory://test-paths")
    (memory / "deep").mkdir(parents=True, exist_ok=True)
    (memory / "deep" / "x").write_bytes(b"")  # a file system of objects knows no empty folder
    (memory / "b.bin").write_bytes(b"0123456789")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "local": str(folder),
            "file": f"file://{folder}",
            "zip": f"zip://::{archive}",
            "memory": "memory://test-paths",
            "http": f"http://127.0.0.1:{server.server_port}",
        }
        server.shutdown()


KINDS = ("local", "file", "zip", "memory", "http")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_place_is_read_alike(kind, urls):
    root = paths.open_path(urls[kind])
    assert paths.is_folder(root)
    assert paths.listing(root) == {"b.bin": False, "deep": True}
    assert sorted(paths.names(root)) == ["b.bin", "deep"]
    assert paths.head(root / "b.bin", 4) == b"0123"
    assert paths.head(root / "b.bin", 400) == paths.read_bytes(root / "b.bin") == b"0123456789"
    assert (root / "b.bin").exists()
    assert not (root / "gone.bin").exists()
    assert not paths.is_folder(root / "gone")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_an_oserror(kind, urls):
    gone = paths.open_path(urls[kind]) / "gone"
    for read in (paths.read_bytes, paths.names, paths.listing, paths.stamp, lambda path: paths.head(path, 9)):
        with pytest.raises(OSError):
            read(gone)


def test_local_urls_are_local_paths(urls):
    assert paths.open_path(urls["file"]) == Path(urls["local"])
    assert not paths.is_remote(paths.open_path(urls["file"]))
    assert paths.is_remote(paths.open_path(urls["memory"]))


@pytest.mark.parametrize("kind", ["local", "memory", "http"])
def test_a_stamp_changes_with_the_file_and_only_then(kind, urls, folder):
    file = paths.open_path(urls[kind]) / "b.bin"
    first = paths.stamp(file)
    assert paths.stamp(file) == first
    if kind == "memory":
        file.write_bytes(b"9876543210")
    else:
        (folder / "b.bin").write_bytes(b"9876543210")
        os.utime(folder / "b.bin", (1, 1))
    assert paths.stamp(file) != first


def test_a_server_that_is_not_there_has_no_folder():
    assert not paths.is_folder(paths.open_path("http://127.0.0.1:9/north"))
    with pytest.raises(OSError):
        paths.names(paths.open_path("http://127.0.0.1:9/north"))


def test_what_cannot_be_opened_is_said():
    with pytest.raises(LifelongCTError, match="nonsense"):
        paths.open_path("nonsense://bucket/folder")


def test_names_that_users_write_start_in_the_root(tmp_path):
    assert paths.below(tmp_path, "a/b") == tmp_path / "a" / "b"
    assert paths.below(tmp_path, "/a/b") == Path("/a/b")
    assert str(paths.below(tmp_path, "memory://x/y")) == "memory://x/y"
    assert str(paths.below(paths.open_path("memory://x"), "y")) == "memory://x/y"


def test_private_words_of_a_url():
    assert set(paths.private_words("sftp://jane:s3cret@pacs.north.org:22/scans?token=abcdef")) == {
        "jane",
        "s3cret",
        "pacs.north.org",
        "abcdef",
    }
    assert set(paths.private_words("zip://inner::s3://bucket/x.zip")) == {"inner", "bucket"}
