"""W&B's service: a process of its own that may be out of reach, hang or die."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lifelong_ct.reporting.bounded import within

SERVER = "https://api.wandb.ai"
ENDING = 10.0
"""Seconds that the service may take to end; it has written everything by then."""


def server() -> str:
    """Address of W&B: WANDB_BASE_URL, or the public one."""
    return os.environ.get("WANDB_BASE_URL") or SERVER


def has_api_key() -> bool:
    """Whether W&B could log in: WANDB_API_KEY, or an entry of the netrc file for its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(urlparse(server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def usual_mode() -> str:
    """`WANDB_MODE`, or online where there is an API key, or offline."""
    return os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")


def client(mode: str) -> Any:
    """The module wandb; imported here and in `wandb_file` only."""
    if mode != "online":
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would use the network even offline
    import wandb

    return wandb


def settings(wandb: Any, timeout: float) -> Any:
    """What is logged is redacted; code, git, host, user name, console output and paths are not recorded.

    Args:
        wandb: the module.
        timeout: seconds to reach the server.
    """
    chosen = wandb.Settings(
        silent=True,
        console="off",
        symlink=False,
        reinit="create_new",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="-",
        username="-",
        program="-",
        init_timeout=timeout,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    wandb.setup(chosen)
    logging.getLogger("wandb").setLevel(logging.CRITICAL + 1)  # its diary begins with our paths
    return chosen


def end(wandb: Any) -> None:
    """Ends the service, by force where it does not answer."""
    if wandb.run is not None:  # somebody else in this process uses it
        return
    process = _process(wandb)
    try:
        within(ENDING, wandb.teardown)
    except TimeoutError:
        _kill(process)
    except Exception:
        logging.getLogger(__name__).debug("the service of W&B was gone already", exc_info=True)


def kill(wandb: Any) -> None:
    """Ends a service that hangs: the end of this process would wait for it without end."""
    _kill(_process(wandb))
    end(wandb)


def _process(wandb: Any) -> Any:
    """The `Popen` of the service; None where it has another owner, or wandb keeps it elsewhere than in 0.31."""
    try:
        return wandb.setup()._connection._proc._process
    except AttributeError:
        return None


def _kill(process: Any) -> None:
    if process is not None:
        process.kill()
        process.wait(ENDING)
