import pytest
import torch

from lifelong_ct.models.packing import magnitude_masks, pack, packed_bytes, unpack


def test_the_smallest_of_all_tensors_together_go_by_hand() -> None:
    tensors = {"a": torch.tensor([[0.1, -5.0], [0.3, 0.0]]), "b": torch.tensor([0.2, -0.25, 9.0])}
    masks = magnitude_masks(tensors, 0.6)  # four of seven: 0, 0.1, 0.2, 0.25
    assert masks["a"].tolist() == [[False, True], [True, False]]
    assert masks["b"].tolist() == [False, False, True]


def test_equal_magnitudes_go_in_their_order() -> None:
    masks = magnitude_masks({"a": torch.ones(2), "b": -torch.ones(2)}, 0.5)
    assert [mask.tolist() for mask in masks.values()] == [[False, False], [True, True]]


def test_places_are_bits_by_hand() -> None:
    stays = torch.tensor([True, False, True, True, False, False, False, False, True])
    kept, bits = pack(torch.arange(9.0), stays)
    assert kept.tolist() == [0.0, 2.0, 3.0, 8.0]
    assert bits.tolist() == [0b1101, 0b1]


@pytest.mark.parametrize("shape", [(1,), (3, 5), (4, 2, 3, 3, 3)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_packed_comes_back_to_the_bit_with_zeros(shape: tuple[int, ...], share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    value, stays = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) < share
    again = unpack(*pack(value, stays), shape)
    assert torch.equal(again, torch.where(stays, value, 0.0))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_bytes_are_as_declared(sparsity: float) -> None:
    tensors = {"a": torch.randn(7, 3), "b": torch.randn(9)}
    masks = magnitude_masks(tensors, sparsity)
    held = [part for name in tensors for part in pack(tensors[name], masks[name])]
    real = sum(part.numel() * part.element_size() for part in held)
    assert real == packed_bytes([21, 9], sparsity)
    assert packed_bytes([21, 9], 0.8) == 4 * 6 + 3 + 2
