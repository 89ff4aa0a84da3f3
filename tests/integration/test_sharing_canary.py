"""Of a hospital that does not share its voxels none is in any file once it is learnt; of one that does, some are."""

import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import blosc2
import numpy as np
import pytest
import scans
from whole_runs import places

from lifelong_ct.cli.main import main

VALUES = np.random.default_rng(7).permutation(np.arange(-801, 801, 6)).astype(np.int16)
CANARIES = {name: VALUES[8 * i : 8 * i + 8] for i, name in enumerate(("north", "south", "west"))}
EXACT = ("strategy.plugins.0.window=null", "strategy.plugins.0.precision=1")
"""Exemplars keep every bit, so that a pattern can be found again."""
CHUNK = re.compile(rb"(?=[\x02-\x06].{2}[\x01\x02\x04\x08].{12})", re.DOTALL)
"""The beginning of a Blosc2 chunk: version, two bytes, size of an item; then bytes, bytes of a block, compressed bytes."""


def write(root: Path, canary: np.ndarray) -> None:
    """Scans in the middle of which every row along every axis repeats the canary."""
    rows = {split: scans.entry(f"{split}-case", split) for split in ("train", "test")}
    scans.write(root, rows)
    for row, raw in zip(rows.values(), scans.drawn(), strict=True):
        voxels, middle = raw.image.copy(), (slice(4, -4),) * 3
        voxels[middle] = canary[np.indices(voxels[middle].shape).sum(axis=0) % len(canary)]
        scans.save(voxels, raw.affine, root / row["image"])


def needles(canary: np.ndarray) -> list[bytes]:
    """As the store, a tensor or NumPy may hold it, also where an axis is turned."""
    found = [
        canary,
        canary[::-1],
        canary.astype(">i2"),
        *(canary.astype(t) for t in ("f4", "f2", "f8", "i4")),
    ]
    return [array.tobytes() for array in found]


def contents(data: bytes) -> Iterator[bytes]:
    """Bytes as they are, and what any part of them is compressed from."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    for match in CHUNK.finditer(data):
        start = match.start()
        nbytes, block, size = np.frombuffer(data, "<i4", 3, start + 4)
        if 0 < nbytes < 1 << 26 and 0 < block <= nbytes and 16 <= size <= len(data) - start:
            try:
                yield blosc2.decompress2(data[start : start + size])
            except (RuntimeError, ValueError, TypeError):
                continue


def found(name: str, *folders: Path) -> set[str]:
    """Files that hold the canary of a hospital, as `folder/…`."""
    words = needles(CANARIES[name])
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return {
        f"{path.relative_to(folders[0].parent)}"
        for path in files
        if any(word in data for data in contents(path.read_bytes()) for word in words)
    }


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three hospitals, and a folder for temporary files that is searched as well."""
    (tmp_path / "left" / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "left" / "tmp"))
    for name, canary in CANARIES.items():
        write(tmp_path / name, canary)
    return tmp_path


def arguments(world: Path, **sharing: str) -> list[str]:
    hospitals = {
        name: {
            "root": str(world / name),
            "manifest": "manifest.json",
            "sharing": sharing.get(name, "patches"),
        }
        for name in CANARIES
    }
    more = ["debug=tiny", "stream.first=null", "memory.exemplars=1MiB", "strategy=replay", *EXACT]
    return [*scans.conf(world / "conf", **hospitals), *more, *places(world / "left")]


def searched(world: Path, name: str) -> set[str]:
    return (
        found(name, world / "left", world / "state")
        if (world / "state").exists()
        else found(name, world / "left")
    )


def drawn(world: Path) -> set[str]:
    """Hospitals of which there are overlays; every picture belongs to one."""
    (index,) = (world / "left").rglob("overlays/index.json")
    rows = json.loads(index.read_text())
    assert len(list(index.parent.glob("*.png"))) == 3 * len(rows)
    return {row["hospital"] for row in rows}


def kinds(files: set[str]) -> set[str]:
    """Which of the folders of a run hold something."""
    return {Path(file).parts[1] for file in files}


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    row = np.tile(CANARIES["north"], 2000)
    chunk = blosc2.compress2(row.tobytes(), cparams=blosc2.CParams(typesize=2, codec=blosc2.Codec.ZSTD))
    assert row.tobytes()[:16] not in chunk
    (tmp_path / "left" / "a").write_bytes(b"..." + chunk + b"...")
    (tmp_path / "left" / "b.gz").write_bytes(gzip.compress(row.tobytes()))
    (tmp_path / "left" / "c").write_bytes(row.astype("f4")[::-1].copy().tobytes()[::-1] + row.tobytes())
    (tmp_path / "left" / "d").write_bytes(np.tile(CANARIES["south"], 9).tobytes())
    assert found("north", tmp_path / "left") == {"left/a", "left/b.gz", "left/c"}


@pytest.mark.parametrize("tier", ["ram", "disk"])
def test_nothing_is_left_of_those_that_do_not_share(world: Path, tier: str) -> None:
    args = [*arguments(world, north="forbid", south="features"), f"memory.exemplar_tier={tier}"]
    assert main([*args, "trainer.stop_after=1"]) == 0
    assert searched(world, "north") == set()
    assert main(args) == 0
    assert searched(world, "north") == searched(world, "south") == set()
    assert kinds(searched(world, "west")) == {"store", "runs"}, "the search finds what is shared"
    assert drawn(world) == {"west"}, "overlays are compressed pictures, which the search does not look into"


def test_what_is_shared_is_found_in_the_store_and_among_the_exemplars(world: Path) -> None:
    assert main(arguments(world)) == 0
    for name in CANARIES:
        assert kinds(searched(world, name)) == {"store", "runs"}


def test_what_was_stored_while_a_hospital_still_shared_goes_too(world: Path, capfd) -> None:
    assert main(["ingest", *arguments(world)]) == 0
    assert kinds(searched(world, "north")) == {"store"}
    assert main(arguments(world, north="forbid")) == 0
    assert searched(world, "north") == set()


def test_ingest_stores_nothing_of_it_and_says_so(world: Path, capfd) -> None:
    assert main(["ingest", *arguments(world, north="forbid", south="features")]) == 0
    assert "north: sharing: forbid, so its train cases are not stored" in capfd.readouterr().out
    assert searched(world, "north") == searched(world, "south") == set()
    assert kinds(searched(world, "west")) == {"store"}


@pytest.mark.parametrize("strategy", ["joint", "cumulative"])
def test_methods_that_train_on_the_past_are_refused(world: Path, capfd, strategy: str) -> None:
    args = [a for a in arguments(world, south="features") if not a.startswith("strategy")]
    assert main([*args, f"strategy={strategy}"]) == 2
    assert "south (features) may not be kept" in capfd.readouterr().err
    assert not list((world / "left").rglob("*.lctvol"))
