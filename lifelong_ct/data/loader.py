"""Batches of patches, read ahead by threads or processes, labels coded for the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import Dataset

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.data.loading import budget
from lifelong_ct.data.loading.flow import HUNG, Flow
from lifelong_ct.data.loading.patches import PAD_HU, read_into
from lifelong_ct.data.loading.processes import ProcessReaders
from lifelong_ct.data.loading.tasks import Buffers, Readers, Task
from lifelong_ct.data.loading.threads import ThreadReaders
from lifelong_ct.data.sampling import Corner, Draw, PatchSampler, SamplingPolicy, Schedule
from lifelong_ct.data.sampling.policy import corner, resolve
from lifelong_ct.data.volume import StoredVolume

__all__ = ["PAD_HU", "PatchDataset", "PatchLoader", "read_patch"]


class PatchLoader:
    """A source of batches; batch n is the same whoever asks, whenever, for any kind and number of workers and
    any limit.

    Args:
        volumes: to draw from.
        label_space: codes the labels.
        patch: voxels per axis.
        batch_size: patches per batch.
        seed_keys: key every draw.
        foreground: of the default policy.
        policy: chooses the place in a volume; `OrganBalanced(foreground)` where None.
        schedule: chooses the volume; `Epochs` where None. After `OnePass` has shown a volume it is closed.
        read_ahead: batches that are made before they are asked for.
        workers: threads or processes.
        worker_kind: `thread` or `process`.
        timeout: seconds that a worker may stay at one patch while it is waited for.
        worker_cache: bytes of the caches of all processes, beside that of the volumes, which they cannot use; as much
            as that where None.
        ledger: asked for queues, buffers and the caches of processes.
        names: what the case of each volume is called in an error; its content digest where None.
        patients: keyed hash of each volume's patient, for the batches; None where nobody needs to know.
        rank, ranks: which rows of a batch of `ranks` times the size `batches` gives: the `rank`-th of every `ranks`; `batch`
            gives the first ones to everybody.

    Attributes:
        position: number of the next batch.

    Raises:
        LifelongCTError: no volume, or an argument that makes no sense.
    """

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        label_space: LabelSpace,
        patch: Sequence[int],
        batch_size: int,
        seed_keys: tuple[str | int, ...],
        *,
        foreground: float = 0.67,
        policy: SamplingPolicy | None = None,
        schedule: Schedule | None = None,
        read_ahead: int = 2,
        workers: int = 1,
        worker_kind: str = "thread",
        timeout: float = 120.0,
        worker_cache: int | None = None,
        ledger: Ledger | None = None,
        names: Sequence[str] | None = None,
        patients: Sequence[str] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.rank, self.ranks, self.rows = rank, ranks, batch_size
        self.volumes, self.patch = volumes, (patch[0], patch[1], patch[2])
        self.sampler = PatchSampler(
            volumes, patch, batch_size * ranks, seed_keys, foreground, policy=policy, schedule=schedule
        )
        self.read_ahead, self.workers = max(1, read_ahead), max(1, workers)
        self.worker_kind, self.timeout = budget.checked_kind(worker_kind), timeout
        self.ledger, self._names, self._patients = ledger, names, patients
        self.worker_cache = volumes[0].cache.capacity if worker_cache is None else worker_cache
        luts = [label_space.encode_lut(volume.organs, volume.overlaps) for volume in volumes]
        self._code_type = np.dtype(label_space.dtype)
        same = {(lut.dtype, lut.tobytes()): lut.astype(self._code_type) for lut in luts}
        self._luts = [same[lut.dtype, lut.tobytes()] for lut in luts]
        self.position = 0

    @property
    def total(self) -> int | None:
        """Batches in all; None without end."""
        patches = self.sampler.patches
        return None if patches is None else -(-patches // self.sampler.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch with this number, read by the caller.

        Raises:
            DataError: a volume cannot be read, or is closed.
        """
        draws = self.sampler.centres(step)[: self.rows]
        buffers = self._buffers(len(draws))
        corners = [self._read(Task(step, i, d.volume, d.centre), buffers) for i, d in enumerate(draws)]
        return self._batch(draws, corners, buffers.x, buffers.y)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of a range, in order, read ahead.

        Raises:
            DataError: in the turn of a batch that cannot be read; within `timeout` seconds of waiting where a
                worker dies or hangs.
            LimitExceeded: queues and buffers pass `memory.ram`.
        """
        self._check_end(stop)
        self.position = start
        self._close_shown(0, start, None)
        if start >= stop:
            return
        with budget.admitted(self.ledger, self.needs()), self._reading() as readers:
            depth = self.read_ahead + self.workers
            flow = Flow(readers, self._centres, depth, self.timeout, self._name)
            for ready in flow.run(start, stop):
                self.position = ready.step + 1
                self._close_shown(ready.step, self.position, readers)
                self._use_queue(flow.in_flight)
                yield self._batch(ready.draws, ready.corners, ready.x, ready.y)

    def needs(self) -> dict[str, int]:
        """Owner → bytes that `batches` asks the ledger for; the volumes' own cache is not among them."""
        return budget.needs(
            self.patch,
            self.rows,
            read_ahead=self.read_ahead,
            workers=self.workers,
            kind=self.worker_kind,
            cache=self.worker_cache,
            channels=self.volumes[0].channels,
            code_bytes=self._code_type.itemsize,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: a few bytes of JSON."""
        return {"position": self.position, "draws": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where `state_dict` was taken: `batches(loader.position, stop)` goes on.

        Raises:
            LifelongCTError: this loader draws otherwise, or from other volumes.
        """
        if state["draws"] != self._fingerprint():
            raise LifelongCTError(
                "the position is of a loader with other cases, another patch, batch, seed, policy or schedule",
                "the state of the patch loader",
                "go on with the data and the configuration that the run began with",
            )
        self.position = int(state["position"])

    def _fingerprint(self) -> str:
        sampler = self.sampler
        parts = [sorted(v.digest for v in self.volumes), self.patch, sampler.batch_size, list(sampler.keys)]
        for chooser in (sampler.policy, sampler.schedule):
            plain = {k: v for k, v in vars(chooser).items() if isinstance(v, (str, int, float, list, tuple))}
            parts.append([type(chooser).__name__, sorted(plain.items())])
        return xxhash.xxh3_64_hexdigest(repr(parts).encode())

    def _centres(self, step: int) -> list[Draw]:
        return self.sampler.centres(step)[self.rank :: self.ranks]

    def _check_end(self, stop: int) -> None:
        if self.total is not None and stop > self.total:
            self.sampler.centres(stop - 1)  # says what there is

    def _close_shown(self, start: int, stop: int, readers: Readers | None) -> None:
        for index in self.sampler.finished(start, stop):
            if not self.volumes[index].closed:
                self.volumes[index].close()
                if readers is not None:
                    readers.close_volume(index)

    @contextmanager
    def _reading(self) -> Iterator[Readers]:
        hung = False
        readers: Readers
        if self.worker_kind == "process":
            readers = self._processes()
        else:
            readers = ThreadReaders(self._read, self._buffers, self.workers, self._name, self.timeout)
        try:
            yield readers
        except DataError as error:
            hung = error.code == HUNG
            raise
        finally:
            readers.stop(hung)

    def _processes(self) -> ProcessReaders:
        ranked = sorted(enumerate(self.volumes), key=lambda pair: pair[1].digest)
        slots = self.read_ahead + self.workers
        batch = (self.rows, self.volumes[0].channels, *self.patch)
        return ProcessReaders(
            ranked,
            dict(enumerate(self._luts)),
            outside=IGNORE,
            shape=batch,
            code_type=self._code_type.name,
            slots=slots,
            workers=min(self.workers, len(self.volumes)),
            capacity=self.worker_cache,
            name=self._name,
            timeout=self.timeout,
            on_use=self._use_caches,
        )

    def _use_queue(self, in_flight: int) -> None:
        """Beside what is in flight there are the batch handed out and the one before it."""
        if self.ledger is not None:
            slots = self.read_ahead + self.workers if self.worker_kind == "process" else in_flight
            one = budget.batch_bytes(
                self.patch, self.rows, self.volumes[0].channels, self._code_type.itemsize
            )
            self.ledger.use("ram", budget.QUEUE, one * (slots + 2))

    def _use_caches(self, held: int) -> None:
        if self.ledger is not None:
            self.ledger.use("ram", budget.CACHES, held)

    def _read(self, task: Task, buffers: Buffers) -> Corner:
        volume = self.volumes[task.volume]
        start = corner(volume.shape, self.patch, resolve(volume, task.centre))
        read_into(volume, start, self._luts[task.volume], buffers.x[task.row], buffers.y[task.row], IGNORE)
        return start

    def _buffers(self, rows: int) -> Buffers:
        x = np.empty((rows, self.volumes[0].channels, *self.patch), np.int16)
        return Buffers(x, np.empty((rows, 1, *self.patch), self._code_type))

    def _batch(self, draws: Sequence[Draw], corners: Sequence[Corner], x: np.ndarray, y: np.ndarray) -> Batch:
        cases = [self.volumes[draw.volume].digest for draw in draws]
        patients = [] if self._patients is None else [self._patients[draw.volume] for draw in draws]
        return Batch(torch.from_numpy(x), torch.from_numpy(y), cases, patients, corners)

    def _name(self, index: int) -> str:
        digest = self.volumes[index].digest
        return f"case {digest}" if self._names is None else f"case {self._names[index]} (content {digest})"


class PatchDataset(Dataset[Any]):
    """Item i is one deterministic patch of volume i: `(x int16 [C,D,H,W], y codes [1,D,H,W])`.

    Args:
        volumes: one item each.
        label_space: codes the labels.
        patch: voxels per axis.
        seed_keys: choose the patches.
    """

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        label_space: LabelSpace,
        patch: Sequence[int],
        seed_keys: tuple[str | int, ...],
    ) -> None:
        self.volumes, self.label_space, self.patch = volumes, label_space, (patch[0], patch[1], patch[2])
        self.sampler = PatchSampler(volumes, patch, 1, seed_keys, foreground=1.0)

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Raises:
        IndexError: there is no such volume.
        DataError: it cannot be read, or is closed.
        """
        if not 0 <= index < len(self.volumes):
            raise IndexError(index)
        volume = self.volumes[index]
        start = self.sampler.corner(index, generator(*self.sampler.keys, "item", volume.digest))
        lut = self.label_space.encode_lut(volume.organs, volume.overlaps)
        x, y = read_patch(volume, start, self.patch, lut)
        return torch.from_numpy(x), torch.from_numpy(y)


def read_patch(
    volume: StoredVolume, start: Corner, size: Corner, lut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """int16 `[C,D,H,W]` and codes `[1,D,H,W]`; outside the volume air and `IGNORE`."""
    x = np.empty((volume.channels, *size), np.int16)
    y = np.empty((1, *size), lut.dtype)
    read_into(volume, start, lut, x, y, IGNORE)
    return x, y
