"""Order, cycling, limits and errors of a stream, with a layout of this file."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.types import RawCase
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.domain_incremental import DomainIncremental

HERE = f"{__name__}:ListedLayout"


class ListedLayout:
    """Cases named by the configuration: split and organs of each."""

    def __init__(
        self, hospital: str, cases: list[tuple[str, list[str]]], note: str = "", modality: str = "CT"
    ) -> None:
        self.hospital, self.listed, self.note, self.modality = hospital, cases, note, modality

    def cases(self) -> Iterator[Case]:
        for i, (split, organs) in enumerate(self.listed):
            yield Case(
                self.hospital, f"c{i}", f"p{i}", split, tuple(organs), modality=self.modality,
                label_kind="synthetic",
            )  # fmt: skip

    def load(self, case: Case) -> RawCase:
        return RawCase(np.zeros((2, 2, 2), np.int16), None, np.eye(4), case.organs)


def entry(name, *cases, **more):
    return {
        "name": name,
        "layout": HERE,
        "cases": list(cases) or [("train", ["liver"]), ("test", ["liver"])],
        **more,
    }


def stream(*hospitals, **more):
    options = {"name": "s", "organs": ["liver", "spleen"], "patch": [4, 4, 4], "steps": 1, **more}
    return DomainIncremental(hospitals=list(hospitals), **options)


def names(hospitals):
    return [hospital.name for hospital in hospitals]


def test_hospitals_come_in_their_order_and_unseen_ones_are_scored_last():
    made = stream(entry("a"), entry("b", ("train", ["spleen"])), unseen=[entry("u", ("test", ["liver"]))])
    assert names(made.hospitals) == ["a", "b"]
    assert names(made.scored) == ["a", "u"]  # b has no test case, so no column
    assert made.label_kinds == ["synthetic"]


def test_a_mapping_of_hospitals_is_named_by_its_keys_and_defaults_fill_in():
    nameless = {key: value for key, value in entry("x").items() if key != "name"}
    made = DomainIncremental(
        name="s",
        organs=["liver"],
        patch=[4, 4, 4],
        steps=1,
        hospitals={"x": nameless},
        common={"note": "common"},
    )
    assert names(made.hospitals) == ["x"]
    assert made.hospitals[0].layout.note == "common"


def test_order_and_first():
    assert names(stream(entry("a"), entry("b"), order=["b", "a"]).hospitals) == ["b", "a"]
    assert names(stream(entry("a"), entry("b"), first=5).hospitals) == ["a", "b", "a_2", "b_2", "a_3"]


def test_a_number_is_the_key_of_an_order_of_places_not_of_names():
    """Other names in the same places come in the same order; all orders of three come up."""
    orders = [names(stream(*map(entry, "abc"), order=key).hospitals) for key in range(40)]
    renamed = [names(stream(*map(entry, "zyx"), order=key).hospitals) for key in range(40)]
    turn = {"a": "z", "b": "y", "c": "x"}
    assert [[turn[name] for name in order] for order in orders] == renamed
    assert len(set(map(tuple, orders))) == 6
    assert names(stream(*map(entry, "abc"), order=3).hospitals) == orders[3]
    for wrong in (True, 1.5, "a"):
        with pytest.raises(LifelongCTError, match="order="):
            stream(entry("a"), order=wrong)


def test_each_hospital_is_an_experience_that_is_scored_on_all_its_organs():
    made = stream(entry("a"), entry("b"))
    assert [(e.name, e.hospitals, e.task) for e in made.experiences] == [
        (h.name, (h,), Task((h.name,))) for h in made.hospitals
    ]
    assert made.boundaries
    with pytest.raises(LifelongCTError, match="boundaries="):
        stream(entry("a"), boundaries="no")


def test_limit_counts_per_split():
    cases = [("train", ["liver"])] * 3 + [("test", ["liver"])] * 3
    made = stream(entry("a", *cases), limit=2).hospitals[0]
    assert (len(made.train), len(made.test)) == (2, 2)


def test_only_organs_of_the_stream_are_kept():
    made = stream(entry("a", ("train", ["liver", "pancreas"]), ("train", ["pancreas"]))).hospitals[0]
    assert [case.organs for case in made.train] == [("liver",)]


def test_the_benchmark_has_one_experience_per_dataset():
    made = stream(entry("a"), entry("b"))
    data = [TensorDataset(torch.zeros(n, 1, 2, 2, 2), torch.zeros(n, 1, 2, 2, 2)) for n in (1, 3)]
    experiences = list(made.benchmark(data).train_stream)
    assert [len(e.dataset) for e in experiences] == [1, 3]
    assert [e.current_experience for e in experiences] == [0, 1]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: stream(), "without hospitals"),
        (lambda: stream(entry("a"), entry("a")), "named twice"),
        (lambda: stream(entry("a"), order=["z"]), "'z'"),
        (lambda: stream(entry("a"), first=0), "0 hospitals"),
        (lambda: stream(entry("a"), first="two"), "two"),
        *((lambda limit=limit: stream(entry("a"), limit=limit), "limit=") for limit in (0, -1, "x", 1.5)),
        *(
            (lambda s=s: stream(entry("a"), spacing=s), "no spacing")
            for s in ([1, 2], [0, 1, 1], [-1, 1, 1], ["x"] * 3)
        ),
        (lambda: stream({**entry("a")}, unseen=5), "no group of keys"),
        (lambda: stream(entry("a"), patch=[4.5, 4, 4]), "not a patch"),
        (lambda: stream(entry("a"), patch=[4, 4]), "not a patch"),
        (lambda: stream(entry("a", sharing="all")), "sharing 'all'"),
        (lambda: stream({"layout": HERE, "cases": []}), "without a name"),
        (lambda: stream(entry("a", ("train", ["pancreas"]))), "no training case"),
        (lambda: stream(entry("a", ("test", ["liver"]))), "no training case"),
    ],
)
def test_mistakes(make, word):
    with pytest.raises(LifelongCTError, match=word):
        make()


def test_a_case_with_another_number_of_channels_is_named():
    made = stream(entry("a"), channels=1)
    assert (made.channels, made.modality) == (1, "CT")
    with pytest.raises(LifelongCTError, match="the case has 1 channels, the stream 2") as caught:
        stream(entry("a"), channels=2)
    assert caught.value.where == "hospital a, case c0"
    assert "stream.channels: 1" in caught.value.fix
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises(LifelongCTError, match="channels="):
            stream(entry("a"), channels=wrong)


def test_an_unknown_modality_is_found_before_anything_is_read():
    with pytest.raises(LifelongCTError, match="'XA' is unknown") as caught:
        stream(entry("a", modality="XA"))
    assert "CT, MR, US" in caught.value.fix
    made = stream(entry("a"), unseen=[entry("u", ("test", ["liver"]), modality="MR")])
    assert made.modality is None
