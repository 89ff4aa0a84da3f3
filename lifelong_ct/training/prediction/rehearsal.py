"""One step of each phase of a run, with its own learner, loss and strategy."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin, held_bytes
from lifelong_ct.avalanche_bridge.stock import adopt
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.protocols import Batch
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.evaluation.inference import evaluating
from lifelong_ct.streams.hospital import sees
from lifelong_ct.training.building import Builder
from lifelong_ct.training.learner import Learner
from lifelong_ct.training.options import RunOptions
from lifelong_ct.training.planner import parameter_bytes
from lifelong_ct.training.prediction.imagined import (
    ImaginedContext,
    ImaginedPatches,
    Valueless,
    emptied,
    staying,
)
from lifelong_ct.training.prediction.owners import held_by
from lifelong_ct.training.prediction.peaks import Peak, Prediction
from lifelong_ct.training.prediction.storages import TEMPORARIES, Storages
from lifelong_ct.training.prediction.workspaces import columns
from lifelong_ct.training.rounds import Round
from lifelong_ct.training.within import untouched

STEPS = 2
"""Optimizer steps of an experience: with the second one the optimizer's state is there."""
MICRO_BATCHES = 2
"""Of a step, at most: with the second one its gradients are there."""
HELD_OUT = 2
"""Held-out patches, at most: with the second one what the first has left is there."""
TRAINING, END, EVALUATION = "training on hospital", "end of hospital", "evaluation of a window"


class Rehearsing(Learner):
    """Says what the storages are for."""

    storages: Storages
    methods: Sequence[StrategyPlugin]
    learnt = most = 0
    elsewhere = False
    """Whether the optimizer's state lies in the memory of another device."""

    def model_adaptation(self, model: Any = None) -> Any:
        """Grows the head; the model is where it shall be."""
        model = self.model if model is None else model
        model.grow(self._width())
        return model

    def held_out_batches(self, count: int) -> Iterator[Batch]:
        """A few stand for all."""
        return super().held_out_batches(min(count, HELD_OUT))

    def training_epoch(self, **kwargs: Any) -> None:
        """The steps of an experience are one phase, what follows another."""
        self.accumulate = min(self.accumulate, MICRO_BATCHES)
        self.learnt += 1
        self.storages.begin(f"{TRAINING} {self.learnt}")
        with self._gradients_named():
            super().training_epoch(**kwargs)
        self.storages.begin(f"{END} {self.learnt}")

    def _before_training_exp(self, **kwargs: Any) -> None:
        super()._before_training_exp(**kwargs)
        self._say()

    def _after_training_exp(self, **kwargs: Any) -> None:
        with self._gradients_named():
            super()._after_training_exp(**kwargs)
        self._say()

    def _before_forward(self, **kwargs: Any) -> None:
        self._mark = self.storages.clock
        super()._before_forward(**kwargs)

    def _before_backward(self, **kwargs: Any) -> None:
        super()._before_backward(**kwargs)
        self._say()
        self.storages.name_since("activations", self._mark)

    def _after_update(self, **kwargs: Any) -> None:
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [value for value in states if isinstance(value, Tensor)]
        self.storages.name("optimizer", tensors)
        if self.elsewhere:
            for value in tensors:
                self.storages.leave_out(value)
        super()._after_update(**kwargs)
        self._say()
        self.most = max(self.most, held_bytes(self.methods).get("gpu", 0))

    @contextmanager
    def _gradients_named(self) -> Iterator[None]:
        def named(parameter: Tensor) -> None:
            if parameter.grad is not None:
                self.storages.name("gradients", [parameter.grad])

        learning = [p for p in self.model.parameters() if p.requires_grad]
        with ExitStack() as stack:
            for parameter in learning:
                stack.callback(parameter.register_post_accumulate_grad_hook(named).remove)
            yield

    def _say(self) -> None:
        self.storages.name("parameters", self.model.state_dict(keep_vars=True).values())
        for kind, tensors in held_by(self.methods):
            self.storages.name(kind, tensors, only=TEMPORARIES)


class _Rehearsal(Builder):
    """Builds the parts of a run for tensors without data."""

    learner_type = Rehearsing
    context_type: type[StrategyContext] = ImaginedContext
    on_cuda = False

    def channels_last(self) -> bool:
        """As on the device that is meant."""
        wanted = self.options.trainer.channels_last
        return wanted is True or (wanted == "auto" and not self.on_cuda and super().channels_last())

    def model(self) -> nn.Module:
        """A fresh network whose weights have no data; it is drawn with data, which is then let go."""
        with _disable_current_modes():
            made = super().model()
        return emptied(made)


class _Measuring(_Rehearsal):
    """The same with data."""

    context_type = StrategyContext


def rehearse(
    options: RunOptions,
    rounds: Sequence[Round],
    on_cuda: bool = False,
    real: bool = False,
    experiences: int = 2,
) -> Prediction:
    """Runs the first experiences of a stream for a few steps, as if every organ had been seen, and then evaluates a window.
    With the second experience everything is there that a strategy keeps, except what it declares to grow.

    Args:
        options: of the run.
        rounds: of the run.
        on_cuda: whether a GPU is meant: then nothing is unfolded, and what depends on the device is as there.
        real: with data, so that what is measured meanwhile is what it takes.
        experiences: how many, at most.
    """
    storages = Storages((lambda func, args: 0) if on_cuda else columns)
    with untouched(), ExitStack() as stack:
        weights = parameter_bytes(options.new_whole_model())
        if not real:
            mode = FakeTensorMode(allow_non_fake_inputs=True)
            for context in (mode, Valueless(mode), staying()):
                stack.enter_context(context)
        stack.enter_context(storages)
        kind = _Measuring if real else _Rehearsal
        growth = _run(kind, _without_scaler(options), rounds, storages, on_cuda, experiences, weights)
    phases = storages.phases
    last = max(i for i, phase in enumerate(phases) if phase.name.startswith(TRAINING))
    peaks = [Peak(p.name, p.peak, storages.kinds(p), i >= last) for i, p in enumerate(phases)]
    return Prediction(peaks, growth, "measured" if real else "rehearsed")


def _run(
    kind: type[_Rehearsal],
    options: RunOptions,
    rounds: Sequence[Round],
    storages: Storages,
    on_cuda: bool,
    count: int,
    weights: int,
) -> int:
    """Bytes that the plugins declare beyond what they held."""
    plugins: list[StrategyPlugin] = [adopt(plugin) for plugin in options.new_plugins()]
    limits = {"exemplars": options.limits.get("exemplars")}
    builder = kind(options, Ledger(limits), torch.device("cpu"), plugins, rounds)
    builder.on_cuda, builder.space = on_cuda, copy.deepcopy(builder.space)
    builder.bound()
    learner = builder.learner(lambda report: None)
    assert isinstance(learner, Rehearsing)
    learner.storages, learner.methods = storages, plugins
    learner.elsewhere = on_cuda and options.trainer.optimizer_state == "host"
    _show(builder.space, rounds)
    stream = builder.stream
    patches = ImaginedPatches((options.trainer.batch_size, stream.channels, *stream.patch))
    experiences = stream.benchmark([patches] * len(rounds)).train_stream
    for experience, _ in zip(experiences, rounds[:count]):
        gc.collect()  # as a run does: what is gone in circles is else counted until Python looks
        learner.learn(experience, patches, STEPS)
    _evaluate(learner, options, storages)
    declared = sum(plugin.declared_bytes(weights).get("gpu", 0) for plugin in plugins)
    return max(0, declared - learner.most)


def _show(space: LabelSpace, rounds: Sequence[Round]) -> None:
    """As if all had been seen, annotated as the first hospitals do."""
    space.see(space.organs)
    for row in rounds[:2]:
        space.encode_lut(sorted(sees(case for hospital in row.hospitals for case in hospital.train)))


def _evaluate(learner: Rehearsing, options: RunOptions, storages: Storages) -> None:
    storages.begin(EVALUATION)
    mark = storages.clock
    x = torch.zeros((1, options.stream.channels, *options.evaluation.roi))
    with evaluating(learner.model):
        answer = learner.model(x).float()
        del answer
    storages.name_since("evaluation", mark)


def _without_scaler(options: RunOptions) -> RunOptions:
    """With a precision that the CPU knows; both halves take the same bytes."""
    trainer = options.trainer
    return replace(options, trainer=replace(trainer, amp="bf16")) if trainer.amp == "fp16" else options
