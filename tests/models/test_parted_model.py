"""Models with parts: who answers, and what a checkpoint of one needs."""

from functools import partial
from typing import Any

import pytest
import torch
from tiny import model

from lifelong_ct.evaluation.inference import predict_labels
from lifelong_ct.models.adapters import AdaptedModel
from lifelong_ct.models.parts import LOW, Learnt, PartedModel
from lifelong_ct.models.restoring import fitted, structure
from lifelong_ct.models.routing import Router
from lifelong_ct.models.swapped import SwappedModel
from lifelong_ct.training import checkpoint

X = torch.randint(-300, 300, (2, 1, 6, 6, 6), dtype=torch.int16)


class Told(PartedModel):
    """Parts that answer with given logits, whatever they see."""

    def __init__(self, *answers: list[list[float]]) -> None:
        super().__init__()
        self.answers = [torch.tensor(a).T.view(1, len(a[0]), 1, 1, -1) for a in answers]
        self.asked: list[int] = []

    def answer(self, part: int, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(part)
        return self.answers[part]


def told() -> Told:
    """Two voxels. The first part knows channels 1 and 2, the second 2 and 3."""
    made = Told([[0.0, 2.0, 1.0], [3.0, 0.0, 0.5]], [[5.0, 8.0, 4.0], [-1.0, 0.0, 7.0]])
    made.learnt = [Learnt("a", (0, 1, 2)), Learnt("b", (0, 2, 3))]
    made.width = 4
    return made


def test_in_training_the_newest_part_answers_and_the_rest_is_no_organ() -> None:
    made = told()
    logits = made.train()(X)
    assert logits[0, :, 0, 0].T.tolist() == [[5.0, LOW, 8.0, 4.0], [-1.0, LOW, 0.0, 7.0]]
    assert made.asked == [1]


def test_organs_are_asked_of_the_first_part_that_knows_them_over_its_background() -> None:
    made = told().eval()
    with made.using((0, 1)):
        assert made.owners((0, 1)) == {0: [1, 2], 1: [3]}
        logits = made(X)
    assert logits[0, :, 0, 0].T.tolist() == [[0.0, 2.0, 1.0, -1.0], [0.0, -3.0, -2.5, 8.0]]
    with made.using((1, 0)):
        logits = made(X)
    assert logits[0, :, 0, 0].T.tolist() == [[0.0, 2.0, 3.0, -1.0], [0.0, -3.0, 1.0, 8.0]]


def test_one_part_that_knows_everything_is_asked_alone_and_answers_as_it_does() -> None:
    made = told().eval()
    made.learnt[1], made.width = Learnt("b", (0, 1, 2)), 3
    with made.using((1, 0)):
        assert torch.equal(made(X), made.answers[1])
    assert made.asked == [1]


def routed() -> SwappedModel:
    """Hospitals of dark and of bright scans, of which the second knows another organ."""
    made = SwappedModel(model())
    for i, name in enumerate(("dark", "bright")):
        made.grow(2 + i)
        made.begin(Learnt(name, (0, 1 + i)), partial(model, seed=i))
        made.freeze()
        made.watch(torch.randn(1, 1, 8, 8, 8) * 20 + 100 * i for _ in range(4))
    return made.eval()


@pytest.mark.parametrize("make", [SwappedModel, lambda network: AdaptedModel(network, 2, 2.0)])
def test_what_a_part_will_need_is_known_before_it_is_made(make: Any) -> None:
    made = make(model())
    for width in (2, 3, 2):
        state = torch.get_rng_state()
        coming = made.coming_bytes(width)
        assert torch.equal(torch.get_rng_state(), state), "the draws go on as without it"
        made.begin(Learnt("a", tuple(range(width))), partial(model, seed=1))
        assert made.grown_bytes() == coming
        made.freeze()
    assert coming > 0


@pytest.mark.parametrize(("hu", "first"), [(-10, 0), (110, 1)])
def test_a_case_goes_to_the_hospital_that_it_resembles_unless_it_is_told(hu: int, first: int) -> None:
    made = routed()
    image = (torch.randn(1, 10, 9, 8) * 20 + hu).short()
    assert made.route(image) == (first, 1 - first)
    assert made.route(image, "dark") == (0, 1)
    assert made.route(image, "bright") == (1, 0)
    assert made.route(image, "another") == made.route(image)


def test_a_case_is_routed_once_not_per_window(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = routed(), []
    image = torch.zeros(1, 16, 16, 16, dtype=torch.int16)
    monkeypatch.setattr(Router, "distances", lambda self, rows: seen.append(len(rows)) or [0.0, 1.0])
    found = predict_labels(made, image, (8, 8, 8), overlap=0.0)
    assert len(seen) == 1
    assert made.ranking is None
    assert found.shape == (16, 16, 16)


def test_a_checkpoint_makes_the_same_model_of_a_plain_network(tmp_path: Any) -> None:
    made = routed()
    saved = {"structure": structure(made), "weights": dict(made.state_dict())}
    checkpoint.save(tmp_path / "c", saved)
    loaded = checkpoint.load(tmp_path / "c")
    for start in (model(seed=9), SwappedModel(model(seed=9))):
        again = fitted(start, loaded["structure"], loaded["weights"])
        again.load_state_dict(loaded["weights"])
        assert structure(again.eval()) == structure(made)
        assert torch.equal(again(X), made(X))
        image = torch.full((1, 8, 8, 8), 100, dtype=torch.int16)
        assert again.route(image) == made.route(image)
    plain = fitted(model(), None, {"head.bias": torch.zeros(5)})
    assert plain.head.width == 5
