"""Log-likelihoods of partially annotated patches by hand, and draws against their distribution."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from toy import softmax_model, three_classes

from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.strategies import sensitivity
from lifelong_ct.strategies.sensitivity import draw, log_likelihood, sampled_score

P = [0.5, 0.3, 0.2]
"""Probability of background, liver and spleen at every voxel below."""


def logits(voxels: int) -> torch.Tensor:
    return torch.tensor(P).log().view(1, 3, 1, 1, 1).repeat(1, 1, 1, 1, voxels).requires_grad_()


def codes(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def liver_only() -> tuple[LabelSpace, list[int]]:
    """A space that knows liver and spleen, and a case's codes of unlabelled and liver where only that is annotated."""
    space = three_classes()
    return space, space.encode_lut(["liver"]).tolist()


def test_log_likelihood_is_the_mean_over_annotated_voxels() -> None:
    space, (unlabelled, liver) = liver_only()
    y = codes(unlabelled, liver, IGNORE, liver)  # unlabelled: background or spleen
    expected = (math.log(P[0] + P[2]) + 2 * math.log(P[1])) / 3
    assert log_likelihood(logits(4), y, space).tolist() == pytest.approx([expected])


def test_without_an_annotated_voxel_it_is_0_with_a_gradient() -> None:
    given = logits(2)
    value = log_likelihood(given, codes(IGNORE, IGNORE), three_classes())
    value.sum().backward()
    assert value.tolist() == [0.0]
    assert given.grad is not None
    assert not given.grad.any()


def test_an_unlabelled_voxel_of_a_case_that_annotates_nothing_known_is_not_annotated() -> None:
    space = LabelSpace(["liver", "spleen"])
    space.see(["liver"])
    nothing = int(space.encode_lut([])[0])
    two = logits(2)[:, :2]
    assert log_likelihood(two, codes(nothing, 1), space).item() == pytest.approx(
        math.log(P[1] / (P[0] + P[1]))
    )


def test_expectation_of_the_squared_score_over_all_labels_is_the_mean_information_of_a_voxel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every outcome of two annotated voxels (a third is padding), weighted by its probability."""
    model, x = softmax_model().eval(), torch.tensor([2.0, -1.0, 3.0]).view(1, 1, 1, 1, 3)
    with torch.no_grad():
        p = model(x)[0, :, 0, 0].softmax(0).double()  # [C,V]
    mean = torch.zeros(3, dtype=torch.double)
    for first, second in itertools.product(range(3), repeat=2):
        monkeypatch.setattr(sensitivity, "draw", lambda p, rng, a=first, b=second: torch.tensor([[a, b, 0]]))
        model.zero_grad()
        sampled_score(model(x), codes(0, 0, IGNORE), three_classes(), generator(0)).sum().backward()
        assert model.weight.grad is not None
        mean += p[first, 0] * p[second, 1] * model.weight.grad[:, 0].double().square()
    v = torch.tensor([2.0, -1.0]).double()
    torch.testing.assert_close(mean, (p * (1 - p))[:, :2].mul(v.square()).mean(1), rtol=1e-5, atol=0)


def test_draws_have_the_distribution_of_the_softmax() -> None:
    p = torch.tensor(P).view(1, 3, 1).repeat(1, 1, 10_000)
    counts = np.bincount(draw(p, generator("draws")).flatten().numpy(), minlength=3)
    assert chisquare(counts, np.array(P) * 10_000).pvalue > 1e-3


def test_a_draw_never_leaves_the_channels() -> None:
    """Rounding may leave the last sum below 1."""

    class Highest:
        def random(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.full(shape, np.nextafter(np.float32(1), np.float32(0)), dtype)

    p = torch.full((1, 3, 2), 0.3333)
    assert draw(p, Highest()).tolist() == [[2, 2]]  # type: ignore[arg-type]
