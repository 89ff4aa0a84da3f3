import pytest

from lifelong_ct.evaluation.costs import costs

EXPERIENCES = [
    {"after": 1, "steps": 10, "parameters": 100, "held": {"gpu": 8}, "patches": 20, "seen_again": 0},
    {
        "after": 2,
        "steps": 10,
        "parameters": 200,
        "held": {"gpu": 8, "ram": 16},
        "patches": 20,
        "seen_again": 10,
    },
    {"after": 3, "steps": 5, "parameters": 400, "held": {"ram": 20}, "patches": 10, "seen_again": 15},
]


def test_by_hand():
    assert costs(EXPERIENCES) == {
        "parameters": 400,
        "growth": 4.0,
        "size_efficiency": pytest.approx((1 + 1 / 2 + 1 / 4) / 3),
        "held_bytes": 24,
        "seen_again": pytest.approx(25 / 50),
        "steps": 25,
    }


def test_a_model_that_shrinks_is_not_more_than_efficient():
    assert costs([{"parameters": 200}, {"parameters": 100}])["size_efficiency"] == 1.0


def test_what_was_not_written_down_is_undefined():
    old = [{"after": 1, "hospital": "a", "steps": 5}]
    assert costs(old) == {**dict.fromkeys(costs(old)), "steps": 5}
    assert costs([])["steps"] is None
    assert costs([*EXPERIENCES, {"patches": 5, "seen_again": None}])["seen_again"] is None
