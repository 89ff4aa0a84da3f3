"""docs/measures.md names every measure, and its example gives what results.json says."""

import re
from pathlib import Path

import pytest
from whole_runs import only_run, results, run

from lifelong_ct.evaluation.costs import Costs
from lifelong_ct.evaluation.stability import Stability
from lifelong_ct.evaluation.transfer import Summary
from lifelong_ct.reporting.axes import AXES
from lifelong_ct.reporting.text import MEANINGS, MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")


def test_every_key_is_defined():
    named = set(re.findall(r"`([a-z_]+)`", PAGE))
    keys = {*Summary.__annotations__, *Stability.__annotations__, *Costs.__annotations__, *AXES}
    assert keys <= named
    assert set(MEASURES) == set(MEANINGS) == {*Summary.__annotations__, *Stability.__annotations__}


def test_the_example(tmp_path, monkeypatch):
    quiet = ("reporter=quiet", "reporter.html=false")
    assert run(tmp_path, "strategy=naive", *quiet) == 0
    folder = only_run(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(folder)
    found: dict[str, float] = {}
    exec(code, found)
    summary = results(folder)["summary"]
    for name in ("acc", "bwt", "forgetting", "generalisation"):
        assert found[name] == pytest.approx(summary[name]), name
