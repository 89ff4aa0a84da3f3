"""The layout: metadata without drawing, by name through `open_layout`."""

from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import drawing


def test_cases_are_metadata(monkeypatch):
    monkeypatch.setattr(drawing, "draw", None)
    cases = list(PhantomLayout("north", train=2, test=1, organs=["liver"]).cases())
    assert [case.id for case in cases] == [
        "phantom-north-train-000",
        "phantom-north-train-001",
        "phantom-north-test-000",
    ]
    assert {case.label_kind for case in cases} == {"synthetic"}
    assert {case.organs for case in cases} == {("liver",)}
    assert len({case.patient for case in cases}) == 3


def test_params_tell_apart_what_would_be_drawn_differently():
    one, other = (PhantomLayout("h", train=1, test=0, scanner={"noise": n}) for n in (10.0, 11.0))
    assert next(one.cases()).params != next(other.cases()).params


def test_it_opens_by_name():
    layout = open_layout({"name": "north", "layout": "phantom", "train": 1, "test": 0, "shape": [16, 16, 16]})
    raw = layout.load(next(layout.cases()))
    assert raw.image.shape == (16, 16, 16)
    assert raw.image.dtype == "int16"
    assert raw.label.dtype == "uint8"
    assert raw.spacing == (5.5, 5.5, 5.0)
