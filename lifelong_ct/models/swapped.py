"""Parts that are tensors of their own in a network that they share the rest of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.models.packing import pack, unpack
from lifelong_ct.models.parts import PartedModel
from lifelong_ct.models.routing import first_convolution
from lifelong_ct.models.segmentation import SegmentationModel

HEAD = ("head.weight", "head.bias")


class Tensors(nn.Module):
    """Values of tensors of a network, by their names there; pruned ones are packed (`packing`).

    Args:
        parameters: that are learnt.
        buffers: that are not.
    """

    def __init__(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shapes = {name: tuple(value.shape) for name, value in parameters.items()}
        self.plain = [*parameters, *buffers]
        self.packed: list[str] = []
        for name, value in parameters.items():
            self.register_parameter(_key(name), nn.Parameter(value.detach().clone()))
        for name, value in buffers.items():
            self.register_buffer(_key(name), value.detach().clone())

    def get(self, name: str) -> Tensor:
        """A value as the network needs it."""
        if name in self.packed:
            kept, bits = (getattr(self, f"{_key(name)}#{what}") for what in ("kept", "bits"))
            return unpack(kept, bits, self.shapes[name])
        value: Tensor = getattr(self, _key(name))
        return value

    def values(self) -> dict[str, Tensor]:
        """All of them."""
        return {name: self.get(name) for name in (*self.plain, *self.packed)}

    def prune(self, stays: Mapping[str, Tensor]) -> None:
        """Keeps only these values of these parameters, in the bytes that they need."""
        for name, mask in stays.items():
            self._pack(name, *pack(self.get(name), mask))

    def make_room(self, kept: Mapping[str, int], device: torch.device) -> None:
        """As `prune`, for values that are still to come."""
        for name, count in kept.items():
            size = -(-getattr(self, _key(name)).numel() // 8)
            value = torch.zeros(count, device=device, dtype=getattr(self, _key(name)).dtype)
            self._pack(name, value, torch.zeros(size, dtype=torch.uint8, device=device))

    def kept(self) -> dict[str, int]:
        """Of each packed tensor the number of values."""
        return {name: len(getattr(self, f"{_key(name)}#kept")) for name in self.packed}

    def _pack(self, name: str, kept: Tensor, bits: Tensor) -> None:
        delattr(self, _key(name))
        self.plain.remove(name)
        self.packed.append(name)
        self.register_buffer(f"{_key(name)}#kept", kept)
        self.register_buffer(f"{_key(name)}#bits", bits)


class SwappedModel(PartedModel):
    """Every part has its own values of some tensors of a network; of the others there is one, the first experience's.

    Where gradients are recorded the network keeps the values of the part that answered until it is frozen: one that
    recomputes its blocks in the backward pass (`use_checkpoint`) needs them once more there.

    Args:
        network: as at the start of the run. It loses the tensors that the parts have.
        owned: names of the parameters and buffers of each part, those of the head among them; None for all.
        routes: see `PartedModel`.
    """

    kind = "swapped"

    def __init__(
        self, network: SegmentationModel, owned: Sequence[str] | None = None, routes: bool = True
    ) -> None:
        super().__init__(routes)
        found = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self.owned = [name for name in found if owned is None or name in owned]
        self._named = {name for name, _ in network.named_parameters()}
        self._eye, _ = first_convolution(network)
        self._like = {name: found[name].detach().to("meta") for name in self.owned}
        self.parts = nn.ModuleList([self._part(found)])
        self.network = network
        self._lent: dict[str, Tensor] = {}
        for name in self.owned:
            _clear(network, name)

    def answer(self, part: int, x: Tensor) -> Tensor:
        before = self._lent
        self._lend(self._of(part).values())
        try:
            logits: Tensor = self.network(x)
        finally:
            if not torch.is_grad_enabled():
                self._lend(before)
        return logits

    def add(self, width: int, fresh: Callable[[], nn.Module]) -> None:
        self._lend({})
        network = fresh()
        network.grow(width)  # type: ignore[operator]
        found = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        if self.learnt:
            self._freeze_shared()
            self.parts.append(self._part(found))
        else:
            self.parts[0] = self._part(found)

    def freeze(self) -> None:
        self._lend({})
        self._of(-1).requires_grad_(False)
        self._of(-1).zero_grad(set_to_none=True)

    def grown_bytes(self) -> int:
        return self.coming_bytes(0) - (tensor_bytes(self.parts[-1]) if self.learnt else 0)

    def coming_bytes(self, width: int) -> int:
        held = [*(self.parts if self.learnt else []), *([self.router] if self.router else [])]
        return sum(tensor_bytes(module) for module in held)

    def eye(self) -> tuple[nn.Module, nn.Conv3d, Tensor, Tensor | None]:
        convolution = self.network.get_submodule(self._eye)
        assert isinstance(convolution, nn.Conv3d)
        bias = None if convolution.bias is None else self._first(f"{self._eye}.bias")
        return self.network.normalise, convolution, self._first(f"{self._eye}.weight"), bias

    def shared(self) -> Iterable[nn.Module]:
        own = {name.rpartition(".")[0] for name in self.owned}
        return [module for name, module in self.network.named_modules() if name not in own]

    def options(self) -> dict[str, Any]:
        return {
            "owned": list(self.owned),
            "routes": self.routes,
            "kept": [part.kept() for part in self.parts],  # type: ignore[operator]
        }

    def restore(self, structure: dict[str, Any]) -> None:
        self._lend({})
        device = next(self.parameters()).device
        rows = list(zip(structure["learnt"], structure["options"]["kept"], strict=False))
        parts = []
        for learnt, kept in rows:
            like = {n: torch.zeros_like(v, device=device) for n, v in self._like.items()}
            like |= {n: like[n].new_zeros(len(learnt["channels"]), *like[n].shape[1:]) for n in HEAD}
            parts.append(self._part(like))
            parts[-1].make_room(kept, device)
        self.parts = nn.ModuleList(parts or list(self.parts)[:1])
        super().restore(structure)

    def newest(self) -> Tensors:
        """The part that learns."""
        return self._of(-1)

    def _first(self, name: str) -> Tensor:
        return self._of(0).get(name) if name in self._like else self.network.get_parameter(name)

    def _of(self, part: int) -> Tensors:
        found = self.parts[part]
        assert isinstance(found, Tensors)
        return found

    def _part(self, found: Mapping[str, Tensor]) -> Tensors:
        own = {name: found[name] for name in self.owned}
        return Tensors(
            {name: value for name, value in own.items() if name in self._named},
            {name: value for name, value in own.items() if name not in self._named},
        )

    def _lend(self, values: dict[str, Tensor]) -> None:
        """The network computes with these from now on; with none it has nothing of what the parts own. They stand before
        its parameters and are none, so that they are neither stored nor counted twice."""
        for name in self._lent:
            _place(self.network, name).pop(name.rpartition(".")[2], None)
        for name, value in values.items():
            _place(self.network, name)[name.rpartition(".")[2]] = value
        self._lent = values

    def _freeze_shared(self) -> None:
        self.network.requires_grad_(False)
        self.network.zero_grad(set_to_none=True)


def tensor_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def _key(name: str) -> str:
    return name.replace(".", "/")


def _place(network: nn.Module, name: str) -> dict[str, Any]:
    """Where Python looks for an attribute before torch looks among a module's tensors."""
    return vars(network.get_submodule(name.rpartition(".")[0]))


def _clear(network: nn.Module, name: str) -> None:
    where, _, leaf = name.rpartition(".")
    module = network.get_submodule(where)
    empty = torch.empty(0, device=getattr(module, leaf).device)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(empty, requires_grad=False)
    else:
        module._buffers[leaf] = empty
