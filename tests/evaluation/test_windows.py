"""Windows as MONAI lays them, cells that cover the volume once, and what is held at a time by counting voxels."""

import itertools

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from lifelong_ct.evaluation.blending import Blend
from lifelong_ct.evaluation.windows import Windows, most_held

CASES = [
    ((20, 13, 9), (8, 8, 8), 0.25),
    ((9, 20, 13), (8, 8, 8), 0.5),
    ((13, 9, 20), (8, 6, 5), 0.7),
    ((5, 8, 3), (8, 8, 8), 0.25),
    ((5, 30, 3), (8, 8, 8), 0.25),
    ((17, 17, 17), (8, 8, 8), 0.0),
    ((14, 6, 11), (6, 6, 6), 0.9),
    ((17, 40, 16), (16, 16, 16), 0.25),
]


def monai_corners(shape: tuple, roi: tuple, overlap: float) -> set:
    """Where MONAI looks: it hands out coordinates as voxel values."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)
    found = set()

    def look(x: torch.Tensor) -> torch.Tensor:
        seen = x[0].flatten(1)
        found.add(tuple(int(axis[axis > -1].min()) for axis in seen))
        return x[:, :1].clone()  # MONAI weights it in place

    sliding_window_inference(torch.from_numpy(grid)[None], roi, 1, look, overlap, mode="gaussian", cval=-1)
    return found


@pytest.mark.parametrize(("shape", "roi", "overlap"), CASES)
def test_windows_lie_where_monai_lays_them(shape: tuple, roi: tuple, overlap: float) -> None:
    windows = Windows.over(shape, roi, overlap)
    assert len(set(windows.order)) == len(windows.order)
    assert {tuple(max(at, 0) for at in corner) for corner in windows.order} == monai_corners(
        shape, roi, overlap
    )


@pytest.mark.parametrize(("shape", "roi", "overlap"), CASES)
def test_cells_cover_every_voxel_once_and_know_who_reaches_them(
    shape: tuple, roi: tuple, overlap: float
) -> None:
    windows = Windows.over(shape, roi, overlap)
    cover = np.zeros(shape, int)
    for cell in windows.visits:
        cover[windows.box(cell)] += 1
        assert cover[windows.box(cell)].size == windows.voxels(cell)
    assert (cover == 1).all()
    reached = dict.fromkeys(windows.visits, 0)
    most = np.zeros(shape, int)
    for corner in windows.order:
        seen = np.zeros(shape, bool)
        seen[windows.seen(corner)] = True
        most += seen
        cells = [cell for cell in windows.visits if seen[windows.box(cell)].any()]
        assert sorted(cell for cell, _, _ in windows.shares(corner)) == sorted(cells)
        for cell in cells:
            reached[cell] += 1
    assert reached == windows.visits
    assert most.min() >= 1
    assert most.max() == windows.most_over_a_voxel


@pytest.mark.parametrize(("shape", "roi", "overlap"), CASES)
def test_what_is_held_is_what_was_announced(shape: tuple, roi: tuple, overlap: float) -> None:
    windows, told = Windows.over(shape, roi, overlap), []
    blend = Blend(windows, lambda box, sums, weights: told.append((box, sums)))
    reached_cells: set = set()
    for corner in windows.order:
        blend.add(corner, torch.ones(2, *roi))
        reached_cells.update(cell for cell, _, _ in windows.shares(corner))
        reached = sum(map(windows.voxels, reached_cells))
        assert blend.held == reached - sum(sums[0].numel() for _, sums in told)
    assert blend.held == 0
    assert len(told) == len(windows.visits)
    announced = most_held(shape, roi, overlap)
    assert blend.most_held <= announced <= np.prod(shape)
    if len(windows.starts[windows.axes[2]]) > 1:  # else a cell may go before the next one of its window comes
        assert blend.most_held == announced


def test_few_slabs_of_a_long_volume_are_held() -> None:
    """Windows of 8 every 6: two planes wait, and of the next eight those that the second axis has not passed."""
    held = most_held((128, 40, 12), (8, 8, 8), 0.25)
    # the planes that wait, over the whole second axis; behind it the six others of a window's planes, eight rows wide
    assert held == (2 * 40 + 6 * 8) * 12


def test_a_short_last_step_is_visited_with_the_step_before() -> None:
    windows = Windows.over((33, 32, 8), (8, 8, 8), 0.0)
    assert windows.starts[0] == (0, 8, 16, 24, 25)
    firsts = [corner[0] for corner in windows.order]
    assert [k for k, _ in itertools.groupby(firsts)][:3] == [0, 8, 16]
    assert firsts[-8:] == [24, 25] * 4
    # One after the other, all but one plane of the windows at 24 would wait: (8 - 1) * 32 * 8. So the window at 24 is
    # followed by that at 25, which has a plane more, when the other's own is gone.
    assert most_held((33, 32, 8), (8, 8, 8), 0.0) == 8 * 8 * 8


def test_at_large_overlaps_cells_are_not_cut_thin() -> None:
    windows = Windows.over((400, 96, 96), (96, 96, 96), 0.95)
    assert windows.starts[0][:3] == (0, 4, 8)
    widths = [high - low for low, high in windows.pieces[0]]
    assert min(widths[:-1]) >= 12
    assert max(widths) < 24
