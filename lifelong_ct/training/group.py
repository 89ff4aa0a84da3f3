"""Data parallel training: `torchrun --nproc-per-node=2 --no-python lifelong-ct train …`.

Every rank takes its rows of each batch, so that `trainer.batch_size` is that of one rank; gradients are averaged, so that all
make the same step. The first rank writes the run folder, the others nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.modules.batchnorm import _NormBase

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.training.options import RunOptions

_PATIENCE = timedelta(hours=12)
"""A rank may wait so long: for the first one to ingest, say. One that dies closes its connections, which is noticed at once."""
_GO_ON = "what went wrong stands with that rank; the same command goes on from the last checkpoint"


class Group(Ranks):
    """The ranks of the default process group of torch."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, value: Any) -> list[Any]:
        found = [None] * self.size
        with _together():
            dist.all_gather_object(found, value)
        return found

    def collect(self, value: Any) -> list[Any]:
        found = [None] * self.size if self.first else None
        with _together():
            dist.gather_object(value, found)
        return found or []

    def average(self, tensors: Iterable[Tensor]) -> None:
        for same in _by_kind(tensors):
            flat = _flatten_dense_tensors(same)
            with _together():
                dist.all_reduce(flat)
            for tensor, mean in zip(same, _unflatten_dense_tensors(flat.div_(self.size), same), strict=True):
                tensor.copy_(mean)

    def share(self, tensors: Iterable[Tensor]) -> None:
        for same in _by_kind(tensors):
            flat = _flatten_dense_tensors(same)
            with _together():
                dist.broadcast(flat, 0)
            for tensor, theirs in zip(same, _unflatten_dense_tensors(flat, same), strict=True):
                tensor.copy_(theirs)


class Silent:
    """The reporter of a rank that writes nothing."""

    def event(self, name: str, **data: Any) -> None:
        """See `Reporter`."""

    def close(self, status: str) -> None:
        """See `Reporter`."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""


def started() -> int:
    """How many ranks `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that `torchrun` has started, while they train together; alone without it.

    Raises:
        LifelongCTError: one of them ends too early, or `torchrun` ends this one.
    """
    if started() == 1:
        yield Ranks()
        return
    before = signal.signal(signal.SIGTERM, _ended)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        with _together():
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
        yield Group()
    finally:
        signal.signal(signal.SIGTERM, before)
        with suppress(RuntimeError):
            dist.destroy_process_group()


def check(options: RunOptions, plugins: Sequence[StrategyPlugin], ranks: Ranks) -> None:
    """Looks whether several ranks give what one would.

    Raises:
        LifelongCTError: a plugin, or an option, for which nobody has made that sure.
    """
    if ranks.size == 1:
        return
    alone = [plugin for plugin in plugins if not plugin.distributed]
    names = [type(getattr(plugin, "plugin", plugin)).__name__ for plugin in alone]
    wrong = {
        "strategy.plugins": ", ".join(names),
        "memory.exemplar_tier": "exemplars on disk" if options.exemplar_tier == "disk" else "",
        "data.schedule": "one_pass" if options.data.schedule == "one_pass" else "",
    }
    for where, what in wrong.items():
        if what:
            raise LifelongCTError(
                f"{what}: not with {ranks.size} ranks", where, "train on one rank, without torchrun"
            )


def check_ranks(state: Mapping[str, Any] | None, ranks: Ranks) -> None:
    """Looks whether a run goes on with as many ranks as it began with.

    Raises:
        LifelongCTError: with others, whose batches would have another size.
    """
    if state is not None and state.get("ranks", 1) != ranks.size:
        raise LifelongCTError(
            f"the run began with {state.get('ranks', 1)} ranks, these are {ranks.size}",
            "torchrun --nproc-per-node",
            "start as many as before, or another run with paths.run",
        )


def shares(limits: Mapping[str, int | str | None], ranks: Ranks) -> dict[str, int | str | None]:
    """The limits of one rank: RAM is divided among those of a machine. Each has a GPU of its own, the disk is theirs
    together, and exemplars count on all ranks together."""
    if ranks.size == 1 or limits.get("ram") is None:
        return dict(limits)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
    return {**limits, "ram": parse_bytes(limits["ram"], "memory.ram") // here}  # type: ignore[arg-type]


@torch.no_grad()
def average_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Gradients become those of the mean loss over all ranks; a parameter that one of them has reached has one everywhere.
    Running statistics of normalisations become those of the first rank."""
    if ranks.size == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    reached = torch.tensor([float(p.grad is not None) for p in parameters])
    ranks.average([reached])
    moving = [p for p, share in zip(parameters, reached.tolist(), strict=True) if share > 0]
    for parameter in moving:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    ranks.average([p.grad for p in moving if p.grad is not None])
    running = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    ranks.share([buffer for module in running for buffer in module.buffers(recurse=False)])


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Those of nested dicts and lists, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (dict, list, tuple)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors_of(value)


def _by_kind(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    yield from kinds.values()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LifelongCTError(
            f"another rank has ended, or cannot be reached: {str(error).splitlines()[0]}",
            f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}",
            _GO_ON,
        ) from error


def _ended(number: int, frame: FrameType | None) -> None:
    raise LifelongCTError(
        "the run was told to end (SIGTERM), as torchrun does when another rank has ended",
        f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}",
        _GO_ON,
    )
