import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin, EWCPlugin
from tiny import World

from lifelong_ct.core.errors import CheckpointError, LifelongCTError
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training import checkpoint

TREE: dict[str, Any] = {
    "weights": {"a/b": torch.arange(6.0).reshape(2, 3), "a": {"b": torch.tensor(2, dtype=torch.uint8)}},
    1: torch.zeros(0),
    "1": torch.ones(3, dtype=torch.bfloat16),
    "list": [None, True, "Jürgen", {2: [3.5, torch.tensor([7])]}],
    "empty": {},
}


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        for one, two in zip(first, second, strict=True):
            assert_same(one, two)
    else:
        assert first == second


def test_a_tree_comes_back_with_its_types_and_keys(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "after_001", TREE)
    assert_same(checkpoint.load(tmp_path / "after_001"), TREE)
    on_disk = sum(file.stat().st_size for file in (tmp_path / "after_001").iterdir())
    assert checkpoint.nbytes(tmp_path / "after_001") == on_disk


@pytest.mark.parametrize("value", [object(), {1.5: 1}, {"a": {1, 2}}, float("nan")])
def test_what_is_neither_tensor_nor_json_is_refused_and_the_old_one_stays(tmp_path: Path, value: Any) -> None:
    checkpoint.save(tmp_path / "after_001", TREE)
    with pytest.raises((TypeError, ValueError)):
        checkpoint.save(tmp_path / "after_001", {"value": value})
    assert_same(checkpoint.load(tmp_path / "after_001"), TREE)


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_one_wrong_bit_is_found(tmp_path: Path, file: str) -> None:
    checkpoint.save(tmp_path / "a", TREE)
    data = bytearray((tmp_path / "a" / file).read_bytes())
    for position in range(0, len(data), 7):
        data[position] ^= 1
        (tmp_path / "a" / file).write_bytes(data)
        with pytest.raises(CheckpointError, match=file):
            checkpoint.load(tmp_path / "a")
        data[position] ^= 1


def test_a_wrong_byte_in_the_manifest_is_found_or_harmless(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", TREE)
    path = tmp_path / "a" / "manifest.json"
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 9]) + whole[position + 1 :])
        try:
            assert_same(checkpoint.load(tmp_path / "a"), TREE)
        except CheckpointError:
            found += 1
    assert found > 0.9 * len(whole)  # a space may become another white space


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors", "manifest.json"])
def test_a_missing_or_cut_file_is_found(tmp_path: Path, file: str) -> None:
    checkpoint.save(tmp_path / "a", TREE)
    path = tmp_path / "a" / file
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "a")
    path.unlink()
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "a")


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", TREE)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    (tmp_path / "a" / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(CheckpointError, match="format 2"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize(("function", "after"), [("save_file", 0), ("checksum", 0), ("checksum", 1)])
def test_what_stops_between_files_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, after: int
) -> None:
    checkpoint.save(tmp_path / "after_001", TREE)
    calls: list[Any] = []

    def stop(*args: Any) -> str:
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return "0"

    monkeypatch.setattr(checkpoint, function, stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "after_001", {"new": torch.zeros(3)})
    monkeypatch.undo()
    assert_same(checkpoint.load(tmp_path / "after_001"), TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["after_001"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise checkpoint.SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(LifelongCTError, match="No space left"):
        checkpoint.save(tmp_path / "a", TREE)
    assert not list(tmp_path.iterdir())


def test_prune_keeps_the_newest_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        checkpoint.save(tmp_path / f"after_{number:03d}", {})
    (tmp_path / ".tmp-left").mkdir()
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["after_002", "after_010"]


STRATEGIES: dict[str, Callable[[], list[Any]]] = {
    "naive": list,
    "replay": lambda: [Replay(Reservoir(), exemplars_per_batch=1)],
    "ewc": lambda: [OnlineEWC(ewc_lambda=100.0, patches=2)],
    "lwf": lambda: [LwF(lwf_lambda=1.0)],
    "stock EWC": lambda: [EWCPlugin(100.0, mode="online", decay_factor=0.9)],
    "stock A-GEM": lambda: [AGEMPlugin(patterns_per_experience=2, sample_size=2)],
    "replay and lwf": lambda: [Replay(Reservoir()), LwF(lwf_lambda=1.0)],
}


@pytest.mark.parametrize("reset", [True, False], ids=["new optimizer", "same optimizer"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fresh_learner_goes_on_from_a_checkpoint_to_the_same_weights(
    tmp_path: Path, strategy: str, reset: bool
) -> None:
    options: dict[str, Any] = {
        "reset_optimizer": reset,
        "optimizer": partial(torch.optim.AdamW, lr=3e-2),
        "annotated": [[["liver"]], [["liver"], ["spleen"], []]],
        "contrast": [1, -1],
        "items": 3,
    }
    whole = World(*STRATEGIES[strategy](), **options)
    whole.learn(0, steps=20)
    checkpoint.save(tmp_path / "after_001", whole.state_dict())
    whole.learn(1, steps=4)

    resumed = World(*STRATEGIES[strategy](), **options)
    torch.rand(11)
    resumed.load_state_dict(checkpoint.load(tmp_path / "after_001"))
    resumed.learn(1, steps=4)
    assert_same(resumed.weights(), whole.weights())
    assert_same(resumed.state_dict()["plugins"], whole.state_dict()["plugins"])
    assert resumed.losses == whole.losses[20:]
    if strategy != "naive":
        naive = World(**options)
        naive.learn(0, steps=20)
        naive.learn(1, steps=4)
        assert naive.losses[20:] != whole.losses[20:], "the strategy had no part in it"


def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path) -> None:
    world = World(OnlineEWC(ewc_lambda=100.0, patches=2))
    world.learn(0)
    checkpoint.save(tmp_path / "a", world.state_dict())
    file = tmp_path / "a" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    file.write_bytes(data)
    fresh = World(OnlineEWC(ewc_lambda=100.0, patches=2))
    before = fresh.weights()
    with pytest.raises(CheckpointError):
        fresh.load_state_dict(checkpoint.load(tmp_path / "a"))
    assert_same(fresh.weights(), before)
    assert fresh.learner.clock.train_exp_counter == 0
