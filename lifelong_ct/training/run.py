"""One stream from start to end: hospitals arrive, the strategy learns each, every hospital is scored.

`building` makes the parts, `rounds` says what is trained when, `telling` speaks to the reporters.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.core.host_memory import give_back, steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Reporter
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.data.volume import StoredVolume
from lifelong_ct.streams.hospital import sees
from lifelong_ct.training import midway, planner
from lifelong_ct.training.building import Builder
from lifelong_ct.training.costs import Patches, shown_before, spent
from lifelong_ct.training.determinism import deterministic
from lifelong_ct.training.device_peaks import DevicePeaks
from lifelong_ct.training.distributed import place
from lifelong_ct.training.generations import Generations
from lifelong_ct.training.group import check, check_ranks, shares, tensors_of
from lifelong_ct.training.learner import StepReport
from lifelong_ct.training.options import CheckpointOptions, RunOptions
from lifelong_ct.training.out_of_memory import told
from lifelong_ct.training.panel import Panel
from lifelong_ct.training.prediction import reserve
from lifelong_ct.training.results import Results
from lifelong_ct.training.rounds import Round, check_open, one_pass_steps, rounds
from lifelong_ct.training.scoring import told_routing
from lifelong_ct.training.spacing import run_spacing
from lifelong_ct.training.telling import Teller
from lifelong_ct.training.within import Within

_SMALLER = (
    "outside of a step nothing can be split: use trainer.batch_size=1 with a larger trainer.accumulate, a smaller "
    "stream.patch or model, or a larger memory.gpu; lifelong-ct plan says what fits"
)
_NARROWER = "windows go through the network one by one: use a smaller evaluation.roi, or a larger memory.gpu"


class Run:
    """Builds everything, resumes where a checkpoint is, and goes on to the end.

    Args:
        options: what to run.
        reporter: receives the events; with `state_dict` and `load_state_dict`.
        ranks: processes that make the run together, see `group`.

    Raises:
        LimitExceeded: the plan does not fit the limits.
        LifelongCTError: whatever the user can mend.
    """

    def __init__(self, options: RunOptions, reporter: Reporter, ranks: Ranks | None = None) -> None:
        self.options, self.reporter, self.ranks = options, reporter, ranks or Ranks()
        self.rounds = rounds(options)
        self.stream, self.space = options.stream, options.stream.label_space
        self.ledger = Ledger(shares(options.limits, self.ranks))
        self.results = Results(options, [e.task for e in self.stream.experiences], self.ledger)
        self.device = place(options.trainer.device, self.ledger.limits["gpu"], self.ranks.size)
        self.plugins: list[StrategyPlugin] = [adopt(plugin) for plugin in options.new_plugins()]
        check(options, self.plugins, self.ranks)
        self.builder = Builder(options, self.ledger, self.device, self.plugins, self.rounds, self.ranks)
        self.teller = Teller(options, reporter, self.results, DevicePeaks.of(self.device))
        keep = options.trainer.keep_checkpoints
        checkpoints, files = options.folder / "checkpoints", self.builder.exemplar_files
        self._generations = Generations(checkpoints, keep, self.ledger, self.teller.note, files, self.ranks)
        self._reached = self._learnt = 0
        self._midway: dict[str, Any] | None = None
        self._unscored = False
        self._every = CheckpointOptions()

    def demands(self) -> list[planner.Demand]:
        """Who will hold how much, at least. Binds the plugins."""
        return self.builder.demands()

    def execute(self) -> dict[str, Any]:
        """Runs to the end, or to `trainer.stop_after`; the results."""
        steady_heap()
        gc.collect()
        gc.freeze()  # a million objects of the libraries: `give_back` need not look at them each time
        try:
            with deterministic(self.options.trainer.deterministic):
                status = self._whole()
        except BaseException as error:
            self.teller.broke(error)
            raise
        finally:
            gc.unfreeze()
            if hasattr(self, "volumes"):
                self.volumes.close()
            if hasattr(self, "store"):
                self.store.close()
        return self.teller.end(status)

    def _whole(self) -> str:
        """From where a checkpoint is; how it ended."""
        self._build()
        done = self._resume()
        if done == 0 and self._midway is None:
            self._set_spacing(run_spacing(self.stream, self.rounds[0].hospitals))
        self.volumes.check_sources(
            {h.key: h for r in self.rounds if r.after > done for h in r.hospitals}.values()
        )
        self.teller.start(self.rounds, self.plugins, done, self._place_within())
        self._every = self._every_steps()
        if done == 0 and self._midway is None and self.space.channels:
            self.teller.note(f"known before the first hospital: {', '.join(self.space.channels)}")
        return self._rounds(done)

    def calibrate(self, folder: Path) -> None:
        """Tells `plan` what a GPU held beside the tensors that were predicted; nothing of a run that is not whole, was not
        predicted (`memory.gpu=fit`), or had no GPU, and nothing from any rank but the first.

        Args:
            folder: `paths.state`.
        """
        peaks, predicted = self.teller.peaks, (self.options.fitted or {}).get("tensors")
        whole = self.results.experiences[-1]["after"] == self.rounds[-1].after
        if not (self.ranks.first and whole) or peaks.statistics is None or predicted is None:
            return
        seen = reserve.measured(predicted, peaks.most, *peaks.statistics.beside())
        if seen is not None:
            reserve.calibrate(folder, seen)

    def _build(self) -> None:
        self.store = self.builder.store(self.demands())
        self.volumes = self.builder.volumes(self.store, self.teller.stage)
        self.learner = self.builder.learner(self._on_step)
        self.builder.check_sizes(self.learner.model)
        self.experiences = self.builder.experiences(self._opened, lambda: self.volumes.cases)
        self.scorer = self.builder.scorer(self.volumes, self.teller.stage)
        self.panel = Panel.of(self.options)
        self.within = Within(self.options.evaluation.within, self.panel, self.scorer)

    # --- the rounds -----------------------------------------------------------------------------------

    def _rounds(self, done: int) -> str:
        last, self._reached, self._learnt = self.rounds[-1].after, done + 1, done
        fresh = done == 0 and self._midway is None
        begun = len(self.rounds) > 1 or bool(self.space.channels)  # by weights that know organs
        if fresh and begun and self.options.evaluation.schedule != "final":
            self._evaluate(0)
        for row, experience in zip(self.rounds, self.experiences, strict=True):
            if row.after < done or (row.after == done and not self._unscored):
                continue
            if row.after > done:
                self._train(row, experience)
            if self.options.evaluation.due(row.after, last):
                if row.after > done:
                    self._save(row, scored=False)  # what follows may fail, and training is dear
                self._evaluate(row.after)
            self._tell_device_peaks()
            self.teller.ended(row)
            self._save(row)
            stop = self.options.trainer.stop_after
            if stop is not None and row.after >= stop and row.after < last:
                return "stopped"
        return "finished"

    def _train(self, row: Round, experience: Any) -> None:
        """Learns a round."""
        if self.options.requires.reinitialise and row is not self.rounds[0]:
            past, self.learner = self.learner, self.builder.learner(self._on_step)
            self.learner.clock.__dict__.update(vars(past.clock))  # the model is new, the stream goes on
            self.learner.at_once = past.at_once
        give_back()
        self.learner.between_steps, self.learner.on_note = self._between_steps, self.teller.note
        self.teller.peak, self._reached = 0, row.after
        self.teller.peaks.restart()
        with self.teller.timed("reading"):
            volumes = self._opened(row)
        self._pass_on()
        if self.options.data.schedule == "one_pass":
            row = replace(row, steps=one_pass_steps(self.options, len(volumes)))
        self.learner.earlier = shown_before(self.options, row.after, volumes, self.volumes.cases)
        self.space.see(sees(case for hospital in row.hospitals for case in hospital.train))
        for volume in sorted(volumes, key=lambda v: v.digest):
            self.space.encode_lut(volume.organs, volume.overlaps)
        self.volumes.open_tests(self.within.hospitals(row.after))
        self.teller.experience(row, len(volumes))
        self._counted = self._patches()
        with self.teller.timed("training"), told("training", _SMALLER):
            source = self.builder.source(row, volumes, self.volumes.cases)
            self.learner.learn(experience, source, row.steps, self._put_back)
        self._align()
        self._learnt = row.after
        self.volumes.leave(row.hospitals)
        self.results.experiences.append(
            {
                "after": row.after,
                "hospital": row.name,
                "steps": row.steps,
                "anonymous_peak": self.teller.peak,
                **spent(self.learner, self.plugins, self._patches().minus(self._counted)),
            }
        )
        self._tell_device_peaks()

    def _tell_device_peaks(self) -> None:
        """Of the present experience, as far as it has come; nothing without a GPU."""
        if self.teller.peaks.found:
            self.results.experiences[-1].setdefault("device_peaks", {}).update(self.teller.peaks.found)

    def _align(self) -> None:
        """Weights, and what plugins keep beside exemplars, become those of the first rank, to the bit: what each makes of
        the same patches may differ by roundings where a device adds in any order."""
        if self.ranks.size > 1:
            own = [plugin.state_dict() for plugin in self.plugins if not hasattr(plugin, "memory")]
            self.ranks.share(tensors_of([self.learner.model.state_dict(), own]))

    def _patches(self) -> Patches:
        """What the ranks have drawn together."""
        own = Patches.of(self.learner, self.plugins)
        told = self.ranks.gather((own.drawn, own.again))
        return Patches(sum(t[0] for t in told), sum(t[1] for t in told), own.replayed)

    def _opened(self, row: Round) -> list[StoredVolume]:
        """The training volumes of a round.

        Raises:
            DataError: one pass has left the round behind, or a hospital that does not share its voxels.
        """
        check_open(self.options, row, self._reached, self._learnt)
        for first in (True, False):  # what the first rank has ingested the others find
            if self.ranks.first is first:
                opened = self.volumes.train(row.hospitals)
            self.ranks.gather(None)
        return opened

    def _evaluate(self, after: int) -> None:
        with self.teller.timed("evaluation"):
            give_back()
            last = after == self.rounds[-1].after
            hospitals = self.panel.after(after, last, self.results.matrix)
            self.scorer.watch = self.teller.scored if last else None
            with told("evaluating", _NARROWER):
                rows = self.scorer.score(self.learner.model, after, hospitals)
        self._pass_on()
        self.results.matrix.append(rows)
        self.results.routed(after, self.scorer.routing)
        self.teller.evaluated(after, rows)
        if self.scorer.routing:
            self.teller.note(told_routing(self.scorer.routing))

    def _save(self, row: Round, scored: bool = True) -> None:
        if self.options.requires.resumable:
            self.teller.saving()
            self._generations.save(row.after, {**self.state_dict(row.after), "scored": scored})

    def _between_steps(self, step: int) -> None:
        if self.within.due(step, self.learner.steps):
            with self.teller.timed("evaluation"), told("evaluating", _NARROWER):
                rows = self.within.score(self.learner, self._reached, step)
            self.results.matrix.append(rows)
        if self._every.due(step, self.learner.steps):
            self._save_within(step)

    def _on_step(self, report: StepReport) -> None:
        self._pass_on()
        self.teller.step(report)

    def _pass_on(self) -> None:
        """What the volumes have to tell: their threads do not speak to reporters."""
        for text in self.volumes.told():
            self.teller.note(text)

    # --- state ----------------------------------------------------------------------------------------

    def state_dict(self, after: int) -> dict[str, Any]:
        """Everything a fresh process needs to go on after an experience. The generators are not in it: each
        experience seeds them anew, from the run's seed and its number."""
        return {
            "after": after,
            "ranks": self.ranks.size,
            "config_hash": self.options.config_hash,
            "learner": self.learner.state_dict(),
            "strategy": [plugin.state_dict() for plugin in self.plugins],
            "label_space": self.space.state_dict(),
            "serving": self._serving(),
            "results": self.results.state_dict(),
            "reporter": self.reporter.state_dict(),  # type: ignore[attr-defined]
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Restores `state_dict`; the number of experiences it has seen."""
        self.space.load_state_dict(state["label_space"])
        for plugin, own in zip(self.plugins, state["strategy"], strict=True):
            plugin.load_state_dict(own)
        self.learner.load_state_dict(state["learner"])
        self._load_told(state)
        return int(state["after"])

    def _serving(self) -> dict[str, Any]:
        """What a model must be told to predict with."""
        spacing, evaluation = self.volumes.spacing, self.options.evaluation
        return {
            "spacing": spacing and list(spacing),
            "roi": list(evaluation.roi),
            "overlap": evaluation.overlap,
            "precision": evaluation.precision,
            "mirror": list(evaluation.mirror),
            "amp": self.options.trainer.amp,
            "channels": self.stream.channels,
            "modality": self.stream.modality,
        }

    def _resume(self) -> int:
        """Experiences that a checkpoint has seen, once it is loaded; what it has of another one is put back when that
        begins."""
        if not self.options.requires.resumable:
            return 0
        state, self._midway = self._generations.newest()
        for found in (state, self._midway):
            check_ranks(found, self.ranks)
        if self._midway is not None:
            self._load_told(self._midway)
        if state is None:
            return 0
        done = self.load_state_dict(state)
        if self._midway is not None:
            self._load_told(self._midway)
        else:
            self._unscored = not state.get("scored", True)
        return done

    # --- state within an experience -------------------------------------------------------------------

    def _every_steps(self) -> CheckpointOptions:
        """`checkpoint`, where the strategy can go on within an experience."""
        wanted = self.options.checkpoint
        if wanted.every_steps is None:
            return wanted
        silent = midway.why_not(self.plugins)
        if self.options.requires.resumable and silent is None:
            return wanted
        if self.options.requires.resumable:
            self.teller.note(
                f"{silent} cannot go on within an experience: a run that is killed goes on after the last whole one"
            )
        return CheckpointOptions()

    def _place_within(self) -> tuple[int, int] | None:
        """Experience and steps that it has had, where the run goes on within one."""
        return None if self._midway is None else (self._midway["experience"], self._midway["step"])

    def _save_within(self, step: int) -> None:
        told = self.teller.saving()
        state = {
            "base": self._learnt,
            "ranks": self.ranks.size,
            "experience": self._reached,
            "step": step,
            "config_hash": self.options.config_hash,
            "told": told,
            "counted": list(astuple(self._patches().minus(self._counted))),
            "label_space": self.space.state_dict(),
            "serving": self._serving(),
            "results": self.results.state_dict(),
            "reporter": self.reporter.state_dict(),  # type: ignore[attr-defined]
            **midway.state(self.learner, self.plugins),
        }
        self._generations.save_within(self._reached, step, state)

    def _put_back(self) -> int:
        """Steps that the experience has had already."""
        state, self._midway = self._midway, None
        if state is None:
            return 0
        self.space.load_state_dict(state["label_space"])
        midway.put_back(state, self.learner, self.plugins)
        self._counted = self._patches().minus(Patches(*state["counted"]))
        self.teller.went_on(state["told"])
        return int(state["step"])

    def _load_told(self, state: dict[str, Any]) -> None:
        """What is known of a run before it goes on: its spacing, its results, what the reporters need."""
        self._set_spacing(state["serving"]["spacing"])
        self.results.load_state_dict(state["results"])
        self.reporter.load_state_dict(state["reporter"])  # type: ignore[attr-defined]

    def _set_spacing(self, spacing: Sequence[float] | None) -> None:
        fixed = None if spacing is None else tuple(spacing)
        self.volumes.spacing = self.scorer.spacing = fixed
