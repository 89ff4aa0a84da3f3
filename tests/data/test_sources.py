"""Hashes of what files hold, remembered by size, time and inode."""

import hashlib
import http.server
import os
import shutil
import sqlite3
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.paths import open_path
from lifelong_ct.data import sources as module
from lifelong_ct.data.sources import INDEX, Sources

LONG_AGO = 10**18


@pytest.fixture
def hashed(monkeypatch):
    """Files that were hashed, by name."""
    seen, real = [], module._hash
    monkeypatch.setattr(module, "_hash", lambda path: [seen.append(path.name), real(path)][1])
    return seen


def write(path: Path, data: bytes, ns: int = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(ns, ns))
    return path


def digest(*files: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(b"".join(xxhash.xxh3_128_digest(data) for data in files))


def test_the_hash_is_that_of_the_bytes_and_is_remembered(tmp_path, hashed):
    files = [write(tmp_path / "a", b"one"), write(tmp_path / "b", b"two" * 10**6)]
    index = Sources(tmp_path / INDEX)
    for _ in range(2):
        found = index.content(files)
        assert found.digest == digest(b"one", b"two" * 10**6)
        assert not found.changed
    assert hashed == ["a", "b"]
    index.close()
    assert Sources(tmp_path / INDEX).content(files) == found
    assert hashed == ["a", "b"]


def test_the_order_counts_and_names_do_not(tmp_path):
    one, two = write(tmp_path / "a", b"one"), write(tmp_path / "b", b"two")
    index = Sources(tmp_path / INDEX)
    moved = [write(tmp_path / "x" / "c", b"one"), write(tmp_path / "y" / "d", b"two")]
    assert index.content([one, two]).digest == index.content(moved).digest != index.content([two, one]).digest


@pytest.mark.parametrize("rehash", [False, True])
def test_size_time_and_inode_tell_and_rehash_asks_nothing(tmp_path, hashed, rehash):
    file = write(tmp_path / "a", b"one")
    index = Sources(tmp_path / INDEX)
    first = index.content([file])
    file.write_bytes(b"two")
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    found = index.content([file], rehash)
    assert found.changed == rehash
    assert found.digest == (digest(b"two") if rehash else first.digest)
    assert len(hashed) == 1 + rehash


@pytest.mark.parametrize("how", ["size", "time", "inode"])
def test_a_change_is_found_by(tmp_path, hashed, how):
    file = write(tmp_path / "a", b"one")
    index = Sources(tmp_path / INDEX)
    index.content([file])
    if how == "inode":
        write(tmp_path / "new", b"two").rename(file)
    else:
        write(file, b"three" if how == "size" else b"two", LONG_AGO + (how == "time"))
    found = index.content([file])
    assert found.changed
    assert found.digest == digest(file.read_bytes())
    assert not index.content([file]).changed


def test_a_touched_file_is_hashed_again_and_has_not_changed(tmp_path, hashed):
    file = write(tmp_path / "a", b"one")
    index = Sources(tmp_path / INDEX)
    index.content([file])
    os.utime(file, ns=(LONG_AGO, LONG_AGO + 1))
    assert not index.content([file]).changed
    assert len(hashed) == 2


def test_a_file_that_was_just_written_is_not_trusted(tmp_path, hashed):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    index = Sources(tmp_path / INDEX)
    stamp = os.stat(file).st_mtime_ns
    index.content([file])
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp, stamp))  # within the tick of a coarse clock
    assert index.content([file]).changed
    later = time.time_ns() - 3 * 10**9
    os.utime(file, ns=(later, later))
    index.content([file])
    count = len(hashed)
    index.content([file])
    assert len(hashed) == count


def test_a_folder_is_the_set_of_what_is_in_it(tmp_path):
    folder = tmp_path / "dicom"
    for i in range(3):
        write(folder / f"{i}.dcm", b"slice %d" % i)
    write(folder / "deeper" / "x.dcm", b"slice 3")
    index = Sources(tmp_path / INDEX)
    first = index.content([folder]).digest
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "0.dcm").rename(tmp_path / "copy" / "z.dcm")
    assert index.content([tmp_path / "copy"]).digest == first
    write(folder / "1.dcm", b"slice x", LONG_AGO + 1)
    assert index.content([folder]).changed
    write(folder / "1.dcm", b"slice 1", LONG_AGO + 2)
    assert index.content([folder]).digest == first
    (folder / "1.dcm").unlink()
    assert index.content([folder]).digest != first


def test_a_missing_file_is_told(tmp_path):
    index = Sources(tmp_path / INDEX)
    with pytest.raises(DataError, match="cannot be read") as error:
        index.content([tmp_path / "gone.nii"])
    assert error.value.code == "missing"
    assert "gone.nii" in error.value.where


def test_no_path_and_no_name_is_readable(tmp_path):
    file = write(tmp_path / "smith_1953" / "mueller.nii", b"one")
    index = Sources(tmp_path / INDEX)
    index.content([file])
    index.close()
    data = (tmp_path / INDEX).read_bytes()
    for word in (b"smith", b"1953", b"mueller", b"nii", str(tmp_path).encode()):
        assert word not in data


def test_it_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 64)
    index, now = Sources(tmp_path / INDEX), [10**9]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    files = [write(tmp_path / str(i), b"%d" % i) for i in range(100)]
    for file in files:
        now[0] += 2 * 86_400
        index.content([file])
        index.content([files[0]])  # asked for all the time
    rows = sqlite3.connect(tmp_path / INDEX).execute("SELECT count(*) FROM sources").fetchone()[0]
    assert 64 - 64 // 8 <= rows <= 64
    assert index._find(xxhash.xxh3_128_digest(str(files[0]).encode())) is not None
    assert index._find(xxhash.xxh3_128_digest(str(files[1]).encode())) is None


def test_a_row_takes_about_100_bytes(tmp_path):
    index = Sources(tmp_path / INDEX)
    for i in range(2000):
        index._keep(hashlib.md5(b"%d" % i).digest(), bytes(16), bytes(16))
    assert (tmp_path / INDEX).stat().st_size < 2000 * 130


def test_one_flipped_bit_anywhere_is_found_or_harmless(tmp_path):
    files = [write(tmp_path / str(i), b"%d" % i) for i in range(3)]
    index = Sources(tmp_path / INDEX)
    right = [index.content([file]).digest for file in files]
    index.close()
    whole = (tmp_path / INDEX).read_bytes()
    used = [i for i in range(len(whole)) if i < 200 or whole[i]]
    for place in used[::3]:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        (tmp_path / INDEX).write_bytes(data)
        index = Sources(tmp_path / INDEX)
        assert [index.content([file]).digest for file in files] == right, place
        assert [index.content([file]).digest for file in files] == right, place
        index.close()


@pytest.mark.parametrize("damage", [b"no database at all" * 1000, b""])
def test_a_damaged_index_is_begun_anew(tmp_path, damage, hashed):
    file = write(tmp_path / "a", b"one")
    (tmp_path / INDEX).write_bytes(damage)
    index = Sources(tmp_path / INDEX)
    index.content([file])
    index.content([file])
    assert len(hashed) == 1


def test_an_index_that_cannot_be_written_costs_hashing_only(tmp_path, hashed):
    file = write(tmp_path / "a", b"one")
    index = Sources(tmp_path / "nowhere" / INDEX)
    for _ in range(2):
        assert index.content([file]).digest == digest(b"one")
    assert len(hashed) == 2


def test_another_process_that_is_in_for_long_costs_hashing_only(tmp_path, hashed, monkeypatch):
    file = write(tmp_path / "a", b"one")
    index = Sources(tmp_path / INDEX)
    index._db.execute("PRAGMA busy_timeout=1")
    other = sqlite3.connect(tmp_path / INDEX, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert index.content([file]).digest == digest(b"one")
    other.execute("COMMIT")
    index.content([file])
    index.content([file])
    assert len(hashed) == 2


@pytest.fixture
def server(tmp_path):
    """A web server for a folder: its address, and its class."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        tells = True

        def send_header(self, name, value):
            if name != "Last-Modified" or self.tells:
                super().send_header(name, value)

        def log_message(self, *args):
            pass

    (tmp_path / "web").mkdir()
    made = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web"))
    )
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", Handler
    made.shutdown()
    made.server_close()


def test_a_url_is_remembered_by_what_its_server_tells(tmp_path, server, hashed):
    address, _ = server
    write(tmp_path / "web" / "a.nii", b"one")
    index = Sources(tmp_path / INDEX)
    for _ in range(2):
        assert index.content([open_path(f"{address}/a.nii")]).digest == digest(b"one")
    assert len(hashed) == 1
    write(tmp_path / "web" / "a.nii", b"two", LONG_AGO + 10**9)
    assert index.content([open_path(f"{address}/a.nii")]).changed
    assert len(hashed) == 2
    with pytest.raises(DataError) as error:
        index.content([open_path(f"{address}/b.nii")])
    assert error.value.code == "missing"


def test_a_url_whose_server_tells_nothing_is_read_each_time(tmp_path, server, hashed):
    address, handler = server
    handler.tells = False
    write(tmp_path / "web" / "a.nii", b"one")
    index, remote = Sources(tmp_path / INDEX), open_path(f"{address}/a.nii")
    first = index.content([remote])
    assert first.stamp is None
    assert index.same([remote], first)
    write(tmp_path / "web" / "a.nii", b"two")
    assert index.content([remote]).changed
    assert len(hashed) == 2


def test_a_file_in_an_archive_is_the_file_itself(tmp_path):
    with zipfile.ZipFile(tmp_path / "h.zip", "w") as archive:
        archive.writestr("a/ct.nii", b"one")
        archive.writestr("series/1.dcm", b"x")
        archive.writestr("series/2.dcm", b"y")
    index = Sources(tmp_path / INDEX)
    inside = [open_path(f"zip://{name}::{tmp_path / 'h.zip'}") for name in ("a/ct.nii", "series")]
    write(tmp_path / "ct.nii", b"one")
    for name, data in (("b", b"x"), ("a", b"y")):
        write(tmp_path / "s" / name, data)
    assert index.content(inside).digest == index.content([tmp_path / "ct.nii", tmp_path / "s"]).digest
    assert index.content(inside).stamp is not None
