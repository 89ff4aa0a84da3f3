"""Merging on voxels that are counted by hand: logits are logs of probabilities."""

import math

import pytest
import torch

from lifelong_ct.models.merging import confidence, merge, merging_bytes


def voxels(*probabilities: list[float]) -> torch.Tensor:
    """One list per voxel → logits `[1,C,1,1,V]`."""
    return torch.tensor(probabilities).log().T.view(1, len(probabilities[0]), 1, 1, -1)


def sure(*p: float) -> float:
    return 1 + sum(x * math.log(x) for x in p) / math.log(len(p))


def answer(scores: torch.Tensor) -> list[int]:
    return scores.argmax(1).flatten().tolist()


def test_confidence_by_hand() -> None:
    found = confidence(voxels([0.5, 0.5], [0.9, 0.1]))
    assert found.flatten().tolist() == pytest.approx([0.0, sure(0.9, 0.1)], abs=1e-6)


def test_the_surer_decoder_decides_about_an_organ_that_both_know() -> None:
    """Voxel 1: the first says organ, the second is surer that it is not. Voxel 2: the other way round."""
    first = voxels([0.4, 0.6], [0.1, 0.9])
    second = voxels([0.95, 0.05], [0.7, 0.3])
    scores = merge([(first, (0, 1)), (second, (0, 1))], 2, {})
    assert answer(scores) == [0, 1]
    assert scores[0, 1].flatten().tolist() == pytest.approx([0.0, sure(0.1, 0.9)], abs=1e-6)
    assert scores[0, 0].flatten().tolist() == pytest.approx([sure(0.4, 0.6), 0.0], abs=1e-6)
    swapped = merge([(second, (0, 1)), (first, (0, 1))], 2, {})
    torch.testing.assert_close(swapped, scores)


def test_a_voxel_that_two_organs_have_goes_to_the_surer() -> None:
    """Decoders of organs 1 and 2; a decoder has no say about what it has not learnt."""
    first, second = voxels([0.2, 0.8], [0.9, 0.1]), voxels([0.1, 0.9], [0.3, 0.7])
    scores = merge([(first, (0, 1)), (second, (0, 2))], 3, {})
    assert answer(scores) == [2, 2]
    assert scores[0, 1].flatten().tolist() == pytest.approx([sure(0.2, 0.8), 0.0], abs=1e-6)


def test_a_lesion_goes_before_the_organ_that_it_lies_in() -> None:
    """The liver's decoder is surer; the lesion (2, in 1) keeps its voxel, but not where there is none."""
    liver, lesion = voxels([0.01, 0.99], [0.01, 0.99]), voxels([0.4, 0.6], [0.6, 0.4])
    assert answer(merge([(liver, (0, 1)), (lesion, (0, 2))], 3, {2: [1]})) == [2, 1]
    assert answer(merge([(liver, (0, 1)), (lesion, (0, 2))], 3, {})) == [1, 1]


def test_a_decoder_without_organs_has_no_say() -> None:
    known = voxels([0.3, 0.7], [0.8, 0.2])
    alone = merge([(known, (0, 1))], 2, {})
    both = merge([(voxels([1.0], [1.0]), (0,)), (known, (0, 1))], 2, {})
    assert torch.equal(alone, both)
    with pytest.raises(ValueError, match="no decoder"):
        merge([(voxels([1.0]), (0,))], 2, {})


def test_bytes_of_a_window_by_hand() -> None:
    """Two tensors of all channels and the logits of a decoder that knows them all."""
    assert merging_bytes(8, 3) == 3 * 8 * 3 * 4
