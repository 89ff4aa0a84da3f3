"""The one place where a configuration names what is called, and the list of what it may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from lifelong_ct.cli.conf import plugin_packages
from lifelong_ct.core.errors import LifelongCTError

ALLOWED = ("lifelong_ct", "torch.optim", "monai", "avalanche")


def build(config: Any, where: str, **extra: Any) -> Any:
    """`hydra.utils.instantiate`, for targets of ours, of torch's optimizers, MONAI, Avalanche and plug-ins.

    Args:
        config: a mapping with `_target_`, nested as may be, or a list of these.
        where: its key, for errors.
        extra: further arguments.

    Raises:
        LifelongCTError: a target that is not allowed or does not exist, or arguments that do not fit it.
    """
    _check(config, where, (*ALLOWED, *plugin_packages().values()))
    if isinstance(config, list):
        return [build(item, f"{where}.{i}") for i, item in enumerate(config)]
    if config is None:
        return None
    try:
        return hydra.utils.instantiate(OmegaConf.create(config), _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, LifelongCTError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from error
        raise LifelongCTError(
            " ".join(str(error).split()), where, "check its _target_ and arguments"
        ) from error


def _check(config: Any, where: str, allowed: tuple[str, ...]) -> None:
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None and not any(str(target).startswith(f"{root}.") for root in allowed):
            raise LifelongCTError(
                f"{target!r} may not be named in a configuration",
                f"{where}._target_",
                f"use {', '.join(allowed)}, or declare your package as a plug-in (lifelong_ct.plugins)",
            )
        for key, value in config.items():
            _check(value, f"{where}.{key}", allowed)
    elif isinstance(config, (list, tuple)):
        for i, value in enumerate(config):
            _check(value, f"{where}.{i}", allowed)
