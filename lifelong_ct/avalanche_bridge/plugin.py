"""What a strategy of ours is: an Avalanche plugin with a state and a declared size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.memory.exemplars import ExemplarMemory, Origin
from lifelong_ct.memory.files import ExemplarFiles
from lifelong_ct.memory.selection import SelectionPolicy
from lifelong_ct.memory.shelves import DiskShelf, RamShelf


@dataclass(frozen=True)
class Arrival:
    """What an experience brings.

    Attributes:
        hospital: that it is of; the first where it has cases of several.
        organs: that its training cases annotate.
    """

    hospital: str
    organs: tuple[str, ...]


@dataclass
class StrategyContext:
    """What the run lends to its plugins before it starts.

    Attributes:
        seed: the run's seed; key every draw with it.
        ledger: ask here before keeping bytes.
        label_space: decodes `y`.
        patch: training patch `(D, H, W)` in voxels.
        exemplar_bytes: budget of the exemplar memory, 0 for none.
        sharing: hospital, or experience → forbid, features or patches; an experience with cases of several hospitals has
            what the strictest of them allows.
        hospitals: name of each experience in order: that of its hospital, or of its step.
        new_model: builds a model like the run's, on its device, with a head of width 1.
        channels: of a patch.
        exemplar_files: of the run folder, with `exemplar_tier: disk`.
        exemplar_tier: where exemplars lie, ram or disk.
        arrivals: what each experience brings, in order.
        ranks: processes that train together.
    """

    seed: int
    ledger: Ledger
    label_space: LabelSpace
    patch: tuple[int, int, int]
    exemplar_bytes: int
    sharing: dict[str, str]
    hospitals: list[str]
    new_model: Callable[[], Any]
    channels: int = 1
    exemplar_files: ExemplarFiles | None = None
    exemplar_tier: str = "ram"
    arrivals: list[Arrival] = field(default_factory=list)
    ranks: Ranks = field(default_factory=Ranks)
    _memories: int = field(default=0, init=False, repr=False)

    def exemplars(self, selection: SelectionPolicy) -> ExemplarMemory:
        """An exemplar memory, empty. It takes the whole budget, so that a second one is refused.

        Args:
            selection: policy of the memory.

        Raises:
            LifelongCTError: the run has no room for exemplars.
            LimitExceeded: the budget passes a limit, or is taken.
        """
        if self.exemplar_bytes <= 0:
            raise LifelongCTError(
                "the strategy needs room for exemplars", "memory.exemplars", "set it, e.g. to 16MiB"
            )
        self._memories += 1
        owner = "exemplar memory" + (f" {self._memories}" if self._memories > 1 else "")
        on_disk = self.exemplar_files if self.exemplar_tier == "disk" else None
        shelf = RamShelf(self.exemplar_files) if on_disk is None else DiskShelf(on_disk, owner)
        budget = self.exemplar_bytes
        return ExemplarMemory(
            budget,
            selection,
            self.ledger,
            self.seed,
            self.sharing,
            shelf=shelf,
            owner=owner,
            ranks=self.ranks,
        )

    def present(self, strategy: Any) -> str | None:
        """What is trained on now, as `hospitals` names it. None where the stream tells no boundaries, so that a method
        cannot act on one: what is held is then all of the past."""
        return self.hospitals[strategy.clock.train_exp_counter] if strategy.boundaries else None

    def origins(self, strategy: Any) -> list[Origin]:
        """Where each new patch of the micro-batch comes from; replayed ones that stand behind them are not told."""
        hospital = self.hospitals[strategy.clock.train_exp_counter]
        unknown = [None] * len(strategy.mb_cases)
        told = zip(strategy.mb_cases, strategy.mb_patients or unknown, strategy.mb_corners or unknown)
        return [Origin(hospital, case, patient or "", corner) for case, patient, corner in told]


class StrategyPlugin(SupervisedPlugin):
    """Base class of our methods and of third parties'. Hooks are Avalanche's.

    `strategy.clock.train_iterations` counts optimizer steps, `strategy.clock.train_exp_counter` past
    experiences. In a stream with `boundaries: false` the hooks around training, experiences and epochs do not fire, and who
    says `requires.boundaries: true` is refused. An optimizer step that runs out of memory is made again: then every
    attribute is bound again to what it was at the step's start, lists, dicts and sets with their content, and what has a
    `mark` (`core.protocols.Undoable`) goes back by that; so a hook before the backward pass changes no tensor in place. A plugin holds bytes that do not grow with experiences, or declares its formula in YAML.
    """

    context: StrategyContext
    reads_gradient = False
    """Whether its `after_backward` takes `p.grad` for the gradient of the loss."""
    distributed = False
    """Whether several ranks with their shares of each batch learn what one with the whole batch does: what it adds to the
    loss is a mean over samples, and what it keeps is the same on all ranks, or asked of them (`context.ranks`)."""
    adds_samples = False
    """Whether what it adds to the loss is that of stored samples, not of the patch: it may then change with the size of the
    patch, since other samples are stored."""

    needs_whole_batch = False
    """Whether it changes what the network does with the samples of a micro-batch together, so that they cannot go through it
    in parts when memory runs out."""

    def bind(self, context: StrategyContext) -> None:
        """Called once before the run; the place to reserve bytes."""
        self.context = context

    def check_others(self, others: Sequence[StrategyPlugin]) -> None:
        """Raises where it cannot be combined with them; called before `bind`."""

    def check_behind(self, others: Sequence[StrategyPlugin]) -> None:
        """Raises where one of these must not stand behind it in the list; called before `bind`."""

    def shape(self, model: Any) -> Any:
        """The model that is trained, made of a network as at the start; called after `bind`. One with parts of its own
        is a `lifelong_ct.models.parts.PartedModel`, so that checkpoints know its form."""
        return model

    def inference_bytes(self, window: Sequence[int], width: int) -> dict[str, int]:
        """Kind of the ledger → bytes held while a case is predicted, beside the model and its answer.

        Args:
            window: voxels per axis.
            width: channels of the answer, with every organ of the stream.
        """
        return {}

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        """Kind of the ledger → most bytes it will ever hold; called after `bind`.

        Args:
            model_bytes: of the model with every organ of the stream.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values, nested in dicts and lists."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; called after `bind`."""

    def state_within(self) -> dict[str, Any] | None:
        """Between two steps of an experience: what has changed since its first step, likewise. What the hooks before the
        first step make need not be there: they fire again before `load_state_within`. None where that is not known; then
        no checkpoint is written within experiences."""
        return None

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        """Restores `state_within`, with the hooks before the first step fired and the model as it was."""

    def replayed(self) -> int | None:
        """Stored samples that it has trained on since it was made; None where it does not count them."""
        return getattr(getattr(self, "memory", None), "drawn", 0)

    def held_bytes(self) -> dict[str, int]:
        """Kind of the ledger → bytes held now, each byte under one kind only: their sum is what the method costs."""
        return {}


def held_bytes(plugins: Iterable[StrategyPlugin]) -> dict[str, int]:
    """Kind of the ledger → bytes that plugins hold together."""
    held: dict[str, int] = {}
    for plugin in plugins:
        for kind, nbytes in plugin.held_bytes().items():
            held[kind] = held.get(kind, 0) + nbytes
    return held


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    import torch

    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(map(tensor_bytes, tree.values()))
    if isinstance(tree, (list, tuple)):
        return sum(map(tensor_bytes, tree))
    return 0
