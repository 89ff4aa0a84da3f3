"""A model of the form that a checkpoint was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lifelong_ct.models.adapters import AdaptedModel
from lifelong_ct.models.decoders import DecodersModel
from lifelong_ct.models.parts import PartedModel
from lifelong_ct.models.swapped import SwappedModel


def structure(model: nn.Module) -> dict[str, Any] | None:
    """The form of a model that grows parts, as JSON values; None for another."""
    return model.structure() if isinstance(model, PartedModel) else None


def fitted(model: nn.Module, form: Mapping[str, Any] | None, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model that takes these weights with `load_state_dict`.

    Args:
        model: as it is at the start of a run, with parts or without.
        form: of the model that the weights are of; see `structure`.
        weights: its `state_dict`.

    Raises:
        KeyError: the weights are of another architecture.
    """
    if form is None:
        model.grow(weights["head.bias"].shape[0])  # type: ignore[operator]
        return model
    made = model if isinstance(model, PartedModel) else _KINDS[form["kind"]](model, form["options"])
    made.restore(dict(form))
    return made


_KINDS: dict[str, Any] = {
    "swapped": lambda model, given: SwappedModel(model, given["owned"], given["routes"]),
    "adapted": lambda model, given: AdaptedModel(model, given["rank"], given["alpha"]),
    "decoders": lambda model, given: DecodersModel(model, given["owned"], given["within"]),
}
