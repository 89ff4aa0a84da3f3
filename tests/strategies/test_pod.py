"""Local POD by hand, and against the paper's two dimensions."""

import numpy as np
import pytest
import torch

from lifelong_ct.strategies.pod import distance, strips, windows


def test_two_voxels_by_hand() -> None:
    old = torch.tensor([1.0, 1.0]).view(1, 1, 1, 1, 2)
    new = torch.tensor([1.0, 3.0]).sqrt().view(1, 1, 1, 1, 2)
    # squares (1, 1) and (1, 3); along D and along H one mean of both voxels, along W the voxels themselves
    pooled = [strip.flatten().tolist() for strip in strips(new.square(), [(1, 1, 2)])]
    assert pooled == [pytest.approx([2.0]), pytest.approx([2.0]), pytest.approx([1.0, 3.0])]
    # (2-1)² + (2-1)² + (1-1)² + (3-1)² over 1 + 1 + 1 + 1
    assert distance(new, old, [(1, 1, 2)]).item() == pytest.approx(6 / 4)
    # a window of half the width: every strip holds the voxels themselves: 3 · (0 + 4) over 3 · 2
    assert distance(new, old, [(1, 1, 1)]).item() == pytest.approx(2.0)


def width_and_height_pooled(x: np.ndarray, scales: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The paper's slices of each of the s² windows of each scale of `[F, H, W]`."""
    found = []
    for s in scales:
        h, w = x.shape[1] // s, x.shape[2] // s
        for i in range(s):
            for j in range(s):
                part = x[:, i * h : (i + 1) * h, j * w : (j + 1) * w]
                found.append((part.mean(2), part.mean(1)))
    return found


def test_in_two_dimensions_the_strips_are_the_paper_s_slices() -> None:
    x = np.random.default_rng(0).normal(size=(3, 8, 16))
    scales = [1, 2, 4]
    sizes = windows((1, 8, 16), (1, 8, 16), (1, 8, 16), scales)
    assert sizes == [(1, 8, 16), (1, 4, 8), (1, 2, 4)]
    ours = list(strips(torch.from_numpy(x)[None, :, None], sizes))
    theirs = iter(width_and_height_pooled(x, scales))
    for scale, (_, along_h, along_w) in zip(scales, zip(ours[::3], ours[1::3], ours[2::3]), strict=True):
        h, w = 8 // scale, 16 // scale
        for i in range(scale):
            for j in range(scale):
                rows, columns = next(theirs)
                np.testing.assert_allclose(along_h[0, :, 0, i * h : (i + 1) * h, j], rows)
                np.testing.assert_allclose(along_w[0, :, 0, i, j * w : (j + 1) * w], columns)


def test_strips_of_a_volume_are_means_over_the_two_other_axes_of_each_window() -> None:
    x = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    d, h, w = strips(x, [(2, 3, 4)])
    assert d.shape == (2, 3, 4, 2, 2)
    assert h.shape == (2, 3, 2, 6, 2)
    assert w.shape == (2, 3, 2, 2, 8)
    torch.testing.assert_close(d[:, :, 3, 1, 0], x[:, :, 3, 3:6, 0:4].mean((2, 3)))
    torch.testing.assert_close(h[:, :, 1, 5, 1], x[:, :, 2:4, 5, 4:8].mean((2, 3)))
    torch.testing.assert_close(w[:, :, 0, 1, 7], x[:, :, 0:2, 3:6, 7].mean((2, 3)))


def test_each_sample_and_each_unit_weighs_the_same() -> None:
    old, new = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    sizes = [(4, 4, 4), (2, 2, 2)]
    one, two = (distance(new[i : i + 1], old[i : i + 1], sizes) for i in range(2))
    torch.testing.assert_close(distance(new, old, sizes), (one + two) / 2)
    torch.testing.assert_close(distance(7 * new, 7 * old, sizes), distance(new, old, sizes))
    assert distance(old, old, sizes).item() == 0
    nothing = distance(new, torch.zeros_like(old), sizes)
    assert torch.isfinite(nothing)


def test_a_crop_in_padding_is_as_far_apart_as_the_crop_alone() -> None:
    """4³ features amid 8³, whatever stands around them: with one window each strip of the crop is a quarter of what it is
    alone, in both models, and the rest is 0. A feature of two voxels per axis counts if one of them does."""
    torch.manual_seed(0)
    old, new = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    wide = [torch.randn(2, 3, 8, 8, 8) for _ in range(2)]
    for whole, crop in zip(wide, (new, old), strict=True):
        whole[:, :, 2:6, 2:6, 2:6] = crop
    seen = torch.zeros(2, 1, 16, 16, 16)
    seen[:, :, 5:11, 4:12, 4:12] = 1
    alone = distance(new, old, [(4, 4, 4)])
    torch.testing.assert_close(distance(*wide, [(8, 8, 8)], seen), alone)
    assert (distance(*wide, [(8, 8, 8)]) - alone).abs() > 1e-3
    assert torch.equal(distance(*wide, [(8, 8, 8)], torch.ones_like(seen)), distance(*wide, [(8, 8, 8)]))


def test_a_larger_image_has_more_windows_and_not_larger_ones() -> None:
    assert windows((6, 6, 6), (24, 24, 24), (24, 24, 24), (1, 2, 4)) == [(6,) * 3, (3,) * 3, (1,) * 3]
    assert windows((12, 6, 6), (24, 24, 24), (48, 24, 24), (1, 2, 4)) == [(6,) * 3, (3,) * 3, (1,) * 3]
    assert windows((1, 1, 1), (24, 24, 24), (24, 24, 24), (4,)) == [(1, 1, 1)]
    assert windows((2, 2, 2), (24, 24, 24), (12, 12, 12), (1,)) == [(2, 2, 2)], "no larger than the map"
