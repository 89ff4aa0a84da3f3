"""The exemplar memory: compressed patches in a budget of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import blosc2
import numpy as np
import torch
import xxhash
from torch import Tensor

from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.units import format_bytes
from lifelong_ct.memory.selection import Descriptor, SelectionPolicy

_PARAMS: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
OVERHEAD = 256
"""Bytes counted per exemplar for its metadata."""


@dataclass(frozen=True)
class Exemplar:
    """One patch as stored: int16 voxels and coded labels, compressed.

    Attributes:
        image, label: compressed bytes.
        shape: `(C, D, H, W)` of the image.
        label_dtype: numpy name of the label type.
        hospital: where it comes from.
        case: content digest of its case.
    """

    image: bytes
    label: bytes
    shape: tuple[int, ...]
    label_dtype: str
    hospital: str
    case: str

    @property
    def nbytes(self) -> int:
        """Bytes held, metadata included."""
        return len(self.image) + len(self.label) + OVERHEAD

    @cached_property
    def id(self) -> str:
        """Hash of the content."""
        return xxhash.xxh3_128_hexdigest(self.image + self.label)

    def unpack(self) -> tuple[Tensor, Tensor]:
        """int16 `[C,D,H,W]` and codes `[1,D,H,W]`."""
        x = np.frombuffer(blosc2.decompress2(self.image), np.int16).reshape(self.shape)
        y = np.frombuffer(blosc2.decompress2(self.label), self.label_dtype).reshape(1, *self.shape[1:])
        return torch.from_numpy(x.copy()), torch.from_numpy(y.copy())


class ExemplarMemory:
    """Detached patches with their annotation protocol, in at most `budget` bytes.

    The budget is reserved in the ledger at once, under `ram` and `exemplars`; what is really stored is
    told with `use`.

    Args:
        budget: bytes.
        policy: which exemplars stay.
        ledger: asked at construction.
        seed: of the policy's decisions.

    Raises:
        LimitExceeded: the budget passes a limit.
    """

    def __init__(self, budget: int, policy: SelectionPolicy, ledger: Ledger, seed: int) -> None:
        self.budget, self.policy, self.seed = budget, policy, seed
        self._ledger = ledger
        self._kept: list[Exemplar] = []
        self._gone: list[Descriptor] = []
        ledger.admit("exemplars", "exemplar memory", budget)
        ledger.admit("ram", "exemplar memory", budget)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes stored, compression included."""
        return sum(exemplar.nbytes for exemplar in self._kept)

    def offer(self, x: Tensor, y: Tensor, hospital: str, case: str) -> None:
        """Offers one patch: int16 `[C,D,H,W]`, codes `[1,D,H,W]`; the policy decides who stays.

        Raises:
            LimitExceeded: the budget does not hold this one patch.
            TypeError: the voxels are not int16.
        """
        image, label = x.numpy(), y.numpy()
        if image.dtype != np.int16:
            raise TypeError(f"exemplars are int16 voxels as stored, not {image.dtype}")
        packed = _pack(image), _pack(label)
        newcomer = Exemplar(*packed, tuple(image.shape), label.dtype.name, hospital, case)
        if newcomer.nbytes > self.budget:
            raise LimitExceeded(
                f"one exemplar takes {format_bytes(newcomer.nbytes)}, the memory holds {format_bytes(self.budget)}",
                "memory.exemplars",
                f"raise it to at least {newcomer.nbytes}, better to many times that, or use smaller patches",
            )
        self._decide([*self._kept, newcomer])

    def sample(
        self, count: int, rng: np.random.Generator, without: str | None = None
    ) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """`count` exemplars with equal right, with replacement, none of the hospital `without`.

        Returns:
            int16 `[n,C,D,H,W]` and codes `[n,1,D,H,W]`; None twice where there is none.
        """
        pool = [exemplar for exemplar in self._kept if exemplar.hospital != without]
        if not pool:
            return None, None
        pairs = [pool[i].unpack() for i in rng.integers(0, len(pool), count)]
        dtype = max((y.dtype for _, y in pairs), key=lambda t: t.itemsize)
        return torch.stack([x for x, _ in pairs]), torch.stack([y.to(dtype) for _, y in pairs])

    def remove(self, case: str) -> int:
        """Forgets every exemplar of a case; how many there were."""
        before = len(self._kept)
        self._kept = [exemplar for exemplar in self._kept if exemplar.case != case]
        self._tell()
        return before - len(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """Byte tensors and metadata."""
        rows = [
            {"shape": list(e.shape), "label_dtype": e.label_dtype, "hospital": e.hospital, "case": e.case}
            for e in self._kept
        ]
        blobs = [[_to_tensor(e.image), _to_tensor(e.label)] for e in self._kept]
        gone = [[d.id, d.nbytes, d.hospital] for d in self._gone]
        return {"rows": rows, "blobs": blobs, "gone": gone}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`.

        Raises:
            CheckpointError: the exemplars do not fit the budget of this run.
        """
        kept = [
            Exemplar(
                image.numpy().tobytes(),
                label.numpy().tobytes(),
                tuple(row["shape"]),
                row["label_dtype"],
                row["hospital"],
                row["case"],
            )
            for row, (image, label) in zip(state["rows"], state["blobs"], strict=True)
        ]
        if sum(exemplar.nbytes for exemplar in kept) > self.budget:
            raise CheckpointError(
                f"the exemplars of the checkpoint take more than the budget of {self.budget} bytes",
                "memory.exemplars",
                "resume with the limit of the run that wrote it",
            )
        self._kept = kept
        self._gone = [Descriptor(id_, size, hospital, gone=True) for id_, size, hospital in state["gone"]]
        self._tell()

    def _decide(self, candidates: list[Exemplar]) -> None:
        unique = list({exemplar.id: exemplar for exemplar in candidates}.values())
        descriptors = [*(Descriptor(e.id, e.nbytes, e.hospital) for e in unique), *self._gone]
        keep = self.policy.decide(descriptors, self.seed, self.budget)
        self._kept = [exemplar for exemplar, stays in zip(unique, keep) if stays]
        self._gone = [replace(d, gone=True) for d, stays in zip(descriptors, keep) if stays == d.gone]
        self._tell()

    def _tell(self) -> None:
        self._ledger.use("exemplars", "exemplar memory", self.nbytes)
        self._ledger.use("ram", "exemplar memory", self.nbytes)


def least_bytes(patch: Sequence[int]) -> int:
    """Bytes of one exemplar of `[D, H, W]` voxels, at best: a patch without any structure."""
    return len(_pack(np.zeros(patch, np.int16))) + len(_pack(np.zeros(patch, np.uint8))) + OVERHEAD


def _pack(array: np.ndarray) -> bytes:
    array = np.ascontiguousarray(array)
    return blosc2.compress2(array.tobytes(), cparams=blosc2.CParams(typesize=array.itemsize, **_PARAMS))


def _to_tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())
