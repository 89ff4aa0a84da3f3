"""Low-rank adapters beside the layers of a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.parts import Learnt, PartedModel
from lifelong_ct.models.routing import first_convolution
from lifelong_ct.models.segmentation import GrowingHead, SegmentationModel
from lifelong_ct.models.swapped import tensor_bytes

ADAPTED = (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)


class Adapter(nn.Module):
    """ΔW x = (α / r) B A x beside a layer (Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, eq. 3 and section 4.1).

    A maps to r channels with the layer's own kernel, stride and padding, B to the layer's channels with a kernel of one
    voxel; so (α / r) B A is a kernel of rank r at most. A is drawn, B is zero: a fresh adapter adds nothing.

    Args:
        layer: a 3D convolution, a transposed one, or a linear layer; its groups are 1.
        rank: r.
        alpha: α.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down: nn.Linear | nn.Conv3d | nn.ConvTranspose3d
        self.up: nn.Linear | nn.Conv3d
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        else:
            assert isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d))
            given: dict[str, Any] = {k: getattr(layer, k) for k in ("kernel_size", "stride", "padding")}
            given |= {"dilation": layer.dilation, "padding_mode": layer.padding_mode, "bias": False}
            if isinstance(layer, nn.ConvTranspose3d):
                given |= {"output_padding": layer.output_padding}
                self.down = nn.ConvTranspose3d(layer.in_channels, rank, **given)
            else:
                self.down = nn.Conv3d(layer.in_channels, rank, **given)
            self.up = nn.Conv3d(rank, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the layer's output for its input."""
        added: Tensor = self.up(self.down(x))
        return self.scale * added

    def kernel(self) -> Tensor:
        """(α / r) B A as a kernel of the layer's shape."""
        down, up = self.down.weight, self.up.weight.flatten(1)
        if isinstance(self.down, nn.ConvTranspose3d):  # [in, out, …]
            return self.scale * torch.einsum("or,ir...->io...", up, down)
        return self.scale * torch.einsum("or,ri...->oi...", up, down)


def adaptable(network: nn.Module) -> dict[str, nn.Module]:
    """Layers that get an adapter, by name; a grouped convolution has none."""
    return {n: m for n, m in network.named_modules() if isinstance(m, ADAPTED) and _groups(m) == 1}


class Adapters(nn.Module):
    """What an experience after the first has of its own: an adapter per layer of a backbone, and a head.

    Args:
        backbone: whose layers are adapted.
        head: own rows.
        rank, alpha: see `Adapter`.
    """

    def __init__(self, backbone: nn.Module, head: GrowingHead, rank: int, alpha: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Adapter(m, rank, alpha) for m in adaptable(backbone).values())
        self.head = head


class AdaptedModel(PartedModel):
    """The first experience trains the network; every later one trains adapters and a head beside it.

    A later head begins with the rows of the first one, for the organs that this knows. The layers of the backbone keep
    answering with the adapters of the part that answered last: a network that recomputes its blocks in the backward pass
    (`use_checkpoint`) needs them once more there.

    Args:
        network: as at the start of the run.
        rank, alpha: see `Adapter`.
    """

    kind = "adapted"

    def __init__(self, network: SegmentationModel, rank: int, alpha: float) -> None:
        super().__init__()
        if not adaptable(network.backbone):
            raise LifelongCTError(
                "the network has no layer to adapt",
                "model",
                "use one with 3D convolutions or linear layers, or strategy=independent",
            )
        self.rank, self.alpha = rank, alpha
        self.network = network
        self.parts = nn.ModuleList([nn.Identity()])  # the first is the network itself
        self._eye, _ = first_convolution(network)
        self._answering = 0
        for i, layer in enumerate(adaptable(network.backbone).values()):
            layer.register_forward_hook(_Beside(self, i))

    def answer(self, part: int, x: Tensor) -> Tensor:
        before, self._answering = self._answering, part
        try:
            logits: Tensor = self._logits(self.parts[part], x)
        finally:
            if not torch.is_grad_enabled():  # a backward pass that is still to come is another part's
                self._answering = before
        return logits

    def added(self, layer: int, x: Tensor) -> Tensor | None:
        """What the part that answers adds to the output of an adapted layer for its input; the first adds nothing."""
        own = self.parts[self._answering]
        if not isinstance(own, Adapters):
            return None
        more: Tensor = own.layers[layer](x)
        return more

    def add(self, width: int, fresh: Callable[[], nn.Module]) -> None:
        if not self.learnt:
            self.network.grow(width)
            return
        self.parts.append(self._part(width))

    def begin(self, learnt: Learnt, fresh: Callable[[], nn.Module]) -> None:
        super().begin(learnt, fresh)
        if len(self.learnt) == 1:
            return
        head, first = self.parts[-1].head, self.learnt[0].channels
        assert isinstance(head, GrowingHead)
        with torch.no_grad():
            for row, channel in enumerate(learnt.channels):
                if channel in first:
                    head.weight[row] = self.network.head.weight[first.index(channel)]
                    head.bias[row] = self.network.head.bias[first.index(channel)]

    def freeze(self) -> None:
        newest = self.network if len(self.parts) == 1 else self.parts[-1]
        newest.requires_grad_(False)
        newest.zero_grad(set_to_none=True)

    def grown_bytes(self) -> int:
        return sum(tensor_bytes(m) for m in (*self.parts, *([self.router] if self.router else [])))

    def coming_bytes(self, width: int) -> int:
        if not self.learnt:
            return self.grown_bytes()
        with torch.device("meta"):
            return self.grown_bytes() + tensor_bytes(self._made(width))

    def eye(self) -> tuple[nn.Module, nn.Conv3d, Tensor, Tensor | None]:
        convolution = self.network.get_submodule(self._eye)
        assert isinstance(convolution, nn.Conv3d)
        return self.network.normalise, convolution, convolution.weight, convolution.bias

    def shared(self) -> Iterable[nn.Module]:
        return self.network.modules()

    def options(self) -> dict[str, Any]:
        return {"rank": self.rank, "alpha": self.alpha}

    def restore(self, structure: dict[str, Any]) -> None:
        widths = [len(each["channels"]) for each in structure["learnt"]]
        if widths:
            self.network.grow(widths[0])
            self.parts = nn.ModuleList([nn.Identity(), *map(self._part, widths[1:])])
        super().restore(structure)

    def _logits(self, own: nn.Module, x: Tensor) -> Tensor:
        if isinstance(own, Adapters):
            return own.head(self.network.backbone(self.network.normalise(x)))
        return self.network(x)

    def _part(self, width: int) -> Adapters:
        return self._made(width).to(next(self.network.parameters()).device)

    def _made(self, width: int) -> Adapters:
        head = GrowingHead(self.network.head.weight.shape[1], width)
        return Adapters(self.network.backbone, head, self.rank, self.alpha)


class _Beside:
    """A hook that is copied with its model, unlike a function."""

    def __init__(self, model: AdaptedModel, layer: int) -> None:
        self.model, self.layer = model, layer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        more = self.model.added(self.layer, args[0])
        return output if more is None else output + more


def _groups(layer: nn.Module) -> int:
    return int(getattr(layer, "groups", 1))
