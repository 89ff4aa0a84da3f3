"""Whole runs on a device that holds one sample's activations."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hospitals import Heard, options, stream
from tiny import model
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.training.options import RunOptions, TrainerOptions
from lifelong_ct.training.run import Run

TWO = ({"name": "a"}, {"name": "b"})


def limited(most: int) -> nn.Module:
    """The tiny model, out of memory with more samples than that while it trains."""

    def look(module: nn.Module, args: Any) -> None:
        if module.training and len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    made = model()
    made.backbone.register_forward_pre_hook(look)
    return made


def two(**more: Any) -> TrainerOptions:
    return TrainerOptions(partial(torch.optim.SGD, lr=0.05), steps=2, batch_size=2, **more)


def execute(opts: RunOptions) -> tuple[dict[str, Any], Heard]:
    heard = Heard()
    return Run(opts, heard).execute(), heard


def test_the_run_goes_on_says_so_keeps_what_fits_and_scores_the_same(tmp_path: Path) -> None:
    whole, _ = execute(options(stream(*TWO), tmp_path / "whole", trainer=two()))
    split = partial(options, stream(*TWO), tmp_path / "split", new_model=lambda: limited(1))
    first, heard = execute(split(trainer=two(stop_after=1)))
    assert [note["text"] for note in heard.named("note")] == [
        "out of GPU memory at step 0 of experience 1: micro-batches of 1 instead of 2, accumulated over 2; the effective "
        "batch stays 2"
    ]
    assert first["status"] == "stopped"
    document, heard = execute(split(trainer=two()))
    assert heard.named("note") == [], "a resumed run has forgotten what fits"
    assert [row["samples_at_once"] for row in document["experiences"]] == [1, 1]
    assert [row["samples_at_once"] for row in whole["experiences"]] == [None, None]
    assert document["status"] == "finished"
    wanted, found = (
        {(s["after"], s["hospital"], s["organ"]): s["mean"] for s in d["scores"]} for d in (whole, document)
    )
    assert found == pytest.approx(wanted, abs=0.01, nan_ok=True)


def test_scores_that_do_not_fit_end_with_a_fix_and_the_checkpoint_of_before(tmp_path: Path) -> None:
    """The first hospital is learnt and scored; the second one's scores run out of memory."""
    heard = Heard()
    run = Run(options(stream(*TWO), tmp_path, trainer=two()), heard)
    score = run._evaluate

    def evaluate(after: int) -> None:
        if after == 2:
            run.learner.model.backbone.register_forward_pre_hook(
                lambda module, args: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory."))
            )
        score(after)

    run._evaluate = evaluate  # type: ignore[method-assign]
    with pytest.raises(LifelongCTError) as error:
        run.execute()
    assert error.value.what == "out of GPU memory while evaluating: CUDA out of memory."
    assert "evaluation.roi" in error.value.fix
    assert heard.named("run_ended")[0]["status"] == "failed"
    document, _ = execute(options(stream(*TWO), tmp_path, trainer=two()))
    assert document["status"] == "finished"
