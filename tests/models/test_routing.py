import math

import numpy as np
import pytest
import torch

from lifelong_ct.models.routing import Router, described, tiles


def test_statistics_of_two_voxels_by_hand() -> None:
    """Channel one holds 1 and 3: mean 2, variance 1; channel two 5 and 5."""
    features = torch.tensor([[1.0, 3.0], [5.0, 5.0]]).view(1, 2, 1, 1, 2)
    found = described(features)
    expected = [[2.0, 5.0, 0.5 * math.log(1 + 1e-6), 0.5 * math.log(1e-6)]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_mahalanobis_distance_by_numpy() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(30, 3)) @ np.diag([1, 5, 0.2]) + shift for shift in (0.0, 1.0)]
    router = Router(3)
    for rows in groups:
        router.learn(torch.from_numpy(rows))
    covariance = sum(np.cov(rows.T, bias=True) for rows in groups) / 2
    covariance += 1e-3 * np.trace(covariance) / 3 * np.eye(3)
    case = rng.normal(size=(4, 3))
    away = [case.mean(0) - rows.mean(0) for rows in groups]
    expected = [d @ np.linalg.inv(covariance) @ d for d in away]
    assert router.distances(torch.from_numpy(case)) == pytest.approx(expected)


def test_a_difference_in_a_quiet_direction_counts_more() -> None:
    """Hospitals differ by 1 in a feature that hardly varies; the case is off by 3 in one that varies by 100."""
    noise = torch.tensor([[-100.0, 0.0], [100.0, 0.0], [0.0, -0.1], [0.0, 0.1]])
    router = Router(2)
    router.learn(noise)
    router.learn(noise + torch.tensor([-3.0, 1.0]))
    first, second = router.distances(torch.tensor([[0.0, 1.0]]))
    assert second < first


def test_bytes_are_as_declared() -> None:
    for hospitals in (2, 5):
        router = Router(6)
        for i in range(hospitals):
            router.learn(torch.randn(7, 6) + i)
        assert sum(8 * t.numel() for t in router.buffers()) == 8 * (hospitals * 6 + 36)
        assert all(t.dtype == torch.float64 for t in router.buffers())


@pytest.mark.parametrize("shape", [(64, 64, 64), (1, 33, 50), (80, 31, 16)])
def test_tiles_cover_a_volume_once(shape: tuple[int, ...]) -> None:
    seen = np.zeros(shape, int)
    for box in tiles(shape):
        seen[box] += 1
        assert all(s.stop - s.start <= 48 for s in box)
    assert (seen == 1).all()
