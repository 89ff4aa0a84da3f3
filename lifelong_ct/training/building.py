"""From options to the parts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from lifelong_ct.avalanche_bridge.plugin import Arrival, StrategyContext, StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import StockPlugin
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.core.types import Case
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.loading.budget import CACHES
from lifelong_ct.data.sampling import make_schedule
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.memory.files import FOLDER, ExemplarFiles
from lifelong_ct.models.checkpointing import checkpointed
from lifelong_ct.models.deep_supervision import DeeplySupervisedModel
from lifelong_ct.models.nnunet import NnunetModel
from lifelong_ct.streams.hospital import sees
from lifelong_ct.training import planner
from lifelong_ct.training.experience_patches import ExperiencePatches
from lifelong_ct.training.feed import BUFFERS, PINNED, feed_for, pinned_bytes
from lifelong_ct.training.host_state import hosted
from lifelong_ct.training.learner import Learner, StepReport
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.precision import AMP_TYPES
from lifelong_ct.training.rounds import Round
from lifelong_ct.training.scoring import Scorer, mirroring_of
from lifelong_ct.training.stepping import compile_network, fusing
from lifelong_ct.training.volumes import Progress, Volumes


class Builder:
    """Builds the parts of a run, each within the ledger's limits.

    Args:
        options: of the run.
        ledger: of the run.
        device: where to train.
        plugins: of the strategy.
        rounds: of the run.
        ranks: of the run.

    Attributes:
        exemplar_files: of the run folder.
    """

    learner_type: type[Learner] = Learner
    context_type: type[StrategyContext] = StrategyContext

    def __init__(
        self,
        options: RunOptions,
        ledger: Ledger,
        device: torch.device,
        plugins: list[StrategyPlugin],
        rounds: Sequence[Round],
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.options, self.ledger, self.device = options, ledger, device
        self.plugins, self.rounds = plugins, rounds
        self.stream, self.space = options.stream, options.stream.label_space
        kept = options.trainer.keep_checkpoints + (options.checkpoint.every_steps is not None)
        self.exemplar_files = ExemplarFiles(options.folder / FOLDER, kept)
        self._worker_cache = 0

    def demands(self) -> list[planner.Demand]:
        """Who will hold how much, at least. Binds the plugins."""
        groups = [row.hospitals for row in self.rounds]
        found = planner.demands(self.options, groups, self.bound())
        return [*found, *self._feeding()]

    def store(self, demands: Iterable[planner.Demand]) -> VolumeStore:
        """The volume store, once the plan is admitted.

        Raises:
            LimitExceeded: the plan does not fit the limits.
        """
        demands = list(demands)
        planner.check(self.ledger, demands)
        by_owner = {(row.kind, row.owner): row.nbytes for row in demands}
        for kind, owner in (*planner.RESERVED, *((row.kind, row.owner) for row in self._feeding())):
            self.ledger.admit(kind, owner, by_owner[kind, owner])
        own, self._worker_cache = self._cache_bytes(by_owner["ram", planner.EVALUATION])
        return VolumeStore(self.options.store, self.ledger, own, self.ledger.free("disk"))

    def volumes(self, store: VolumeStore, progress: Progress) -> Volumes:
        """What opens the cases."""
        return Volumes(
            self.stream,
            store,
            self.options.data.keep == "all" or self.options.requires.past_data,
            progress,
            workers=self.options.data.ingesters,
            name=self.options.identity.of,
        )

    def model(self) -> torch.nn.Module:
        """A fresh network; the same one each time."""
        torch.manual_seed(derive_seed(self.options.seed, "model") % 2**32)
        model = self.options.new_model()
        if self.options.trainer.checkpointing:
            model = checkpointed(model)
        if self.channels_last():
            model = model.to(memory_format=torch.channels_last_3d)
        return model.to(self.device)

    def channels_last(self) -> bool:
        """Whether the weights lie that way."""
        wanted = self.options.trainer.channels_last
        stock = any(isinstance(plugin, StockPlugin) for plugin in self.plugins)  # they call .view(-1)
        return wanted is True or (wanted == "auto" and self.device.type == "cpu" and not stock)

    def learner(self, on_step: Callable[[StepReport], None]) -> Learner:
        """A learner with a fresh network.

        Raises:
            LifelongCTError: patches of some round cannot be augmented as asked.
        """
        trainer = self.options.trainer
        self._bind_augmentation(None)
        model = self.model()
        for plugin in self.plugins:
            shaped = plugin.shape(model)
            if isinstance(model, DeeplySupervisedModel) and shaped is not model:
                raise LifelongCTError(
                    f"{type(plugin).__name__} takes the network apart, whose coarser levels would then teach nobody",
                    "model",
                    "use a model without levels, such as model=dynunet",
                )
            model = shaped
        if isinstance(model, NnunetModel):  # what its weights know is known before the first hospital
            self.space.see(organ for organ in model.organs if organ in self.space.organs)
            model.know(self.space.channels)
        if trainer.compile:
            compile_network(model)
        learner = self.learner_type(
            model=model,
            criterion=self.options.new_loss(self.space),
            optimizer=self._optimizer(),
            width=lambda: self.space.width,
            plugins=self.plugins,
            device=str(self.device),
            batch_size=trainer.batch_size,
            accumulate=trainer.accumulate,
            amp=trainer.amp,
            clip=trainer.clip,
            schedule=trainer.schedule,
            reset_optimizer=trainer.reset_optimizer,
            boundaries=self.stream.boundaries,
            augment=trainer.augment,
            feed=feed_for(self.device, self.ledger),
            seed=self.options.seed,
            on_step=on_step,
        )
        learner.ranks = self.ranks
        return learner

    def _optimizer(self) -> Callable[[Any], torch.optim.Optimizer]:
        """A fused one counts its steps on the device: with state on the host it is none."""
        trainer = self.options.trainer
        if trainer.optimizer_state != "host":
            return fusing(trainer.optimizer, trainer.fused, self.device)
        if trainer.fused is True:
            raise LifelongCTError(
                "a fused optimizer keeps its state on the device",
                "trainer.fused, trainer.optimizer_state",
                "use trainer.fused=auto with trainer.optimizer_state=host",
            )
        return hosted(trainer.optimizer)

    def check_sizes(self, model: torch.nn.Module) -> None:
        """Tries the network on what it will be given.

        Raises:
            LifelongCTError: it cannot take a patch or a window.
        """
        sizes = ((self.stream.patch, "stream.patch"), (self.options.evaluation.roi, "evaluation.roi"))
        for size, key in sizes:
            planner.check_size(model, size, key, self.stream.channels)

    def experiences(
        self, opened: Callable[[Round], list[StoredVolume]], cases: Callable[[], Sequence[Case]]
    ) -> list[Any]:
        """Avalanche's experiences, one per round. `cases` are those of the volumes that were opened last."""
        datasets = [
            ExperiencePatches(
                sum(len(hospital.train) for hospital in row.hospitals),
                lambda row=row: opened(row),  # type: ignore[misc]
                self.space,
                self.stream.patch,
                (self.options.seed, "dataset", row.after),
                lambda i: self._patient(cases()[i]),
            )
            for row in self.rounds
        ]
        return list(self.stream.benchmark(datasets).train_stream)

    def scorer(self, volumes: Volumes, progress: Progress) -> Scorer:
        """What scores the hospitals; its spacing is set when the run's is known.

        Raises:
            LifelongCTError: after one of the rounds windows could not be mirrored.
        """
        for organs in self._seen():
            mirroring_of(self.options.evaluation, organs)
        return Scorer(
            self.options.evaluation,
            spacing=None,
            label_space=self.space,
            native=volumes.native,
            identity=self.options.identity,
            ledger=self.ledger,
            device=self.device,
            amp=AMP_TYPES[self.options.trainer.amp],
            progress=progress,
            ranks=self.ranks,
        )

    def source(self, row: Round, volumes: Sequence[StoredVolume], cases: Sequence[Case]) -> PatchLoader:
        """Training patches of a round, from its volumes and their cases; their augmentation goes by the median spacing."""
        data, identity = self.options.data, self.options.identity
        self._bind_augmentation(np.median([volume.spacing for volume in volumes], axis=0).tolist())
        return PatchLoader(
            volumes,
            self.space,
            self.stream.patch,
            self.options.trainer.batch_size,
            (self.options.seed, "patches", row.after),
            foreground=data.foreground,
            policy=self.options.sampling,
            schedule=make_schedule(data.schedule, data.patches_per_case),
            read_ahead=data.read_ahead,
            workers=data.workers,
            worker_kind=data.worker_kind,
            timeout=data.timeout,
            worker_cache=self._worker_cache,
            ledger=self.ledger,
            names=[f"{case.hospital} {identity.of(case)}" for case in cases],
            patients=list(map(self._patient, cases)),
            rank=self.ranks.rank,
            ranks=self.ranks.size,
        )

    def _bind_augmentation(self, spacing: Sequence[float] | None) -> None:
        """Tells what changes patches what they are.

        Raises:
            LifelongCTError: it cannot serve the organs of a round.
        """
        bind = getattr(self.options.trainer.augment, "bind", None)
        if bind is not None:
            bind(self.space, spacing, self._seen())

    def _seen(self) -> list[list[str]]:
        """The organs that have a channel after each round."""
        seen: set[str] = set()
        found = []
        for row in self.rounds:
            seen.update(sees(case for hospital in row.hospitals for case in hospital.train))
            found.append([organ for organ in self.space.organs if organ in seen])
        return found

    def _feeding(self) -> list[planner.Demand]:
        """What brings batches to a GPU."""
        if self.device.type != "cuda":
            return []
        stream = self.stream
        nbytes = pinned_bytes(stream.patch, self.options.trainer.batch_size, stream.channels)
        return [planner.Demand("ram", PINNED, nbytes, f"{BUFFERS} batches on their way to the GPU")]

    def _patient(self, case: Case) -> str:
        return self.options.identity.of_patient(case.hospital, case.patient)

    def bound(self) -> list[StrategyPlugin]:
        """The plugins, bound."""
        exemplars = self.ledger.limits["exemplars"]
        context = self.context_type(
            seed=self.options.seed,
            ledger=self.ledger,
            label_space=self.space,
            patch=self.stream.patch,
            exemplar_bytes=exemplars or 0,
            sharing=self._sharing(),
            hospitals=[row.name for row in self.rounds],
            new_model=self.model,
            channels=self.stream.channels,
            exemplar_files=self.exemplar_files,
            exemplar_tier=self.options.exemplar_tier,
            arrivals=[_arrival(row) for row in self.rounds],
            ranks=self.ranks,
        )
        for place, plugin in enumerate(self.plugins):
            plugin.check_others([other for other in self.plugins if other is not plugin])
            plugin.check_behind(self.plugins[place + 1 :])
            plugin.bind(context)
        return self.plugins

    def _sharing(self) -> dict[str, str]:
        """Of each hospital, and of each experience that has another name or cases of several hospitals: there the
        strictest counts for all."""
        found = {hospital.name: hospital.sharing for hospital in self.stream.hospitals}
        return {**found, **{e.name: e.sharing for e in self.stream.experiences}}

    def _cache_bytes(self, evaluation: int) -> tuple[int, int]:
        """Of this process, and of all reader processes together: evaluation and the strategy read little.
        What evaluation needs stays free."""
        wanted, free = parse_bytes(self.options.data.cache, "data.cache"), self.ledger.free("ram")
        if free is not None:
            wanted = max(planner.MIN_CACHE, min(wanted, free // 2, free - evaluation))
        if self.options.data.worker_kind == "thread":
            return wanted, 0
        workers = max(planner.MIN_CACHE, wanted - planner.MIN_CACHE)
        self.ledger.admit("ram", CACHES, workers)
        return planner.MIN_CACHE, workers


def _arrival(row: Round) -> Arrival:
    cases = (case for hospital in row.hospitals for case in hospital.train)
    return Arrival(row.hospitals[0].name, tuple(sees(cases)))
