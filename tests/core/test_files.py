import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from lifelong_ct.core import files
from lifelong_ct.core.errors import LifelongCTError


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    files.write_text(path, "Jürgen\n")
    files.write_text(path, "new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.txt"]


def test_json_there_and_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5, None, "Ü"]})
    assert files.read_json(tmp_path / "a.json") == {"b": [1, 2.5, None, "Ü"]}
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["b"][0] == 1


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    files.write_text(tmp_path / "a", "old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(LifelongCTError, match="No space left on device"):
        files.write_text(tmp_path / "a", "new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", None])
def test_json_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(LifelongCTError) as error:
        files.read_json(path)
    assert error.value.where == str(path)
    with pytest.raises(LifelongCTError, match="does not exist"):
        files.read_json(tmp_path / "b.json")


def test_a_folder_appears_whole_and_replaces_an_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.new_directory(tmp_path / "folder") as scratch:
            (scratch / "sub").mkdir()
            (scratch / "sub" / text).write_text(text)
            assert not (tmp_path / "folder" / "sub" / text).exists()
    assert [p.name for p in (tmp_path / "folder" / "sub").iterdir()] == ["new"]
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(28, "No space left on device")])
def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path, error: Exception) -> None:
    with files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("old")

    def fail() -> None:
        with files.new_directory(tmp_path / "folder") as scratch:
            (scratch / "a").write_text("new")
            raise error

    with pytest.raises(LifelongCTError if isinstance(error, OSError) else ValueError):
        fail()
    assert (tmp_path / "folder" / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_rename_that_fails_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("old")
    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    renames: list[object] = []
    real = os.replace

    def second_fails(source: object, target: object) -> None:
        renames.append(target)
        if len(renames) == 2:
            raise OSError(5, "Input/output error")
        real(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(LifelongCTError), files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("new")
    assert (tmp_path / "folder" / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two folders in one step")
def test_there_is_no_moment_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("old")

    def no_renames(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "replace", no_renames)
    with files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("new")
    assert (tmp_path / "folder" / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_process_killed_between_files_leaves_the_old_folder(tmp_path: Path) -> None:
    with files.new_directory(tmp_path / "folder") as scratch:
        (scratch / "a").write_text("old")
    program = (
        "import os, sys; from pathlib import Path; from lifelong_ct.core.files import new_directory\n"
        "with new_directory(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'a').write_text('new'); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "folder")], check=False)
    assert killed.returncode == 9
    assert (tmp_path / "folder" / "a").read_text() == "old"
    files.remove_scratch(tmp_path)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LifelongCTError, match="Permission denied"):
        files.write_text(tmp_path / "a", "b")


def test_a_path_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LifelongCTError, match="cannot write"):
        files.write_text(tmp_path / "file" / "a", "b")
    with pytest.raises(LifelongCTError, match="cannot write"), files.new_directory(tmp_path / "file" / "a"):
        pass


def test_checksum_is_xxh3_128_of_the_content(tmp_path: Path) -> None:
    data = hashlib.sha512(b"seed").digest() * 40_000  # longer than one block
    (tmp_path / "a").write_bytes(data)
    assert files.checksum(tmp_path / "a") == xxhash.xxh3_128(data).hexdigest()


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o007, 0o660, 0o770)])
def test_files_and_folders_have_the_rights_that_the_umask_leaves(
    tmp_path: Path, umask: int, file: int, folder: int
) -> None:
    program = (
        "import os, sys; from pathlib import Path; root = Path(sys.argv[1]); os.umask(int(sys.argv[2]))\n"
        "from lifelong_ct.core import files\n"
        "files.write_text(root / 'deep' / 'a', ''); files.write_text(root / 'deep' / 'a', 'new')\n"
        "with files.new_directory(root / 'b') as scratch: (scratch / 'c').write_text('')\n"
        "plain = os.open(root / 'plain', os.O_CREAT | os.O_WRONLY)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), str(umask)], check=True)
    rights = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert rights == {"deep": folder, "a": file, "b": folder, "c": file, "plain": rights["plain"]}


def test_asking_for_the_umask_leaves_it_as_it_is() -> None:
    before = os.umask(0o022)
    os.umask(before)
    assert files._umask() == before
    assert os.umask(before) == before


def test_a_file_is_never_wider_open_than_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = os.fsync

    def look(handle: int) -> None:
        seen.append(os.fstat(handle).st_mode & 0o777)
        real(handle)

    monkeypatch.setattr(files.os, "fsync", look)
    files.write_text(tmp_path / "a", "b")
    assert seen[0] == (tmp_path / "a").stat().st_mode & 0o777
