"""What `doctor` looks at. Nothing is changed, and nothing leaves the machine but a question whether W&B answers."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from lifelong_ct.core.units import format_bytes, parse_bytes
from lifelong_ct.data.store_room import SUFFIX, on_disk
from lifelong_ct.reporting.bounded import within
from lifelong_ct.reporting.wandb_service import has_api_key, server, usual_mode

NAME = "lifelong-ct"
LIBRARIES = 2 << 30
"""Bytes that Python, torch and MONAI take beside `memory.ram`."""
ROOM = 1 << 30
"""Free bytes that a few runs need."""
PATIENCE = 4.0
"""Seconds for W&B to answer."""
DRIVER = Path("/proc/driver/nvidia/version")
CGROUP, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class Finding(NamedTuple):
    """One line: whether it is as it should be, of what, what was found, the next step."""

    good: bool
    what: str
    found: str
    next: str


def python() -> Finding:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        sys.version_info >= (3, 10),
        "Python",
        found,
        "" if sys.version_info >= (3, 10) else "install Python 3.10",
    )


def version_of(package: str) -> str | None:
    """The version that is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """Every requirement that our own package declares, and which of its extras are complete."""
    try:
        declared = [Requirement(text) for text in requires(NAME) or ()]
    except PackageNotFoundError:
        yield Finding(False, NAME, "not installed", "pip install -e . in the checkout")
        return
    extras: dict[str, list[str]] = {}
    for need in declared:
        extra = _extra(need)
        if extra is None:
            if need.marker is None or need.marker.evaluate():
                yield _package(need)
        elif not _package(need).good:
            extras.setdefault(extra, []).append(need.name)
        else:
            extras.setdefault(extra, [])
    for extra, missing in extras.items():
        told = f"without {', '.join(missing)}" if missing else "complete"
        yield Finding(True, f"extra {extra}", told, f'pip install "{NAME}[{extra}]"' if missing else "")


def torch_and_cards() -> Iterator[Finding]:
    """Whether torch and torchvision fit each other, and what the GPUs are."""
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torchvision")
        yield Finding(True, "torch and torchvision", "fit each other", "")
    except (ImportError, RuntimeError, OSError) as error:
        pair = next((need for need in requires("torchvision") or () if need.startswith("torch==")), "torch")
        yield Finding(False, "torch and torchvision", str(error)[:80], f'pip install "{pair}" torchvision')
        return
    yield from _cards(torch)


def host(memory: Mapping[str, Any]) -> Iterator[Finding]:
    """Processor and memory, as far as this process may use them."""
    cores, quota = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        _quota(),
    )
    told = f"{cores} cores" + (f", {quota:g} of them granted" if quota and quota < (cores or 0) else "")
    yield Finding(True, "processor", told, "data.workers=N sets who reads patches")
    total, limit = _total_memory(), _memory_limit()
    usable = min(total, limit or total)
    wanted = parse_bytes(memory.get("ram") or 0, "memory.ram")
    good = not usable or usable >= wanted + LIBRARIES
    told = f"{format_bytes(total)}" + (f", {format_bytes(limit)} granted" if limit and limit < total else "")
    spare = max(usable - LIBRARIES, 0)
    step = f"memory.ram={format_bytes(wanted)} fits" if good else f"memory.ram={spare >> 20}MiB or less"
    yield Finding(good, "memory", told, step)


def folders(paths: Mapping[str, Any], memory: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the folders can be written, and what is free there."""
    disk = parse_bytes(memory.get("disk") or ROOM, "memory.disk")
    stored = _stored(Path(str(paths["store"])))
    for name, room in (("store", max(0, disk - stored)), ("runs", ROOM), ("state", 0)):
        place = _existing(Path(str(paths[name])))
        free = shutil.disk_usage(place).free
        if not _writable(place):
            yield Finding(False, f"paths.{name}", "cannot be written", f"paths.{name}=FOLDER of yours")
        elif free < room:
            fix = f"free some, paths.{name}=FOLDER elsewhere"
            fix += f", or memory.disk={(free + stored) >> 20}MiB" if name == "store" else ""
            yield Finding(
                False, f"paths.{name}", f"{format_bytes(free)} free of {format_bytes(room)} wanted", fix
            )
        else:
            yield Finding(True, f"paths.{name}", f"writable, {format_bytes(free)} free", "")


def _stored(store: Path) -> int:
    """Bytes of the volumes that a store holds: they are part of `memory.disk`, and taken from what is free already."""
    try:
        return sum(file.nbytes for file in on_disk(store, SUFFIX))
    except OSError:
        return 0


def wandb(options: Mapping[str, Any]) -> Finding:
    """Whether W&B would be told, and whether it answers."""
    if not options.get("enabled"):
        return Finding(True, "W&B", "off", "reporter.wandb.enabled=true")
    mode = options.get("mode") or usual_mode()
    if mode != "online":
        key = "an API key is there" if has_api_key() else "no API key"
        return Finding(True, "W&B", f"{mode}, {key}", "`wandb login` for online; `wandb sync` sends later")
    if not has_api_key():
        return Finding(
            False, "W&B", "online without an API key", "`wandb login`, or reporter.wandb.mode=offline"
        )
    try:
        within(PATIENCE, lambda: urllib.request.urlopen(server(), timeout=PATIENCE).close())
    except urllib.error.HTTPError:
        return Finding(True, "W&B", "online, it answers", "")
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        told = f"online, but it does not answer ({type(error).__name__})"
        return Finding(False, "W&B", told, "network, proxy or WANDB_BASE_URL; or reporter.wandb.mode=offline")
    return Finding(True, "W&B", "online, it answers", "")


def _extra(need: Requirement) -> str | None:
    """The extra that a requirement belongs to."""
    text = str(need.marker or "")
    return text.split('extra == "')[1].split('"')[0] if 'extra == "' in text else None


def _package(need: Requirement) -> Finding:
    found = version_of(need.name)
    good = found is not None and need.specifier.contains(found, prereleases=True)
    wanted = f"{need.name}{need.specifier}"
    told = found or "missing"
    return Finding(
        good, need.name, told if good else f"{told}, not {wanted}", "" if good else f'pip install "{wanted}"'
    )


def _cards(torch: Any) -> Iterator[Finding]:
    built = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch without CUDA"
    driver = _driver()
    if not torch.cuda.is_available():
        step = (
            "install torch for CUDA"
            if not torch.version.cuda
            else "a newer driver, or torch for an older CUDA"
        )
        found = f"{built}, driver {driver}" if driver else f"none ({built}): everything runs on the CPU"
        yield Finding(driver is None, "GPU", found, step if driver else "")
        return
    yield Finding(True, "CUDA", f"{built}, driver {driver}, cuDNN {torch.backends.cudnn.version()}", "")
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        half = "bf16" if card.major >= 8 else "no bf16"  # Ampere has brought it
        told = f"{card.name}, {format_bytes(card.total_memory)}, {half}"
        yield Finding(True, f"GPU {i}", told, f"trainer.device=cuda:{i}, memory.gpu bounds it")


def _driver() -> str | None:
    """Version of NVIDIA's kernel module; None without one."""
    try:
        words = DRIVER.read_text().split()
    except OSError:
        return None
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")


def _total_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _memory_limit() -> int | None:
    """Bytes that the control groups of this process grant; None without a limit."""
    names = ("memory.max", "memory/memory.limit_in_bytes", "memory.limit_in_bytes")
    found = [int(text) for text in _granted(names) if text.isdigit()]
    return min(found, default=None)


def _quota() -> float | None:
    """Processors that they grant."""
    found = [text.split() for text in _granted(("cpu.max",))]
    return min((int(a) / int(b) for a, b in found if a.isdigit()), default=None)


def _granted(names: tuple[str, ...]) -> Iterator[str]:
    """Texts of the files of these names in the groups of this process and in those around them."""
    try:
        own = OWN_GROUP.read_text().strip().splitlines()[-1].split(":", 2)[2]
    except (OSError, IndexError):
        return
    group = CGROUP / own.lstrip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(CGROUP):
            for name in names:
                if (folder / name).is_file():
                    yield (folder / name).read_text().strip()


def _existing(path: Path) -> Path:
    """The path, or the closest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
