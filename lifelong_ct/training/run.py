"""One stream from start to end: hospitals arrive, the strategy learns each, every hospital is scored.

Events for reporters: run_started, experience_started, stage, step, evaluated, experience_ended, run_ended;
their fields stand where they are sent.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import StockPlugin, adopt
from lifelong_ct.core.errors import CheckpointError, DataError, LifelongCTError
from lifelong_ct.core.host_memory import anonymous_rss, give_back, steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Reporter
from lifelong_ct.core.seeding import derive_seed
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.loader import PatchLoader
from lifelong_ct.data.loading.budget import CACHES
from lifelong_ct.data.sampling import make_schedule
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.streams.hospital import sees
from lifelong_ct.training import checkpoint, planner
from lifelong_ct.training.distributed import place
from lifelong_ct.training.learner import AMP_TYPES, Learner, StepReport
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.results import Results
from lifelong_ct.training.rounds import Round, one_pass_steps, rounds
from lifelong_ct.training.scoring import Scorer
from lifelong_ct.training.spacing import run_spacing
from lifelong_ct.training.volumes import ExperiencePatches, Volumes


class Run:
    """Builds everything, resumes where a checkpoint is, and goes on to the end.

    Args:
        options: what to run.
        reporter: receives the events; with `state_dict` and `load_state_dict`.

    Raises:
        LimitExceeded: the plan does not fit the limits.
        LifelongCTError: whatever the user can mend.
    """

    def __init__(self, options: RunOptions, reporter: Reporter) -> None:
        self.options, self.reporter = options, reporter
        self.rounds = rounds(options)
        self.stream, self.space = options.stream, options.stream.label_space
        self.ledger = Ledger(options.limits)
        self.results = Results(options, [h.name for h in self.stream.hospitals], self.ledger)
        self.device = place(options.trainer.device, self.ledger.limits["gpu"])
        self.plugins: list[StrategyPlugin] = [adopt(plugin) for plugin in options.new_plugins()]
        self._peak, self._reached = 0, 0

    def execute(self) -> dict[str, Any]:
        """Runs to the end, or to `trainer.stop_after`; the results."""
        steady_heap()
        gc.collect()
        gc.freeze()  # a million objects of the libraries: `give_back` need not look at them each time
        try:
            self._build()
            done = self._resume()
            if done == 0:
                self._set_spacing(run_spacing(self.stream, self.rounds[0].hospitals))
            self.volumes.check_sources(
                {h.name: h for r in self.rounds if r.after > done for h in r.hospitals}.values()
            )
            self._announce(done)
            status = self._rounds(done)
        except BaseException as error:
            self._end("stopped" if isinstance(error, KeyboardInterrupt) else "failed", self._told(error))
            raise
        finally:
            gc.unfreeze()
            if hasattr(self, "store"):
                self.store.close()
        return self._end(status, None)

    # --- building -------------------------------------------------------------------------------------

    def demands(self) -> list[planner.Demand]:
        """Who will hold how much, at least. Binds the plugins."""
        groups = [row.hospitals for row in self.rounds]
        return planner.demands(self.options, groups, self._bound_plugins())

    def _build(self) -> None:
        demands = self.demands()
        planner.check(self.ledger, demands)
        by_owner = {(row.kind, row.owner): row.nbytes for row in demands}
        for kind, owner in planner.RESERVED:
            self.ledger.admit(kind, owner, by_owner[kind, owner])
        own, self._worker_cache = self._cache_bytes(by_owner["ram", planner.EVALUATION])
        self.store = VolumeStore(self.options.store, self.ledger, own, self.ledger.free("disk"))
        keep_all = self.options.data.keep == "all" or self.options.requires.past_data
        self.volumes = Volumes(
            self.stream,
            self.store,
            keep_all,
            self._stage,
            workers=self.options.data.ingesters,
            name=self.options.identity.of,
        )
        self.learner = self._new_learner()
        for size, key in (
            (self.stream.patch, "stream.patch"),
            (self.options.evaluation.roi, "evaluation.roi"),
        ):
            planner.check_size(self.learner.model, size, key, self.stream.channels)
        self.experiences = self._experiences()
        self.scorer = Scorer(
            self.options.evaluation,
            spacing=None,
            label_space=self.space,
            native=self.volumes.native,
            identity=self.options.identity,
            ledger=self.ledger,
            device=self.device,
            amp=AMP_TYPES[self.options.trainer.amp],
            progress=lambda text, done, total: self._stage(text, done, total),
        )

    def _bound_plugins(self) -> list[StrategyPlugin]:
        exemplars = self.ledger.limits["exemplars"]
        context = StrategyContext(
            seed=self.options.seed,
            ledger=self.ledger,
            label_space=self.space,
            patch=self.stream.patch,
            exemplar_bytes=exemplars or 0,
            sharing={h.name: h.sharing for h in self.stream.hospitals},
            hospitals=[row.name for row in self.rounds],
            new_model=self._new_model,
            channels=self.stream.channels,
        )
        for plugin in self.plugins:
            plugin.bind(context)
        return self.plugins

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

    def _new_model(self) -> torch.nn.Module:
        torch.manual_seed(derive_seed(self.options.seed, "model") % 2**32)
        model = self.options.new_model()
        wanted = self.options.trainer.channels_last
        stock = any(isinstance(plugin, StockPlugin) for plugin in self.plugins)  # they call .view(-1)
        if wanted is True or (wanted == "auto" and self.device.type == "cpu" and not stock):
            model = model.to(memory_format=torch.channels_last_3d)
        return model.to(self.device)

    def _new_learner(self) -> Learner:
        trainer = self.options.trainer
        return Learner(
            model=self._new_model(),
            criterion=self.options.new_loss(self.space),
            optimizer=trainer.optimizer,
            width=lambda: self.space.width,
            plugins=self.plugins,
            device=str(self.device),
            batch_size=trainer.batch_size,
            accumulate=trainer.accumulate,
            amp=trainer.amp,
            clip=trainer.clip,
            schedule=trainer.schedule,
            reset_optimizer=trainer.reset_optimizer,
            augment=trainer.augment,
            seed=self.options.seed,
            on_step=self._on_step,
        )

    def _experiences(self) -> list[Any]:
        datasets = [
            ExperiencePatches(
                sum(len(hospital.train) for hospital in row.hospitals),
                lambda row=row: self._opened(row),  # type: ignore[misc]
                self.space,
                self.stream.patch,
                (self.options.seed, "dataset", row.after),
            )
            for row in self.rounds
        ]
        return list(self.stream.benchmark(datasets).train_stream)

    # --- the rounds -----------------------------------------------------------------------------------

    def _rounds(self, done: int) -> str:
        last, self._reached = self.rounds[-1].after, done + 1
        if done == 0 and len(self.rounds) > 1 and self.options.evaluation.schedule != "final":
            self._evaluate(0)
        for row, experience in zip(self.rounds, self.experiences, strict=True):
            if row.after <= done:
                continue
            self._train(row, experience)
            if self.options.evaluation.due(row.after, last):
                self._evaluate(row.after)
            self._save(self._row)
            stop = self.options.trainer.stop_after
            if stop is not None and row.after >= stop and row.after < last:
                return "stopped"
        return "finished"

    def _train(self, row: Round, experience: Any) -> None:
        if self.options.requires.reinitialise and row is not self.rounds[0]:
            self.learner = self._new_learner()
        give_back()
        self._peak, self._reached = 0, row.after
        with self._timed("reading"):
            volumes = self._opened(row)
        self._pass_on()
        if self.options.data.schedule == "one_pass":
            row = replace(row, steps=one_pass_steps(self.options, len(volumes)))
        self.space.see(sees(case for hospital in row.hospitals for case in hospital.train))
        for volume in sorted(volumes, key=lambda v: v.digest):
            self.space.encode_lut(volume.organs, volume.overlaps)
        self._row, self._began = row, time.monotonic()
        self.reporter.event(
            "experience_started", after=row.after, hospital=row.name, steps=row.steps, cases=len(volumes)
        )
        with self._timed("training"):
            self.learner.learn(experience, self._source(row, volumes), row.steps)

    def _opened(self, row: Round) -> list[StoredVolume]:
        """The training volumes of a round.

        Raises:
            DataError: one pass has left the round behind.
        """
        if self.options.data.schedule == "one_pass" and row.after < self._reached:
            raise DataError(
                f"the cases of {row.name} are closed: they have been shown",
                "data.schedule=one_pass",
                "use data.schedule=epochs, or a strategy that does not read past hospitals",
                "closed",
            )
        return self.volumes.train(row.hospitals)

    def _source(self, row: Round, volumes: Sequence[StoredVolume]) -> PatchLoader:
        data, identity = self.options.data, self.options.identity
        cases = [case for hospital in row.hospitals for case in hospital.train]
        known = len(cases) == len(volumes)
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
            names=[f"{case.hospital} {identity.of(case)}" for case in cases] if known else None,
        )

    def _evaluate(self, after: int) -> None:
        with self._timed("evaluation"):
            give_back()
            rows = self.scorer.score(self.learner.model, after, self.stream.scored)
        self._pass_on()
        self.results.matrix.append(rows)
        document = self.results.document("running")
        self.reporter.event("evaluated", after=after, rows=rows, matrix=self.results.matrix, results=document)

    def _save(self, row: Round) -> None:
        self.results.experiences.append(
            {"after": row.after, "hospital": row.name, "steps": row.steps, "anonymous_peak": self._peak}
        )
        document = self.results.document("running")
        self.reporter.event(
            "experience_ended",
            after=row.after,
            hospital=row.name,
            matrix=self.results.matrix,
            results=document,
        )
        if self.options.requires.resumable:
            checkpoint.save(self._checkpoints / f"after_{row.after:03d}", self.state_dict(row.after))
            checkpoint.prune(self._checkpoints, self.options.trainer.keep_checkpoints)
            held = sum(map(checkpoint.nbytes, self._checkpoints.glob("after_*")))
            self.ledger.use("disk", "checkpoints", held)

    # --- state ----------------------------------------------------------------------------------------

    def state_dict(self, after: int) -> dict[str, Any]:
        """Everything a fresh process needs to go on after an experience. The generators are not in it: each
        experience seeds them anew, from the run's seed and its number."""
        return {
            "after": after,
            "config_hash": self.options.config_hash,
            "learner": self.learner.state_dict(),
            "strategy": [plugin.state_dict() for plugin in self.plugins],
            "label_space": self.space.state_dict(),
            "serving": self._serving(),
            "results": self.results.state_dict(),
            "reporter": self.reporter.state_dict(),  # type: ignore[attr-defined]
        }

    def _serving(self) -> dict[str, Any]:
        """What a model must be told to predict with."""
        spacing = self.volumes.spacing
        return {
            "spacing": spacing and list(spacing),
            "roi": list(self.options.evaluation.roi),
            "channels": self.stream.channels,
            "modality": self.stream.modality,
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Restores `state_dict`; the number of experiences it has seen."""
        self.space.load_state_dict(state["label_space"])
        for plugin, own in zip(self.plugins, state["strategy"], strict=True):
            plugin.load_state_dict(own)
        self.learner.load_state_dict(state["learner"])
        self._set_spacing(state["serving"]["spacing"])
        self.results.load_state_dict(state["results"])
        self.reporter.load_state_dict(state["reporter"])  # type: ignore[attr-defined]
        return int(state["after"])

    def _resume(self) -> int:
        if not self.options.requires.resumable:
            return 0
        problem: CheckpointError | None = None
        for folder in sorted(self._checkpoints.glob("after_*"), reverse=True):
            try:
                state = checkpoint.load(folder)
            except CheckpointError as error:
                problem = error
                self._note(f"{folder.name} is damaged, an older one is tried: {error.what}")
                continue
            return self.load_state_dict(state)
        if problem is not None:
            self._note("no checkpoint is whole: the run starts again")
        return 0

    @property
    def _checkpoints(self) -> Path:
        return self.options.folder / "checkpoints"

    def _set_spacing(self, spacing: Sequence[float] | None) -> None:
        fixed = None if spacing is None else tuple(spacing)
        self.volumes.spacing = self.scorer.spacing = fixed

    # --- telling --------------------------------------------------------------------------------------

    def _announce(self, done: int) -> None:
        stream = self.stream
        self.reporter.event(
            "run_started",
            run=self.results.description(),
            hospitals=[h.name for h in stream.hospitals],
            unseen=[h.name for h in stream.unseen],
            organs=list(self.space.organs),
            experiences=len(self.rounds),
            total_steps=sum(row.steps for row in self.rounds),
            config=self.options.config,
            done=done,
            results=self.results.document("running"),
        )
        if self.options.data.schedule == "one_pass":
            self._note(
                "one pass: each case is read once; the steps follow from the cases, not from trainer.steps"
            )
        for row in self.results.skipped():
            case = f"case {row['case']}" if row["case"] else "a case"
            self._note(f"{case} of {row['hospital']} is skipped ({row['code']}): {row['found']}")
        for plugin in self.plugins:
            lost: list[str] = getattr(plugin, "lost_on_resume", list)()
            if lost:
                self._note(f"this run cannot resume: the strategy keeps {', '.join(lost)}")

    def _end(self, status: str, error: str | None) -> dict[str, Any]:
        document = self.results.document(status, error)
        self.reporter.event(
            "run_ended", status=status, matrix=self.results.matrix, results=document, error=error
        )
        self.reporter.close(status)
        return document

    def _told(self, error: BaseException) -> str:
        if isinstance(error, KeyboardInterrupt):
            return "interrupted; the same command goes on after the last finished experience"
        text = str(error) if isinstance(error, LifelongCTError) else f"{type(error).__name__}: {error}"
        return self.options.redact(text)

    def _on_step(self, report: StepReport) -> None:
        self._pass_on()
        self._peak = max(self._peak, anonymous_rss())
        self.results.anonymous_peak = max(self.results.anonymous_peak, self._peak)
        self.reporter.event(
            "step",
            after=self._row.after,
            step=report.step,
            steps=self._row.steps,
            loss=report.loss,
            lr=report.lr,
            seconds=time.monotonic() - self._began,
        )

    def _stage(self, text: str, done: int, total: int) -> None:
        self.reporter.event("stage", text=text, done=done, total=total)

    def _pass_on(self) -> None:
        """What the volumes have to tell: their threads do not speak to reporters."""
        for text in self.volumes.told():
            self._note(text)

    def _note(self, text: str) -> None:
        self.reporter.event("note", text=self.options.redact(text))

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.results.seconds[what] += time.monotonic() - start
