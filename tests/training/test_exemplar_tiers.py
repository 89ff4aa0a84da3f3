"""Runs whose exemplars lie on disk: the same weights, each file once, nothing left over, and patients forgotten."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training import plugins as stock
from hospitals import Heard, options, stream

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.core.identity import Identity
from lifelong_ct.memory import copies, rows
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training import checkpoint
from lifelong_ct.training.folder import claimed
from lifelong_ct.training.forgetting import forget
from lifelong_ct.training.options import TrainerOptions
from lifelong_ct.training.run import Run

THREE = tuple({"name": name, "train": [12, 12], "test": []} for name in "abc")
LAST = {"name": "d", "train": [12], "test": [12]}


@pytest.fixture(scope="module", autouse=True)
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """One key for all runs."""
    KEYS.append(Identity(tmp_path_factory.mktemp("state")))
    return KEYS[-1]


KEYS: list[Identity] = []


def executed(
    folder: Path, tier: str, stop: int | None = None, budget: str = "9KiB", keep: int = 2, plugin: Any = None
) -> Heard:
    trainer = TrainerOptions(
        partial(torch.optim.AdamW, lr=1e-2), steps=6, stop_after=stop, keep_checkpoints=keep
    )
    heard = Heard()
    more: dict[str, Any] = {"limits": {"exemplars": budget}, "trainer": trainer, "exemplar_tier": tier}
    more["identity"] = KEYS[-1]
    new = plugin or (lambda: Replay(Reservoir()))
    with claimed(folder / "run"):
        made = stream(*THREE, LAST)
        Run(options(made, folder, new_plugins=lambda: [new()], **more), heard).execute()
    return heard


def generations(folder: Path) -> dict[str, Any]:
    found = sorted((folder / "run" / "checkpoints").glob("after_*"))
    return {path.name: checkpoint.load(path) for path in found}


def held(state: dict[str, Any]) -> list[dict[str, Any]]:
    (memory,) = rows.states(state)
    return list(memory["rows"])


def ids(folder: Path) -> set[str]:
    return {row["id"] for state in generations(folder).values() for row in held(state)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "run" / "exemplars").iterdir()}


def same_weights(one: Path, two: Path) -> bool:
    a, b = (list(generations(folder).values())[-1] for folder in (one, two))
    weights = [state["learner"]["model"] for state in (a, b)]
    assert held(a) == held(b)
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs to the end, `ram` and `disk`."""
    folder = tmp_path_factory.mktemp("tiers")
    for tier in ("ram", "disk"):
        executed(folder / tier, tier)
    return folder


def test_both_tiers_end_with_the_same_weights_and_exemplars(whole: Path) -> None:
    assert same_weights(whole / "ram", whole / "disk")
    assert not (whole / "ram" / "run" / "exemplars").exists()


def test_on_disk_there_is_one_file_for_each_exemplar_that_a_kept_checkpoint_names(whole: Path) -> None:
    third, fourth = ({row["id"] for row in held(state)} for state in generations(whole / "disk").values())
    assert set(files(whole / "disk")) == third | fourth
    assert third & fourth
    assert third != fourth
    for state in generations(whole / "disk").values():
        (memory,) = rows.states(state)
        assert "blobs" not in memory


@pytest.mark.parametrize(("first", "then"), [("disk", "disk"), ("disk", "ram"), ("ram", "disk")])
def test_a_run_that_is_resumed_ends_with_the_same_weights(
    whole: Path, tmp_path: Path, first: str, then: str
) -> None:
    executed(tmp_path, first, stop=2)
    if first == "disk":
        (tmp_path / "run" / "exemplars" / ("0" * 32)).write_bytes(b"left by a kill")
        (tmp_path / "run" / "exemplars" / ".tmp-half").write_bytes(b"likewise")
    executed(tmp_path, then)
    assert same_weights(whole / "ram", tmp_path)
    if then == "disk":
        assert files(tmp_path).keys() <= ids(tmp_path)


def test_a_checkpoint_whose_exemplar_is_damaged_is_passed_over(whole: Path, tmp_path: Path) -> None:
    executed(tmp_path, "disk", stop=2)
    first, second = ({row["id"] for row in held(state)} for state in generations(tmp_path).values())
    only = min(second - first)
    (tmp_path / "run" / "exemplars" / only).write_bytes(b"rotten")
    heard = executed(tmp_path, "disk")
    assert any("after_002 is damaged" in str(event) for event in heard.events)
    assert same_weights(whole / "disk", tmp_path)


def key() -> str:
    """Of a patient of the second hospital."""
    return KEYS[-1].of_patient("b", "patient of b-train-1")


def test_an_exemplar_knows_its_case_its_patient_and_its_place(tmp_path: Path) -> None:
    replay = Replay(Reservoir())
    more: dict[str, Any] = {
        "limits": {"exemplars": "1MiB"},
        "identity": KEYS[-1],
        "new_plugins": lambda: [replay],
    }
    made = stream(*THREE)
    Run(options(made, tmp_path, **more), Heard()).execute()
    scans = {
        KEYS[-1].of_patient(case.hospital, case.patient): (hospital.name, hospital.layout.load(case).image)
        for hospital in made.hospitals
        for case in hospital.train
    }
    count = 0
    for exemplar, parts in replay.memory.held():
        name, image = scans[exemplar.origin.patient]
        assert exemplar.origin.hospital == name
        corner = exemplar.origin.corner
        assert corner is not None
        assert np.array_equal(parts["x"][0], image[tuple(slice(c, c + 8) for c in corner)])
        count += 1
    assert count > 6


@pytest.mark.parametrize("tier", ["ram", "disk"])
def test_a_patient_is_removed_from_every_generation_and_every_file(tmp_path: Path, tier: str) -> None:
    executed(tmp_path, tier, stop=3, budget="1MiB", keep=3)
    before, gone = generations(tmp_path), key()
    counts = {name: sum(row["patient"] == gone for row in held(state)) for name, state in before.items()}
    assert [counts[name] > 0 for name in sorted(counts)] == [False, True, True]
    stored = files(tmp_path) if tier == "disk" else {}
    named = {row["id"] for row in held(before["after_003"]) if row["patient"] == gone}
    report = forget(tmp_path / "run", [gone])
    assert report.exemplars == {name: count for name, count in counts.items() if count}
    after = generations(tmp_path)
    for name, state in after.items():
        assert held(state) == [row for row in held(before[name]) if row["patient"] != gone]
        for part in ("learner", "label_space", "results", "serving", "after"):
            assert repr(state[part]) == repr(before[name][part])
    if tier == "disk":
        assert set(files(tmp_path)) == set(stored) - named
        assert (report.files, report.nbytes) == (len(named), sum(len(stored[id]) for id in named))
    again = forget(tmp_path / "run", [gone])
    assert (again.exemplars, again.files, again.nbytes) == ({}, 0, 0)
    executed(tmp_path, tier, budget="1MiB", keep=3)
    assert all(row["patient"] != gone for state in generations(tmp_path).values() for row in held(state))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_in_the_middle_leaves_old_or_new_and_a_second_call_finishes(tmp_path: Path, when: str) -> None:
    executed(tmp_path, "disk", stop=3, budget="1MiB", keep=3)
    before, gone = generations(tmp_path), key()
    code = (
        "import os, sys; from pathlib import Path; from lifelong_ct.core import files\n"
        "from lifelong_ct.training.forgetting import forget\n"
        "real = files._swap\n"
        "def killed(new, path):\n"
        "    if sys.argv[3] == 'after': real(new, path)\n"
        "    os._exit(9)\n"
        "files._swap = killed; forget(Path(sys.argv[1]), [sys.argv[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), gone, when], env=os.environ, check=False
    )
    assert done.returncode == 9
    stays = {name: [row for row in held(s) if row["patient"] != gone] for name, s in before.items()}
    for name, state in generations(tmp_path).items():
        is_new = when == "after" and name == "after_002"
        assert held(state) == (stays[name] if is_new else held(before[name]))
    forget(tmp_path / "run", [gone])
    assert {name: held(state) for name, state in generations(tmp_path).items()} == stays
    assert set(files(tmp_path)) == ids(tmp_path)
    assert not list((tmp_path / "run").rglob(".tmp-*"))


def test_a_checkpoint_that_cannot_be_read_is_told_once_the_others_are_done(tmp_path: Path) -> None:
    executed(tmp_path, "ram", stop=3, budget="1MiB", keep=3)
    (tmp_path / "run" / "checkpoints" / "after_002" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        forget(tmp_path / "run", [key()])
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "after_003")
    assert all(row["patient"] != key() for row in held(state))


STOCK = {
    "A-GEM": lambda: stock.AGEMPlugin(patterns_per_experience=4, sample_size=4),
    "replay": lambda: stock.ReplayPlugin(mem_size=8),
}


@pytest.mark.parametrize("name", sorted(STOCK))
def test_a_patient_is_removed_from_what_avalanche_s_plugins_keep(tmp_path: Path, name: str) -> None:
    def kept(state: dict[str, Any]) -> list[tuple[str, bytes]]:
        found = list(rows.states(state, copies.KIND))
        pairs = [zip(own["patients"], own["tensors"]["x"], strict=True) for own in found]
        return [(patient, x.numpy().tobytes()) for each in pairs for patient, x in each]

    scans = {
        KEYS[-1].of_patient(case.hospital, case.patient): hospital.layout.load(case).image
        for hospital in stream(*THREE).hospitals
        for case in hospital.train
    }
    executed(tmp_path, "ram", stop=3, budget="1MiB", keep=3, plugin=STOCK[name])
    before = {generation: kept(state) for generation, state in generations(tmp_path).items()}
    for patient, x in before["after_003"]:
        windows = np.lib.stride_tricks.sliding_window_view(scans[patient], (8, 8, 8)).reshape(-1, 8, 8, 8)
        assert any(np.array_equal(window.ravel(), np.frombuffer(x, np.int16)) for window in windows)
    gone = {x for patient, x in before["after_003"] if patient == key()}
    assert len(gone) == 1
    assert len(before["after_003"]) == 6
    report = forget(tmp_path / "run", [key()])
    assert report.exemplars == {"after_002": 1, "after_003": 1}
    for generation, state in generations(tmp_path).items():
        assert kept(state) == [pair for pair in before[generation] if pair[0] != key()]
        assert not any(x in gone for _, x in kept(state))
    executed(tmp_path, "ram", budget="1MiB", keep=3, plugin=STOCK[name])
    assert len(kept(generations(tmp_path)["after_004"])) == 6
    assert all(patient != key() for patient, _ in kept(generations(tmp_path)["after_004"]))


def test_patches_that_are_nobody_s_are_told_and_all_else_is_done(tmp_path: Path) -> None:
    executed(tmp_path, "ram", stop=3, budget="1MiB", keep=3)
    path = tmp_path / "run" / "checkpoints" / "after_002"
    state = checkpoint.load(path)
    state["strategy"].append({"voxels": torch.zeros(3, 1, 8, 8, 8, dtype=torch.int16)})
    checkpoint.save(path, state)
    with pytest.raises(CheckpointError, match="3 patches are kept of which nobody knows") as error:
        forget(tmp_path / "run", [key()])
    assert error.value.where == str(path)
    assert all(row["patient"] != key() for state in generations(tmp_path).values() for row in held(state))
    (memory,) = rows.states(state)
    memory["rows"][0]["patient"] = ""
    assert copies.unattributed(state["strategy"]) == 4


def test_a_folder_without_checkpoints_and_one_in_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LifelongCTError, match="no checkpoint"):
        forget(tmp_path, ["0" * 16])
    (tmp_path / "checkpoints").mkdir()
    with claimed(tmp_path), pytest.raises(LifelongCTError, match="another process"):
        forget(tmp_path, ["0" * 16])


def test_a_tier_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LifelongCTError, match="exemplar_tier='tape'") as error:
        options(stream(LAST), tmp_path, exemplar_tier="tape")
    assert error.value.where == "memory.exemplar_tier"
