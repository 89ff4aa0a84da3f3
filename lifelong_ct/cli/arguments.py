"""Arguments of verbs that are not Hydra's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lifelong_ct.core.errors import LifelongCTError


def take(args: list[str], key: str) -> str | None:
    """Takes `key=value` off the arguments; the last one counts."""
    found = [arg for arg in args if arg.startswith(f"{key}=")]
    for arg in found:
        args.remove(arg)
    return found[-1].partition("=")[2] if found else None


def need(args: list[str], key: str, what: str) -> str:
    """`take`, for an argument that must be there.

    Raises:
        LifelongCTError: it is not.
    """
    value = take(args, key)
    if not value:
        raise LifelongCTError(f"{key}= is missing", "the command line", f"give {key}={what}")
    return value


def named(overrides: Sequence[str], keys: Iterable[str]) -> set[str]:
    """Of these keys, those that the command itself sets, be the value the usual one or not."""
    return {key for key in keys if any(each.lstrip("+").startswith(f"{key}=") for each in overrides)}


def none_left(args: list[str]) -> None:
    """Refuses what no verb has taken.

    Raises:
        LifelongCTError: an argument is left.
    """
    if args:
        raise LifelongCTError(f"{args[0]!r} is not understood", "the command line", "lifelong-ct --help")


def newest_checkpoint(text: str) -> Path:
    """A checkpoint folder: the one given, or the newest of the run folder given.

    Raises:
        LifelongCTError: neither.
    """
    folder = Path(text)
    if (folder / "manifest.json").exists():
        return folder
    kept = sorted((folder / "checkpoints").glob("after_*"))
    if not kept:
        raise LifelongCTError(
            "there is no checkpoint", str(folder), "give a run folder, or one of its checkpoints"
        )
    return kept[-1]
