"""Which checkpoint a run goes on from."""

import shutil
from pathlib import Path

import pytest

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.memory.files import ExemplarFiles
from lifelong_ct.training.generations import Generations


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, notes: list[str]) -> Generations:
    return Generations(
        tmp_path / "checkpoints", 2, Ledger(), notes.append, ExemplarFiles(tmp_path / "exemplars", 3)
    )


def names(kept: Generations) -> list[str]:
    return sorted(path.name for path in kept.folder.iterdir())


def spoil(path: Path) -> None:
    data = bytearray((path / "state.json").read_bytes())
    data[-1] ^= 1
    (path / "state.json").write_bytes(data)


def test_none(kept: Generations) -> None:
    assert kept.newest() == (None, None)


def test_within_the_first_experience_there_is_nothing_below(kept: Generations) -> None:
    kept.save_within(1, 9, {"base": 0, "step": 9})
    kept.save_within(1, 10, {"base": 0, "step": 10})
    assert kept.newest() == (None, {"base": 0, "step": 10})
    assert names(kept) == ["within_001_step_000010"]
    on_disk = sum(file.stat().st_size for file in kept.folder.rglob("*.*"))
    assert kept.ledger.report()["disk"]["used"] == on_disk


def test_within_a_later_one_both_are_found_until_it_ends(kept: Generations) -> None:
    kept.save(1, {"after": 1})
    kept.save_within(2, 5, {"base": 1})
    assert kept.newest() == ({"after": 1}, {"base": 1})
    kept.save(2, {"after": 2})
    assert names(kept) == ["after_001", "after_002"]
    assert kept.newest() == ({"after": 2}, None)


def test_joint_training_has_one_experience_with_the_number_of_the_last(kept: Generations) -> None:
    kept.save_within(6, 5, {"base": 0})
    assert kept.newest() == (None, {"base": 0})


def test_a_damaged_one_falls_back_to_the_end_of_the_experience_before(
    kept: Generations, notes: list[str]
) -> None:
    kept.save(1, {"after": 1})
    kept.save_within(2, 5, {"base": 1})
    spoil(kept.folder / "within_002_step_000005")
    assert kept.newest() == ({"after": 1}, None)
    assert "within_002_step_000005 is damaged" in notes[0]


def test_without_what_lies_below_it_is_worth_nothing(kept: Generations, notes: list[str]) -> None:
    for after in (1, 2):
        kept.save(after, {"after": after})
    kept.save_within(3, 5, {"base": 2})
    spoil(kept.folder / "after_002")
    assert kept.newest() == ({"after": 1}, None)
    assert len(notes) == 2
    shutil.rmtree(kept.folder / "after_001")
    assert kept.newest() == (None, None)
    assert "starts again" in notes[-1]
