"""Composition of a configuration, and sweeps: the only place that drives Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lifelong_ct.cli.conf import own_folder, plugin_folders
from lifelong_ct.core.errors import LifelongCTError

EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/ray": "ray",
    "hydra/sweeper/optuna": "optuna",
}
"""What our configurations take from plug-ins of Hydra's → the extra of `pyproject.toml` that brings it."""


@dataclass
class Request:
    """A command line, taken apart.

    Attributes:
        overrides: Hydra's.
        multirun: every combination.
        print_only: show the configuration and end.
        config_dirs: further folders of YAMLs.
    """

    overrides: list[str] = field(default_factory=list)
    multirun: bool = False
    print_only: bool = False
    config_dirs: list[Path] = field(default_factory=list)


def parse(args: Sequence[str]) -> Request:
    """Splits flags from overrides.

    Raises:
        LifelongCTError: an unknown flag, or an argument that is no override.
    """
    request, rest = Request(), iter(args)
    for arg in rest:
        if arg in ("-m", "--multirun"):
            request.multirun = True
        elif arg in ("--cfg", "-c"):
            request.print_only = True
        elif arg == "--config-dir":
            request.config_dirs.append(_folder(next(rest, "")))
        elif arg.startswith("-") or "=" not in arg.lstrip("~"):
            if arg.startswith("~"):
                request.overrides.append(arg)
                continue
            raise LifelongCTError(f"{arg!r} is not understood", "the command line", "write key=value; --help")
        else:
            request.overrides.append(arg)
    return request


@contextmanager
def hydra(request: Request) -> Iterator[Hydra]:
    """A Hydra over our configurations, those of plug-ins, and the user's; its errors become ours."""
    GlobalHydra.instance().clear()
    search_path: ConfigSearchPath = create_config_search_path(str(own_folder()))
    last = SearchPathQuery(provider="schema")  # Hydra wants its own to stay behind
    for name, folder in plugin_folders().items():
        search_path.prepend(name, f"file://{folder}", last)
    for folder in request.config_dirs:
        search_path.prepend("command line", f"file://{folder}", last)
    try:
        yield Hydra.create_main_hydra2("lifelong_ct", search_path)
    except MissingConfigException as error:
        raise _missing(error) from error
    except OverrideParseException as error:
        key = error.override.split("=")[0]
        raise LifelongCTError(_shorten(str(error)), key, "write key=value, quoted where needed") from error
    except (
        HydraException,
        OmegaConfBaseException,
        yaml.YAMLError,
        ValueError,
        OSError,
        RecursionError,
    ) as error:
        raise LifelongCTError(
            _shorten(str(error)), "the configuration", "lifelong-ct --help lists keys and choices"
        ) from error
    finally:
        GlobalHydra.instance().clear()


def compose(request: Request) -> DictConfig:
    """The configuration of a single run, resolved where it must be."""
    with hydra(request) as engine:
        config = engine.compose_config("config", request.overrides, RunMode.RUN)
        _drop_hydra(config)
        OmegaConf.resolve(config.copy())  # an interpolation that leads nowhere is an error here
    return config


def is_sweep(request: Request) -> bool:
    """Whether `-m` or the configuration asks for every combination."""
    if request.multirun:
        return True
    with hydra(request) as engine:
        config = engine.compose_config("config", request.overrides, RunMode.RUN, False)
        return config.hydra.mode == RunMode.MULTIRUN


def sweep(request: Request, job: Callable[[DictConfig], Any]) -> list[Any]:
    """Runs `job` for every combination, through the configured launcher; what each returned, nothing where the sweeper
    keeps that to itself (Optuna's does)."""
    with hydra(request) as engine:
        batches = engine.multirun("config", job, request.overrides, with_log_configuration=False)
    return [done.return_value for batch in batches or () for done in batch]


def swept(request: Request) -> DictConfig:
    """What the jobs of a sweep have in common, where nothing is multiplied."""
    with hydra(request) as engine:
        config = engine.compose_config("config", request.overrides, RunMode.MULTIRUN, False)
    _drop_hydra(config)
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as dicts and lists, interpolations resolved."""
    copy = config.copy()
    _drop_hydra(copy)
    try:
        resolved = OmegaConf.to_container(copy, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise LifelongCTError(_shorten(str(error)), "the configuration", "give the key a value") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _drop_hydra(config: DictConfig) -> None:
    OmegaConf.set_struct(config, False)
    config.pop("hydra", None)


def _missing(error: MissingConfigException) -> LifelongCTError:
    asked = str(error.missing_cfg_file or "")
    if asked in EXTRAS:
        extra = EXTRAS[asked]
        return LifelongCTError(
            f"{asked} is not installed", "launcher, sweep", f'pip install "lifelong-ct[{extra}]" brings it'
        )
    group, _, choice = asked.rpartition("/")
    there = list(error.options or [])
    if not there:
        return LifelongCTError(_shorten(str(error)), "the configuration", "lifelong-ct --help lists choices")
    near = difflib.get_close_matches(choice, there, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return LifelongCTError(
        f"there is no {group} {choice!r}", f"{group}={choice}", f"{hint}there are {', '.join(sorted(there))}"
    )


def _shorten(text: str) -> str:
    """Hydra's message without its advice about tracebacks."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"\s+", " ", " ".join(lines))[:500]


def _folder(name: str) -> Path:
    folder = Path(name)
    if not name or not folder.is_dir():
        raise LifelongCTError(f"{name!r} is no folder", "--config-dir", "give a folder of YAML groups")
    return folder.resolve()
