"""Exemplars as files: there as long as somebody names them, whole or an error."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash

from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.exemplars import OVERHEAD, ExemplarMemory, Origin
from lifelong_ct.memory.files import ExemplarFiles
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.memory.shelves import DiskShelf, RamShelf

SHARING = {"a": "patches"}


def put(files: ExemplarFiles, *texts: bytes) -> list[str]:
    ids = [xxhash.xxh3_128_hexdigest(text) for text in texts]
    for id, text in zip(ids, texts):
        files.put(id, text)
    return ids


def there(files: ExemplarFiles) -> set[str]:
    return {path.name for path in files.folder.iterdir()}


def offer(memory: ExemplarMemory, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).integers(-999, 999, (1, 6, 6, 6)).astype(np.int16))
    memory.offer(
        {"x": x, "y": torch.zeros(1, 6, 6, 6, dtype=torch.uint8)}, Origin("a", str(seed), f"p{seed}")
    )


def pair(folder: Path, budget: int) -> tuple[ExemplarMemory, ExemplarMemory, ExemplarFiles]:
    """In memory and on disk."""
    files = ExemplarFiles(folder, 2)
    one = ExemplarMemory(budget, Reservoir(), Ledger(), 0, SHARING)
    two = ExemplarMemory(budget, Reservoir(), Ledger(), 0, SHARING, shelf=DiskShelf(files, "m"))
    return one, two, files


def test_a_file_goes_when_no_memory_holds_it_and_no_checkpoint_names_it(tmp_path: Path) -> None:
    files = ExemplarFiles(tmp_path, 2)
    a, b, c, d = put(files, b"a", b"bb", b"ccc", b"dddd")
    files.hold("one", [a, b, c])
    files.hold("two", [b, d])
    assert files.nbytes == 1 + 2 + 3 + 4
    files.name([a])
    files.hold("one", [])
    assert there(files) == {a, b, d}
    files.name([])
    assert there(files) == {b, d}
    files.hold("two", [d])
    assert there(files) == {d}
    assert files.nbytes == 4


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path: Path) -> None:
    a, b = put(ExemplarFiles(tmp_path, 2), b"a", b"b")
    (tmp_path / ".tmp-half").write_bytes(b"c")
    files = ExemplarFiles(tmp_path, 2)
    files.name([a])
    assert there(files) == {a}
    assert files.nbytes == 1
    assert b not in there(files)


@pytest.mark.parametrize("harm", ["bit", "short", "gone"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, harm: str) -> None:
    files = ExemplarFiles(tmp_path, 2)
    (id,) = put(files, b"voxels")
    assert files.get(id) == b"voxels"
    path = tmp_path / id
    {
        "bit": lambda: path.write_bytes(b"voxelS"),
        "short": lambda: path.write_bytes(b"vox"),
        "gone": path.unlink,
    }[harm]()
    with pytest.raises(CheckpointError) as error:
        files.get(id)
    assert id in error.value.where


def test_both_tiers_keep_and_draw_the_same_and_the_files_are_what_is_held(tmp_path: Path) -> None:
    ram, disk, files = pair(tmp_path, 3000)
    for seed in range(20):
        offer(ram, seed)
        offer(disk, seed)
        assert there(files) == {exemplar.id for exemplar, _ in disk.held()}
        draws = [memory.sample(3, np.random.default_rng(seed)) for memory in (ram, disk)]
        assert all(torch.equal(draws[0][name], draws[1][name]) for name in ("x", "y"))
    assert 1 < len(disk) == len(ram) < 20
    assert ram.nbytes == disk.nbytes == files.nbytes + OVERHEAD * len(disk)


@pytest.mark.parametrize(("before", "after"), [("disk", "disk"), ("disk", "ram"), ("ram", "disk")])
def test_a_checkpoint_is_read_whatever_the_tier_was_and_is(tmp_path: Path, before: str, after: str) -> None:
    ram, disk, files = pair(tmp_path, 3000)
    for seed in range(6):
        offer(ram, seed)
        offer(disk, seed)
    state = (disk if before == "disk" else ram).state_dict()
    assert ("blobs" in state) == (before == "ram")
    shelf = DiskShelf(files, "n") if after == "disk" else RamShelf(files)
    fresh = ExemplarMemory(3000, Reservoir(), Ledger(), 0, SHARING, shelf=shelf)
    fresh.load_state_dict(state)
    one, two = (memory.sample(9, np.random.default_rng(1))["x"] for memory in (ram, fresh))
    assert torch.equal(one, two)
    assert fresh.nbytes == ram.nbytes


def test_a_checkpoint_with_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    _, disk, files = pair(tmp_path, 3000)
    offer(disk, 1)
    state = disk.state_dict()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"?")
    fresh = ExemplarMemory(3000, Reservoir(), Ledger(), 0, SHARING, shelf=DiskShelf(files, "n"))
    with pytest.raises(CheckpointError):
        fresh.load_state_dict(state)
    assert len(fresh) == fresh.nbytes == 0
    with pytest.raises(CheckpointError, match="beside"):
        ExemplarMemory(3000, Reservoir(), Ledger(), 0, SHARING).load_state_dict(state)


def test_on_disk_the_ledger_holds_files_for_every_generation_and_metadata_in_memory(tmp_path: Path) -> None:
    budget, files, ledger = 64_000, ExemplarFiles(tmp_path, 2), Ledger()
    memory = ExemplarMemory(budget, Reservoir(), ledger, 0, SHARING, shelf=DiskShelf(files, "m"))
    assert ledger.holders("ram") == {"exemplar memory": 1000}
    assert ledger.holders("disk") == {"exemplar memory": 3 * budget}
    assert memory.declared_bytes() == {"exemplars": budget, "ram": 1000, "disk": 3 * budget}
    for seed in range(10):
        offer(memory, seed)
    assert ledger.held("ram") == ledger.peak_used("ram") == 10 * OVERHEAD
    assert ledger.peak_used("disk") == files.nbytes == memory.nbytes - 10 * OVERHEAD


def test_more_small_exemplars_than_memory_has_room_to_know_of_are_an_error(tmp_path: Path) -> None:
    shelf, ledger = DiskShelf(ExemplarFiles(tmp_path, 2), "m"), Ledger({"ram": 3 * OVERHEAD})
    memory = ExemplarMemory(20_000, Reservoir(), ledger, 0, SHARING, shelf=shelf)
    for seed in range(3):
        offer(memory, seed)
    with pytest.raises(LimitExceeded):
        offer(memory, 3)


def test_removing_a_patient_removes_its_files(tmp_path: Path) -> None:
    _, disk, files = pair(tmp_path, 100_000)
    for seed in range(4):
        offer(disk, seed)
    kept = {exemplar.id for exemplar, _ in disk.held() if exemplar.origin.patient != "p2"}
    assert disk.remove("p2") == 1
    assert there(files) == kept
    assert len(kept) == 3
