"""Pages that are made are up to date, and the guide builds."""

import runpy
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_list_of_strategies_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "list_strategies.py"))["page"]()
    assert (DOCS / "strategies.md").read_text() == made, "run: python docs/list_strategies.py"


def test_the_guide_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is reached from the contents, and every link leads somewhere."""
    sphinx = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
    ]
    done = subprocess.run([*sphinx, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "html" / "guide" / "limits.html").is_file()
