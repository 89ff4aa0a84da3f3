"""`spacing: auto` is fixed by the hospitals of the first experience, and by no other."""

import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.streams.domain_incremental import DomainIncremental
from lifelong_ct.training.options import Requires
from lifelong_ct.training.spacing import first_hospitals, run_spacing

PHANTOM = {"layout": "phantom", "train": 3, "test": 1, "shape": [16, 16, 16]}


def stream(spacing):
    hospitals = [
        {"name": name, "scanner": {"spacing": [mm, mm, 2 * mm]}}
        for name, mm in (("a", 4.0), ("b", 6.0), ("c", 8.0))
    ]
    return DomainIncremental(
        name="s",
        organs=["liver"],
        hospitals=hospitals,
        common=PHANTOM,
        patch=[8, 8, 8],
        steps=1,
        spacing=spacing,
    )


def test_what_is_stated_stays():
    assert run_spacing(stream(None), []) is None
    assert run_spacing(stream([1, 2, 3]), []) == (1.0, 2.0, 3.0)


def test_auto_looks_at_the_first_hospital_only(monkeypatch):
    made = stream("auto")
    for later in made.hospitals[1:]:
        monkeypatch.setattr(later.layout, "spacing", lambda case: pytest.fail("it has not arrived yet"))
    assert run_spacing(made, first_hospitals(made, Requires())) == (4.0, 4.0, 8.0)
    assert run_spacing(made, first_hospitals(made, Requires(past_data=True))) == (4.0, 4.0, 8.0)


def test_joint_training_looks_at_all():
    made = stream("auto")
    joint = Requires(past_data=True, reinitialise=True)
    assert run_spacing(made, first_hospitals(made, joint)) == (6.0, 6.0, 12.0)


@pytest.mark.parametrize("spacing", ["automatic", [1, 2], [1, 2, 0], [1, 2, "x"], [1, 2, float("nan")], 3.0])
def test_what_is_no_spacing_is_refused(spacing):
    with pytest.raises(LifelongCTError, match="is no spacing") as error:
        stream(spacing)
    assert "auto" in error.value.fix
