"""What the run lends to its plugins where experiences are no hospitals."""

from typing import Any

from hospitals import Heard, options
from listed import ALL, entry, given

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.streams.blurry import Blurry
from lifelong_ct.streams.class_disjoint import ClassDisjoint
from lifelong_ct.training.run import Run


def lent(made: Any, tmp_path: Any) -> Any:
    """The context of a plugin."""
    (plugin,) = plugins = [StrategyPlugin()]
    Run(options(made, tmp_path, new_plugins=lambda: plugins), Heard()).demands()
    return plugin.context


def test_steps_have_names_and_may_keep_what_all_of_their_hospitals_allow(tmp_path):
    hospitals = [entry("a", train=[ALL] * 4), entry("b", train=[("liver",)], sharing="features")]
    classes = {"one": ["liver"], "two": ["aorta", "pancreas", "spleen"]}
    context = lent(ClassDisjoint(hospitals=hospitals, classes=classes, **given()), tmp_path)
    assert context.hospitals == ["one", "two"]
    assert context.sharing == {"a": "patches", "b": "features", "one": "features", "two": "patches"}


def test_a_guest_whose_hospital_forbids_makes_the_whole_experience_one_that_forbids(tmp_path):
    hospitals = [entry(name, train=[ALL] * 4, sharing=s) for name, s in (("a", "patches"), ("b", "forbid"))]
    context = lent(Blurry(hospitals=hospitals, share=0.25, **given()), tmp_path)
    assert context.hospitals == ["a", "b"]
    assert context.sharing == {"a": "forbid", "b": "forbid"}
