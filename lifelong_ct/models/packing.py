"""Pruned tensors in the bytes that are left of them: the values that stay, and a bit for each place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def magnitude_masks(tensors: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Which values stay once the smallest of all tensors together are gone.

    Args:
        tensors: by name.
        sparsity: share that goes, 0 to below 1; rounded down to whole values.

    Returns:
        bool, as each tensor; True stays. Of equal magnitudes the first goes first.
    """
    flat = torch.cat([value.detach().abs().reshape(-1) for value in tensors.values()])
    stays = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    stays[flat.argsort(stable=True)[: int(sparsity * len(flat))]] = False
    masks = stays.split([value.numel() for value in tensors.values()])
    return {name: mask.view(value.shape) for (name, value), mask in zip(tensors.items(), masks, strict=True)}


def pack(value: Tensor, stays: Tensor) -> tuple[Tensor, Tensor]:
    """The values that stay `[n]`, and the places as uint8, eight to a byte, the first in the lowest bit."""
    places = stays.reshape(-1)
    room = torch.zeros(-(-len(places) // 8) * 8, dtype=torch.uint8, device=places.device)
    room[: len(places)] = places.to(torch.uint8)
    bits = (room.view(-1, 8) << torch.arange(8, device=room.device, dtype=torch.uint8)).sum(1)
    return value.detach().reshape(-1)[places].clone(), bits.to(torch.uint8)


def unpack(kept: Tensor, bits: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor with zeros where nothing stayed."""
    whole = torch.zeros(torch.Size(shape), dtype=kept.dtype, device=kept.device)
    places = (bits[:, None] >> torch.arange(8, device=bits.device, dtype=torch.uint8)) & 1
    return whole.masked_scatter_(places.view(-1)[: whole.numel()].view(whole.shape).bool(), kept)


def packed_bytes(sizes: Sequence[int], sparsity: float, itemsize: int = 4) -> int:
    """Bytes of tensors of these numbers of values once they are packed."""
    total = sum(sizes)
    return itemsize * (total - int(sparsity * total)) + sum(-(-n // 8) for n in sizes)
