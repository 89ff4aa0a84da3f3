"""What the command says of an error: one message of three parts, without private names where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from lifelong_ct.core.errors import LifelongCTError, Refused
from lifelong_ct.core.identity import Redactor

PATH_ARGUMENTS = ("from", "in", "out", "old", "new", "accept", "verify.json")
"""Arguments of verbs that name files."""
PATH_FLAGS = ("--config-dir", "--accept", "--out")
REAL_NAMES = "; `lifelong-ct verify` shows real names"
_WHERE = "where: "


def told(
    error: Exception, redact: Callable[[str], str], where: str, hint: str = REAL_NAMES
) -> LifelongCTError:
    """What a log may show of an error: terminals of batch jobs are log files.

    Args:
        error: any.
        redact: removes what is private from a text.
        where: of an error that does not say so itself.
        hint: ends the fix where something was removed.
    """
    if isinstance(error, LifelongCTError):
        parts = redact(error.what), place_of(error.where, redact), redact(error.fix)
        removed = parts != (error.what, error.where, error.fix)
        kind = Refused if isinstance(error, Refused) else LifelongCTError
        shown = kind(*parts[:2], parts[2] + (hint if removed else ""))
        shown.exit_code = error.exit_code
        return shown
    bug = LifelongCTError(
        redact(f"{type(error).__name__}: {error}"),
        where,
        "this is unexpected: HYDRA_FULL_ERROR=1 shows where it happened (and private paths)",
    )
    bug.exit_code = 1
    return bug


def place_of(text: str, redact: Callable[[str], str]) -> str:
    """A `where`, redacted: a path in it ends with its line."""
    return redact(_WHERE + text).removeprefix(_WHERE)


def cause(error: Exception) -> Exception | None:
    """The error where its traceback is wanted."""
    return error if os.environ.get("HYDRA_FULL_ERROR") == "1" else None


def of_command_line(error: Exception, args: Sequence[str]) -> LifelongCTError:
    """An error of any verb: on an interactive terminal as it is, elsewhere without the paths of its arguments."""
    watched = isinstance(error, LifelongCTError) and sys.stderr.isatty()
    return error if watched else told(error, _paths_of(args), "the command line", hint="")  # type: ignore[return-value]


def _paths_of(args: Sequence[str]) -> Redactor:
    redact = Redactor()
    before = ""
    for arg in args:
        key, equals, value = arg.partition("=")
        if before in PATH_FLAGS:
            redact.hide_root(arg, before.lstrip("-"))
        elif equals and (_names_a_path(key) or value.strip("'\"").startswith(("/", ".", "~"))):
            for path in (value, *value.split(",")):  # of a sweep
                redact.hide_root(path, key)
                redact.hide_root(path.strip("'\""), key)
        elif not equals and "/" in arg:
            redact.hide_root(arg, "argument")
        before = arg
    return redact


def _names_a_path(key: str) -> bool:
    return key.lstrip("-") in PATH_ARGUMENTS or key.lstrip("+~").startswith("paths.")
