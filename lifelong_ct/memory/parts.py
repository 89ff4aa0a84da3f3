"""What an exemplar is made of: named arrays, compressed, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import blosc2
import numpy as np
import torch
import xxhash
from torch import Tensor

from lifelong_ct.memory.selection import Description, Descriptor

OVERHEAD = 256
"""Bytes counted per exemplar for its metadata."""
_PARAMS: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
_FIRST = ("x", "y")


@dataclass(frozen=True)
class Packed:
    """What is known of one compressed array.

    Attributes:
        nbytes: compressed.
        shape: of the array.
        dtype: numpy name of its type.
    """

    nbytes: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Origin:
    """Where a patch comes from. Nothing of it is a raw identifier.

    Attributes:
        hospital: name of its hospital, or of the experience that it came with.
        case: content digest of its case.
        patient: keyed hash of its patient, see `Identity.of_patient`; empty where nobody told.
        corner: first voxel `(D, H, W)` in the stored volume, negative in the padding; None where nobody told.
    """

    hospital: str
    case: str
    patient: str = ""
    corner: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Exemplar:
    """One patch as it is known; its bytes lie on a shelf.

    Attributes:
        id: hash of its compressed bytes, in the order of `parts`.
        parts: name → array, `x` and `y` first: int16 voxels `[C,D,H,W]`, codes `[1,D,H,W]`, and what else a strategy keeps.
        origin: where it comes from.
        description: what was said of it when it was offered.
    """

    id: str
    parts: Mapping[str, Packed]
    origin: Origin
    description: Description = field(default_factory=Description)

    @cached_property
    def stored(self) -> int:
        """Compressed bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    @cached_property
    def nbytes(self) -> int:
        """Bytes held, metadata and description included."""
        return self.stored + OVERHEAD + description_bytes(self.description)

    @cached_property
    def descriptor(self) -> Descriptor:
        """What a policy may know of it."""
        return Descriptor(self.id, self.nbytes, self.origin.hospital, description=self.description)

    def unpack(self, data: bytes) -> dict[str, Tensor]:
        """The arrays in its compressed bytes."""
        found, start = {}, 0
        for name, part in self.parts.items():
            raw = blosc2.decompress2(data[start : start + part.nbytes])
            found[name] = torch.from_numpy(np.frombuffer(raw, part.dtype).reshape(part.shape).copy())
            start += part.nbytes
        return found


def pack(parts: Mapping[str, Tensor], origin: Origin, description: Description) -> tuple[Exemplar, bytes]:
    """An exemplar and its compressed bytes.

    Raises:
        TypeError: `x` is not int16.
    """
    if "x" in parts and parts["x"].dtype != torch.int16:
        raise TypeError(f"exemplars are int16 voxels as stored, not {parts['x'].dtype}")
    names = [*(name for name in _FIRST if name in parts), *sorted(set(parts) - set(_FIRST))]
    arrays = {name: parts[name].detach().cpu().numpy() for name in names}
    blobs = {name: compressed(array) for name, array in arrays.items()}
    known = {name: Packed(len(blobs[name]), tuple(a.shape), a.dtype.name) for name, a in arrays.items()}
    data = b"".join(blobs.values())
    return Exemplar(xxhash.xxh3_128_hexdigest(data), known, origin, description), data


def compressed(array: np.ndarray) -> bytes:
    """An array without loss."""
    array = np.ascontiguousarray(array)
    return blosc2.compress2(array.tobytes(), cparams=blosc2.CParams(typesize=array.itemsize, **_PARAMS))


def least_bytes(patch: Sequence[int], *more: tuple[Sequence[int], str]) -> int:
    """Bytes of one exemplar, at best: arrays without any structure.

    Args:
        patch: `(D, H, W)` of `x` and `y`.
        more: shape and numpy type of further parts.
    """
    arrays = [(patch, "int16"), (patch, "uint8"), *more]
    return OVERHEAD + sum(len(compressed(np.zeros(shape, dtype))) for shape, dtype in arrays)


def description_bytes(description: Description) -> int:
    """Bytes of names, numbers and vectors."""
    numbers = [*description.organs, *description.scores]
    vectors = description.vectors.items()
    return sum(len(name) + 8 for name in numbers) + sum(len(name) + v.nbytes for name, v in vectors)


def stacked(drawn: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name → `[n, …]` of exemplars with the same parts; codes as wide as the widest.

    Raises:
        RuntimeError: a part differs in shape, as logits of a head that grew do.
    """
    found = {}
    for name in drawn[0] if drawn else ():
        column = [parts[name] for parts in drawn]
        dtype = max((part.dtype for part in column), key=lambda t: t.itemsize)
        found[name] = torch.stack([part.to(dtype) for part in column])
    return found


def behind(x: Tensor, y: Tensor, past: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A micro-batch with others behind it, on its device: voxels in its type, codes as wide as the widest.

    Args:
        x: voxels `[B,C,D,H,W]`.
        y: codes `[B,1,D,H,W]`.
        past: `x` and `y` of the others, of the same size.
    """
    wide = max(y.dtype, past["y"].dtype, key=lambda dtype: dtype.itemsize)
    return torch.cat([x, past["x"].to(x)]), torch.cat([y.to(wide), past["y"].to(y.device, wide)])
