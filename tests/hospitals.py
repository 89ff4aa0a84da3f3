"""Streams of small random scans in memory, and the options of a run over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import model

from lifelong_ct.core.identity import Identity, Redactor
from lifelong_ct.core.types import Case
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.losses.dice_ce import PartialDiceCE
from lifelong_ct.streams.domain_incremental import DomainIncremental
from lifelong_ct.training.options import (
    DataOptions,
    EvaluationOptions,
    Requires,
    RunOptions,
    TrainerOptions,
)

SPACING = (1.0, 2.0, 3.0)


class NoiseLayout:
    """Scans of noise that does not compress, with boxes of the organs; `loads` are the ids that were read.

    Args:
        hospital: its name.
        train, test: edge of each case in voxels.
        channels: of each case.
    """

    def __init__(
        self, hospital: str, train: Sequence[int] = (16,), test: Sequence[int] = (16,), channels: int = 1
    ) -> None:
        self.hospital, self.edges, self.channels = hospital, {"train": train, "test": test}, channels
        self.loads: list[str] = []

    def cases(self) -> Iterator[Case]:
        for split in ("train", "test"):
            for i, n in enumerate(self.edges[split]):
                name = f"{self.hospital}-{split}-{i}"
                yield Case(
                    self.hospital,
                    name,
                    f"patient of {name}",
                    split,  # type: ignore[arg-type]
                    ("liver", "spleen"),
                    label_kind="synthetic",
                    params={"shape": [n, n, n], "channels": self.channels},
                )

    def load(self, case: Case) -> RawCase:
        self.loads.append(case.id)
        rng = np.random.default_rng([*case.id.encode()])
        shape = tuple(case.params["shape"])
        several = () if self.channels == 1 else (self.channels,)
        image = rng.integers(-1000, 1000, (*several, *shape)).astype(np.int16)
        label = np.zeros(shape, np.uint8)
        for value in range(1, len(case.organs) + 1):
            label[4 * value : 4 * value + 3, 2:6, 2:6] = value
        return RawCase(image, label, np.diag([*SPACING, 1.0]), case.organs)


def stream(
    *hospitals: dict[str, Any], unseen: Sequence[dict[str, Any]] = (), **more: Any
) -> DomainIncremental:
    """Each hospital a dict of name and the arguments of `NoiseLayout`."""
    given = {"name": "noise", "organs": ["liver", "spleen"], "patch": [8, 8, 8], "steps": 2, **more}
    layout = {"layout": f"{__name__}:NoiseLayout"}
    return DomainIncremental(hospitals=hospitals, unseen=unseen, common=layout, **given)


def options(made: DomainIncremental, folder: Path, **changes: Any) -> RunOptions:
    """Naive training with the tiny model; fields of `RunOptions` may differ."""
    given: dict[str, Any] = {
        "strategy": "naive",
        "seed": 0,
        "stream": made,
        "requires": Requires(),
        "new_model": model,
        "new_loss": PartialDiceCE,
        "new_plugins": list,
        "limits": {},
        "data": DataOptions(),
        "trainer": TrainerOptions(partial(torch.optim.AdamW, lr=1e-2), steps=made.steps),
        "evaluation": EvaluationOptions([Dice()], roi=(16, 16, 16), overlap=0.0),
        "folder": folder / "run",
        "store": folder / "store",
        "identity": Identity(folder / "state"),
        "redact": Redactor(),
        "config_hash": "abcd1234",
        "command": "lifelong-ct",
    }
    return RunOptions(**{**given, **changes})


class Heard:
    """A reporter that remembers the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **data: Any) -> None:
        self.events.append((name, data))

    def close(self, status: str) -> None:
        self.events.append(("closed", {"status": status}))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for found, data in self.events if found == name]
