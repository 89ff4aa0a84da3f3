"""Whole runs, small: two drawn hospitals, three steps each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from lifelong_ct.cli.main import main

TINY = ("debug=tiny", "stream=phantom_stress", "memory.exemplars=256KiB")


def places(folder: Path) -> list[str]:
    """The key of the pseudonyms is shared by the folders of a session."""
    return [f"paths.state={folder.parent / 'state'}", *(f"paths.{n}={folder / n}" for n in ("runs", "store"))]


def run(folder: Path, *args: str) -> int:
    """In this process; the exit code."""
    return main([*TINY, *places(folder), *args])


def run_fresh(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """In a new process, as a user would."""
    code = "import sys; from lifelong_ct.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *TINY, *places(folder), *args],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        cwd=folder,
    )


def only_run(folder: Path, pattern: str = "*") -> Path:
    (found,) = [path.parent for path in (folder / "runs").glob(f"{pattern}/results.json")]
    return found


def results(run_folder: Path) -> dict[str, Any]:
    return json.loads((run_folder / "results.json").read_text())


def weights(run_folder: Path) -> dict[str, bytes]:
    """Every tensor of the newest checkpoint, to the bit."""
    newest = max((run_folder / "checkpoints").glob("after_*"))
    return {
        f"{file.name}:{name}": value.tobytes()
        for file in sorted(newest.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }
