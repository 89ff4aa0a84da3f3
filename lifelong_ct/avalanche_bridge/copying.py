"""Datasets whose items lie in memory, with whose each item is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from avalanche.benchmarks.utils import DataAttribute
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from lifelong_ct.avalanche_bridge import AvalancheDataset
from lifelong_ct.memory import copies
from lifelong_ct.memory.parts import stacked

_PATIENTS = "patients"


class Pairs(TensorDataset):
    """Keeps its tensors findable inside Avalanche's wrappers."""


def attributed(dataset: Dataset[Any]) -> AvalancheDataset:
    """A dataset for Avalanche, which takes along what `dataset.patients` tells: a sequence of the keyed hashes of its
    items' patients. A dataset without it tells nothing."""
    told = getattr(dataset, _PATIENTS, None)
    return AvalancheDataset(
        [dataset], data_attributes=None if told is None else [DataAttribute(told, _PATIENTS)]
    )


def in_memory(x: Tensor, y: Tensor, patients: Sequence[str]) -> AvalancheDataset:
    """A dataset of patches `[n,C,D,H,W]`, their codes `[n,1,D,H,W]`, and whose they are."""
    pairs = Pairs(x, y)
    dataset = AvalancheDataset([pairs], data_attributes=[DataAttribute(list(patients), _PATIENTS)])
    dataset.lifelong_pairs = pairs
    return dataset


def copied(dataset: Any, chosen: Sequence[int]) -> AvalancheDataset:
    """Some items of a dataset, at least one, in memory."""
    told = getattr(dataset, _PATIENTS, None)
    patients = ["" if told is None else told[i] for i in chosen]
    parts = items(dataset, chosen)
    return in_memory(parts["x"], parts["y"], patients)


def items(dataset: Any, chosen: Iterable[int]) -> dict[str, Tensor]:
    """`x` and `y` of some items, stacked."""
    return stacked([dict(zip("xy", dataset[i])) for i in chosen])


def tensors_of(dataset: Any) -> list[Tensor]:
    """The tensors of `in_memory`."""
    return list(dataset.lifelong_pairs.tensors)


def state_of(dataset: Any, **more: Tensor) -> dict[str, Any]:
    """What a checkpoint holds of `in_memory`, and of more tensors `[n, …]`."""
    x, y = tensors_of(dataset)
    return copies.of({"x": x, "y": y, **more}, list(dataset.patients))
