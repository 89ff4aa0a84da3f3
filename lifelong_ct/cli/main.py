"""The command: `lifelong-ct [VERB] [overrides]`. Imports nothing heavy before a verb needs it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from lifelong_ct import __version__
from lifelong_ct.cli.help import VERBS, text
from lifelong_ct.cli.telling import of_command_line
from lifelong_ct.core.errors import LifelongCTError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; the exit code: 0 done, 1 a bug of ours or a failed job, 2 something the user can mend."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(list(args))
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        shown = of_command_line(error, args)
        print(f"error: {shown}", file=sys.stderr)
        return shown.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _run(args: list[str]) -> int:
    if {"-h", "--help"} & set(args):
        print(text())
        return 0
    if "--version" in args:
        print(f"lifelong-ct {__version__}")
        return 0
    verb = _verb(args)
    return importlib.import_module(f"lifelong_ct.cli.{verb}").main(args)


def _verb(args: list[str]) -> str:
    """Takes the verb off the arguments; `train` where there is none."""
    if not args or "=" in args[0] or args[0].startswith(("-", "+", "~")):
        return "train"
    verb = args.pop(0)
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LifelongCTError(
            f"{verb!r} is no verb", "the first argument", f"{hint}there are {', '.join(VERBS)}"
        )
    return verb


if __name__ == "__main__":
    sys.exit(main())
