"""From a composed configuration to the parts of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.avalanche_bridge.verdicts import check_target
from lifelong_ct.cli import privacy
from lifelong_ct.cli.compose import plain
from lifelong_ct.cli.instantiate import build
from lifelong_ct.cli.telling import cause, told
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import Identity, Redactor
from lifelong_ct.core.ledger import KINDS, Ledger
from lifelong_ct.core.units import parse_bytes
from lifelong_ct.data.sampling import SamplingPolicy
from lifelong_ct.streams.base import Stream
from lifelong_ct.training.options import (
    CheckpointOptions,
    DataOptions,
    EvaluationOptions,
    FitOptions,
    Requires,
    RunOptions,
    TrainerOptions,
)
from lifelong_ct.training.prediction.reserve import calibrated


class Blueprint:
    """A configuration, its name, and what may be shown of it; nothing is read or built yet.

    Args:
        config: composed.
        command: overrides of the command line.
    """

    def __init__(self, config: DictConfig, command: list[str]) -> None:
        self.values = plain(config)
        privacy.check_form(self.values)
        paths = self.values["paths"]
        self.seed = _whole(self.values["seed"], "seed")
        self.identity = Identity(Path(paths["state"]))
        self.redact: Redactor = privacy.redactor(self.values, self.identity)
        neutral = config.copy()
        OmegaConf.set_struct(neutral, False)
        neutral.paths = {key: f"<{key}>" for key in paths}
        neutral_values = plain(neutral)
        self.hash = privacy.configuration_hash(neutral_values)
        self.public = privacy.public(self.values, neutral_values, self.redact)
        self.strategy = str(self.values["strategy"]["name"])
        stream = self.values["stream"]["name"]
        self.name = f"{stream}-{self.strategy}-s{self.seed}-{self.hash}"
        self.folder = Path(paths["run"]) if paths.get("run") else Path(paths["runs"]) / self.name
        shown = [o for o in command if not o.startswith(("paths.", "group="))]
        self.command = self.redact(" ".join(["lifelong-ct", *shown]))

    def stream(self) -> Stream:
        """Indexes the hospitals."""
        on_bad = self.values["data"].get("on_bad", "error")
        extra = {} if on_bad == "error" else {"on_bad": on_bad}  # a stream of somebody else's may not know it
        stream = build(self.values["stream"], "stream", **extra)
        for hospital in (*stream.hospitals, *stream.unseen):
            for case in (
                *hospital.train,
                *hospital.test,
                *(bad.case for bad in hospital.skipped if bad.case),
            ):
                root = getattr(hospital.layout, "root", None)
                self.redact.hide_case(case, self.identity.of(case), root)
        return stream

    @contextmanager
    def discreet(self) -> Iterator[None]:
        """Errors inside keep private names for an interactive terminal; elsewhere they come out redacted."""
        try:
            yield
        except Exception as error:
            if isinstance(error, LifelongCTError) and sys.stderr.isatty():
                raise
            raise told(error, self.redact, "the configuration") from cause(error)

    def options(self) -> RunOptions:
        """Everything, built.

        Raises:
            LifelongCTError: whatever is wrong in the configuration or in the headers of the hospitals.
        """
        values = self.values
        limits, fit = _limits(values["memory"])  # what is no size is an error before anything is read
        for plugin in values["strategy"].get("plugins") or []:
            check_target(str(plugin.get("_target_")) if isinstance(plugin, Mapping) else "")
        requires = _options(Requires, values["strategy"].get("requires") or {}, "strategy.requires")
        trainer = {key: build_if(value, f"trainer.{key}") for key, value in values["trainer"].items()}
        evaluation = dict(values["evaluation"])
        evaluation["metrics"] = build(evaluation.get("metrics", []), "evaluation.metrics")
        return RunOptions(
            strategy=self.strategy,
            seed=self.seed,
            stream=self.stream(),
            requires=requires,
            new_model=lambda: build(values["model"], "model"),
            new_loss=lambda space: build(values["loss"], "loss", label_space=space),
            new_plugins=self._plugins,
            limits=limits,
            fit=fit,
            exemplar_tier=values["memory"].get("exemplar_tier", "ram"),
            data=_options(DataOptions, values["data"], "data"),
            trainer=_options(TrainerOptions, trainer, "trainer"),
            evaluation=_options(EvaluationOptions, evaluation, "evaluation"),
            checkpoint=_options(CheckpointOptions, values["checkpoint"], "checkpoint"),
            folder=self.folder,
            store=Path(values["paths"]["store"]),
            identity=self.identity,
            redact=self.redact,
            config=self.public,
            config_hash=self.hash,
            command=self.command,
            group=values.get("group"),
            sampling=self._sampling(),
            name=self.name,
            reserve=calibrated(Path(values["paths"]["state"])),
        )

    def _sampling(self) -> SamplingPolicy:
        policy = build(self.values["sampling"], "sampling")
        if not callable(getattr(policy, "centre", None)):
            raise LifelongCTError(
                f"{type(policy).__name__} is no sampling policy",
                "sampling._target_",
                "give it centre(volume, rng); see lifelong_ct.data.sampling.policy.SamplingPolicy",
            )
        return policy

    def _plugins(self) -> list[SupervisedPlugin]:
        plugins = build(self.values["strategy"].get("plugins") or [], "strategy.plugins")
        for plugin in plugins:
            if not isinstance(plugin, SupervisedPlugin):
                raise LifelongCTError(
                    f"{type(plugin).__name__} is no Avalanche SupervisedPlugin",
                    "strategy.plugins",
                    "derive it from lifelong_ct.avalanche_bridge.plugin.StrategyPlugin",
                )
        return plugins


def _limits(memory: Mapping[str, Any]) -> tuple[dict[str, Any], FitOptions | None]:
    """Limits by kind, that of the GPU without one where the run is made to fit."""
    limits = {kind: memory.get(kind) for kind in KINDS}
    fit = limits["gpu"] == "fit"
    if fit:
        limits["gpu"] = None
    Ledger(limits)
    available = memory.get("gpu_available")
    given = None if available is None else parse_bytes(available, "memory.gpu_available")
    options = FitOptions(given, memory.get("smaller_patch", False))
    return limits, options if fit else None


def build_if(value: Any, where: str) -> Any:
    """Builds what has a `_target_`; other values stay."""
    return build(value, where) if isinstance(value, Mapping) and "_target_" in value else value


def _whole(value: Any, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise LifelongCTError(f"{key}={value!r}", key, "write a whole number")


def _options(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    unknown = sorted(set(values) - set(kind.__dataclass_fields__))
    if unknown:
        raise LifelongCTError(
            f"unknown key {', '.join(unknown)}", where, f"there are {', '.join(kind.__dataclass_fields__)}"
        )
    return kind(**values)
