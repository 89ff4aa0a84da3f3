"""Pages that are made are up to date."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_list_of_strategies_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "list_strategies.py"))["page"]()
    assert (DOCS / "strategies.md").read_text() == made, "run: python docs/list_strategies.py"
