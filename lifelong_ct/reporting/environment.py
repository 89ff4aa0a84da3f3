"""What a run ran on: versions and hardware, and nothing that names a machine or a person."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lifelong_ct import __version__
from lifelong_ct.reporting.text import size

PACKAGES = ("torch", "avalanche-lib", "monai", "hydra-core", "numpy", "scipy", "nibabel", "blosc2")


def environment(amp: str | None = None) -> dict[str, str]:
    """Name → value, in the order to show.

    Args:
        amp: `trainer.amp` of the run.
    """
    import torch  # pages are rebuilt without it

    found = {
        "lifelong_ct": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": f"{os.cpu_count()}, torch uses {torch.get_num_threads()}",
        "GPU": ", ".join(map(_card, map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))))
        or "none",
        "autocast": amp or "none",
    }
    if torch.cuda.is_available():
        found["CUDA"], found["cuDNN"] = str(torch.version.cuda), str(torch.backends.cudnn.version())
        found["TF32"] = (
            f"matrices {_on(torch.backends.cuda.matmul.allow_tf32)}, cuDNN {_on(torch.backends.cudnn.allow_tf32)}"
        )
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _card(card: Any) -> str:
    return f"{card.name}, {size(card.total_memory)}"
