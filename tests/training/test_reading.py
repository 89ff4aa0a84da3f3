"""Runs that read in other ways: other workers, one pass, readers that fail."""

from functools import partial

import pytest
import torch
from hospitals import Heard, options, stream
from stored import children, stuck

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import DataError
from lifelong_ct.data.sampling.foreground import Foreground
from lifelong_ct.training.options import DataOptions, TrainerOptions
from lifelong_ct.training.run import Run

TWO = ({"name": "a", "train": [16, 20]}, {"name": "b", "train": [18, 22]})
ONE_PASS = DataOptions(schedule="one_pass", patches_per_case=4)


def executed(tmp_path, name, **more):
    heard = Heard()
    run = Run(options(stream(*TWO), tmp_path / name, **more), heard)
    return run, run.execute(), heard


def trainer(**more):
    return TrainerOptions(partial(torch.optim.AdamW, lr=1e-2), steps=3, **more)


class Watcher(SupervisedPlugin):
    """Notes what is trained on, and calls `look(strategy)` after each experience."""

    def __init__(self, look=lambda strategy: None):
        super().__init__()
        self.cases, self.look, self.seen = [], look, []

    def before_forward(self, strategy, **kwargs):
        self.cases.append((strategy.clock.train_exp_counter, *strategy.mb_cases))

    def after_training_exp(self, strategy, **kwargs):
        self.seen.append(strategy.experience.dataset)
        self.look(strategy)


def losses(heard):
    return [step["loss"] for step in heard.named("step")]


def test_a_run_has_the_same_losses_with_any_readers_and_any_cache(tmp_path):
    reference = losses(executed(tmp_path, "reference", trainer=trainer())[2])
    assert len(set(reference)) == 6
    for name, data in {
        "threads": DataOptions(workers=3, read_ahead=5),
        "processes": DataOptions(workers=2, worker_kind="process", cache="5MiB"),
    }.items():
        run, document, heard = executed(tmp_path, name, data=data, trainer=trainer(), limits={"ram": "64MiB"})
        assert losses(heard) == reference
        assert set(run.ledger.holders("ram")) >= {"brick cache", "read-ahead queue", "decoding"}
        assert 0 < document["memory"]["ram"]["used"] <= document["memory"]["ram"]["peak"] <= 64 << 20
    assert not children()


def test_another_policy_draws_otherwise(tmp_path):
    runs = [
        losses(executed(tmp_path, name, trainer=trainer(), sampling=policy)[2])
        for name, policy in (("default", None), ("foreground", Foreground(1.0)))
    ]
    assert runs[0] != runs[1]


def test_one_pass_visits_each_case_once_and_says_how_many_steps_follow(tmp_path):
    watcher = Watcher()
    _, document, heard = executed(
        tmp_path, "x", data=ONE_PASS, trainer=trainer(accumulate=2), new_plugins=lambda: [watcher]
    )
    assert document["status"] == "finished"
    assert [row["steps"] for row in document["experiences"]] == [2, 2]  # 2 cases × 4 patches / (2 × 2)
    assert heard.named("run_started")[0]["total_steps"] == 4
    assert "not from trainer.steps" in heard.named("note")[0]["text"]
    for experience in (0, 1):
        drawn = [case for number, *cases in watcher.cases if number == experience for case in cases]
        assert len(drawn) == 8
        assert drawn[:4] == [drawn[0]] * 4
        assert drawn[4:] == [drawn[4]] * 4
        assert drawn[0] != drawn[4]


def test_what_one_pass_has_shown_no_dataset_shows_again(tmp_path):
    """Neither in its own experience, nor later, when the volumes of the hospital would be opened anew."""
    told = []

    def look(strategy):
        for dataset in watcher.seen:
            with pytest.raises(DataError) as error:
                dataset[0]
            told.append((error.value.code, error.value.what))

    watcher = Watcher(look)
    executed(tmp_path, "x", data=ONE_PASS, trainer=trainer(), new_plugins=lambda: [watcher])
    assert [code for code, _ in told] == ["closed"] * 3
    assert "cases of a are closed" in told[1][1]


def test_no_patch_is_left_to_be_held_out_after_one_pass(tmp_path):
    class HoldsOut(StrategyPlugin):
        def after_training_exp(self, strategy, **kwargs):
            next(strategy.held_out_patches(1))

    with pytest.raises(DataError, match="every case is closed after its own") as error:
        executed(tmp_path, "x", data=ONE_PASS, trainer=trainer(), new_plugins=lambda: [HoldsOut()])
    assert error.value.code == "closed"
    assert "data.schedule=epochs" in error.value.fix


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_reader_that_hangs_ends_the_run_with_hospital_and_pseudonym(tmp_path, kind):
    """The file of the second hospital's only case stops answering once it is opened."""
    opened = stream({"name": "a"}, {"name": "b"})
    heard = Heard()
    data = DataOptions(worker_kind=kind, timeout=1.0, cache=0)
    run = Run(options(opened, tmp_path, data=data, trainer=trainer()), heard)
    real = run.builder.source
    entered = []

    def source(row, volumes, cases):
        made = real(row, volumes, cases)
        if row.name == "b":
            entered.append(stuck(volumes[0]))
            entered[0].__enter__()
        return made

    run.builder.source = source
    with pytest.raises(DataError) as error:
        run.execute()
    entered[0].__exit__(None, None, None)
    case = opened.hospitals[1].train[0]
    assert error.value.exit_code == 2
    assert error.value.code == "worker_hung"
    assert f"case b {run.options.identity.of(case)}" in error.value.where
    assert case.id not in str(error.value)
    assert [data["status"] for data in heard.named("run_ended")] == ["failed"]
    assert not children()
