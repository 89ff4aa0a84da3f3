"""Which of Avalanche's own plugins may be in a strategy: decided here, for runs and for docs/avalanche_plugins.md.

`tests/avalanche_bridge/test_verdicts.py` runs those that run; `test_refused.py` shows with the plugins themselves that what
is said of the others is true.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass

from lifelong_ct.core.errors import LifelongCTError

UNMODIFIED, BRIDGE, REFUSED = "unmodified", "bridge", "refused"
_REPLAY = "strategy=replay"
_CLASS = "it groups samples by their one class, and a patch has one per voxel"
_HEAD = "it needs a model with a nearest-mean classifier for whole images (`model.eval_classifier`)"
_ALIVE = "it keeps every hospital's dataset alive, beside the limits and `sharing`"


@dataclass(frozen=True)
class Verdict:
    """Whether a plugin runs.

    Attributes:
        runs: unmodified (its hooks as they are), bridge (its memory is copied), or refused.
        why: what is wrong with it, or what to know.
        ours: what does the same here.
    """

    runs: str
    why: str
    ours: str = ""


def _refused(why: str, ours: str) -> Verdict:
    return Verdict(REFUSED, why, ours)


VERDICTS = {
    # --- run as they are
    "SupervisedPlugin": Verdict(UNMODIFIED, "the base class of plugins of others", "StrategyPlugin"),
    "Clock": Verdict(UNMODIFIED, "counts what the learner's own clock counts", "strategy.clock"),
    "EWCPlugin": Verdict(
        UNMODIFIED,
        "squares the gradient of a batch's mean loss and has no ½; mode=separate keeps two more copies of the model with "
        "each hospital, mode=online does not",
        "strategy=ewc",
    ),
    "MASPlugin": Verdict(UNMODIFIED, "importances in train mode, over all of the dataset", "strategy=mas"),
    "RWalkPlugin": Verdict(
        UNMODIFIED,
        "one more forward and backward pass per step, of the patch before augmentation; with delta_t above the steps of an "
        "experience its penalty is 0/0 and the run stops",
        "strategy=rwalk",
    ),
    # --- run with copies
    "AGEMPlugin": Verdict(
        BRIDGE,
        "patterns_per_experience patches more with each hospital; use sample_size ≥ hospitals",
        "strategy=agem",
    ),
    "ReplayPlugin": Verdict(
        BRIDGE, "mem_size patches, uncompressed; they join the micro-batch instead of the loader", _REPLAY
    ),
    # --- wrong for voxels, or here
    "LwFPlugin": _refused(
        "its distillation is a sum over voxels and grows with the patch, and it asks datasets for classes",
        "strategy=lwf",
    ),
    "SynapticIntelligencePlugin": _refused(
        "on CPU its copies of the weights are the weights, so every importance is 0", "strategy=si"
    ),
    "GEMPlugin": _refused(
        "it keeps patches whatever `sharing` says, outside the limit, and a gradient per hospital",
        "strategy=agem",
    ),
    "GDumbPlugin": _refused(_CLASS, "strategy=gdumb"),
    "MIRPlugin": _refused(_CLASS, "strategy=replay selection=loss_aware"),
    "CoPEPlugin": _refused(
        "it puts a nearest-mean classifier behind a last linear layer", "strategy=prototypes"
    ),
    "BiCPlugin": _refused(_CLASS, "strategy=replay_ewc_lwf"),
    "CWRStarPlugin": _refused(
        "it counts samples per class, and sets rows of a last linear layer", "strategy=frozen_encoder"
    ),
    "GSS_greedyPlugin": _refused(
        "its memory has room for one class per sample, and is kept whatever `sharing` says",
        "strategy=replay selection=gss",
    ),
    "RARPlugin": _refused(
        "it traces the model symbolically and compares one class per sample; " + _ALIVE, _REPLAY
    ),
    "LFLPlugin": _refused("it needs Avalanche's BaseModel.get_features()", "strategy=plop"),
    "FeatureDistillationPlugin": _refused(
        "it reads task labels and `model.features`, which are not here", "strategy=plop"
    ),
    "GenerativeReplayPlugin": _refused("it needs a model that generates samples", _REPLAY),
    "TrainGeneratorAfterExpPlugin": _refused(
        "it trains the generator of GenerativeReplayPlugin, and does nothing without", _REPLAY
    ),
    "CurrentDataNCMUpdate": _refused(_HEAD, "strategy=prototypes"),
    "MemoryNCMUpdate": _refused(_HEAD, "strategy=prototypes"),
    "NCMOracle": _refused(_HEAD, "strategy=cumulative"),
    "CurrentDataFeCAMUpdate": _refused(_HEAD, "strategy=prototypes"),
    "MemoryFeCAMUpdate": _refused(_HEAD, "strategy=prototypes"),
    "FeCAMOracle": _refused(_HEAD, "strategy=cumulative"),
    "ICaRLLossPlugin": _refused("it asks datasets for one class per sample", "strategy=replay_pseudo"),
    "_ICaRLPlugin": _refused("it asks datasets for one class per sample", "strategy=replay_pseudo"),
    "_ExpertGatePlugin": _refused("it needs Avalanche's ExpertGate model", "strategy=independent"),
    "PackNetPlugin": _refused(
        "it needs several epochs, one of them after pruning, and Avalanche's PackNetModel",
        "strategy=continual_segment",
    ),
    "MaskedCrossEntropy": _refused(
        "it is a loss for one class per sample, and would replace the one for partial labels", "loss=dice_ce"
    ),
    "FromScratchTrainingPlugin": _refused(
        "it leaves what changed its shape as it is, so a head that has grown keeps what it learned",
        "strategy.requires.reinitialise=true",
    ),
    "EarlyStoppingPlugin": _refused(
        "it waits for scores of Avalanche's evaluation, which does not run here: it never stops",
        "trainer.steps",
    ),
    "LRSchedulerPlugin": _refused(
        "its scheduler is tied to one optimizer, and each experience makes a new one", "trainer.schedule=poly"
    ),
    "EvaluationPlugin": _refused(
        "its metrics are for one class per sample, and nothing is evaluated through Avalanche",
        "evaluation.metrics",
    ),
    "PeriodicEval": _refused("nothing is evaluated through Avalanche", "evaluation.schedule"),
    "CheckpointPlugin": _refused("it was withdrawn by Avalanche", "trainer.keep_checkpoints"),
    "InteractiveLogger": _refused(
        "it is a logger of Avalanche's metrics, of which there are none here", "reporter=default"
    ),
}


def check(kind: type) -> Verdict:
    """The verdict on a plugin's class; a subclass shares that of what it derives from.

    Raises:
        LifelongCTError: it is refused, or nobody has looked at it.
    """
    stock = [each for each in kind.__mro__ if each.__module__.split(".")[0] == "avalanche"]
    for each in stock:
        verdict = VERDICTS.get(each.__name__)
        if verdict is not None and verdict.runs == REFUSED:
            raise LifelongCTError(
                f"{each.__name__} of Avalanche cannot be used here: {verdict.why}",
                "strategy.plugins",
                f"use {verdict.ours}",
            )
    known = VERDICTS.get(stock[0].__name__) if stock else None
    if known is None:
        raise LifelongCTError(
            f"nobody has looked whether {stock[0].__name__ if stock else kind.__name__} is right for voxels",
            "strategy.plugins",
            "see docs/avalanche_plugins.md for what runs, or derive from lifelong_ct's StrategyPlugin",
        )
    return known


def check_target(target: str) -> None:
    """`check` by name, before anything is built: some refused plugins cannot be built from a configuration.

    Args:
        target: `package.module.Class`; what is not Avalanche's, or does not exist, is left to others.

    Raises:
        LifelongCTError: see `check`.
    """
    module, _, name = target.rpartition(".")
    if module.split(".")[0] != "avalanche":
        return
    try:
        kind = inspect.unwrap(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError):
        return
    if isinstance(kind, type):
        check(kind)
