"""A run tells its augmentation what patches are, and goes on with it as if it had never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hospitals import SPACING, Heard, options, stream
from listed import entry, given

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.streams.domain_incremental import DomainIncremental
from lifelong_ct.training.augmentation import Chain, Mirror, Noise, Spatial
from lifelong_ct.training.run import Run


def run(folder: Path, made: Any, chain: Chain, stop_after: int | None = None) -> Run:
    opts = options(made, folder)
    trainer = replace(opts.trainer, augment=chain, stop_after=stop_after)
    return Run(replace(opts, trainer=trainer), Heard())


def chain() -> Chain:
    turned = Spatial(p_rotation=1.0, p_scaling=1.0, p_elastic=1.0)
    return Chain({"spatial": turned, "noise": Noise(1.0, [0, 12]), "mirror": Mirror([0, 1, 2])}, [-175, 250])


def test_it_goes_on_as_if_it_had_never_stopped_and_in_mm(tmp_path: Path) -> None:
    def made() -> Any:
        return stream({"name": "a"}, {"name": "b"})

    augment = chain()
    whole, rest = run(tmp_path / "whole", made(), augment), run(tmp_path / "parts", made(), chain())
    whole.execute()
    assert augment.transforms["spatial"]._spacing == pytest.approx(SPACING)  # type: ignore[attr-defined]
    run(tmp_path / "parts", made(), chain(), stop_after=1).execute()
    rest.execute()
    weights, wanted = (each.learner.model.state_dict() for each in (rest, whole))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_sides_that_no_hospital_completes_are_refused_before_the_run(tmp_path: Path) -> None:
    organs = ["liver", "kidney_left"]
    made = DomainIncremental(hospitals=[entry("a", train=[organs], test=[])], **given(organs=organs))
    with pytest.raises(LifelongCTError, match="kidney_left cannot be mirrored"):
        run(tmp_path, made, chain()).execute()
