"""Geometry, against turns and ramps that are known in closed form, and against SciPy's resampling."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.seeding import generator
from lifelong_ct.data.labels import IGNORE, LabelSpace
from lifelong_ct.training.augmentation import Chain, Spatial

SHAPE = (9, 9, 9)
SPACE = LabelSpace(["liver"])


def scene(shape: tuple[int, ...] = SHAPE, samples: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(0, 200, (samples, 2, *shape))).float()
    return x, torch.from_numpy(rng.choice([0, 3, 160, 254], (samples, 1, *shape)).astype(np.uint8))


def given(*matrices: np.ndarray) -> dict[str, np.ndarray]:
    n = len(matrices)
    nothing = {"sigma": np.ones((n, 3)), "magnitude": np.zeros((n, 3)), "seed": np.arange(n)}
    return {"matrix": np.stack(matrices), **nothing}


@pytest.mark.parametrize(("axis", "plane"), [(0, (3, 4)), (1, (4, 2)), (2, (2, 3))])
def test_a_quarter_turn_about_an_axis_is_that_of_rot90(axis: int, plane: tuple[int, int]) -> None:
    degrees = [0.0, 0.0, 0.0]
    degrees[axis] = 90.0
    x, y = scene()
    step = Spatial()
    turned, codes = step(x, y, given(step.matrix(degrees, 1.0)))
    assert torch.allclose(turned, x.rot90(-1, plane), atol=0.02)
    assert torch.equal(codes, y.rot90(-1, plane))


def test_scaling_makes_a_ramp_steeper_by_its_factor() -> None:
    x = (10.0 * (torch.arange(9) - 4)).view(1, 1, 9, 1, 1).expand(1, 1, *SHAPE)
    out, codes = Spatial(fill=-500)(x, torch.ones(1, 1, *SHAPE, dtype=torch.uint8), given(1.25 * np.eye(3)))
    assert torch.allclose(out[0, 0, 1:8, 4, 4], 12.5 * (torch.arange(7.0) - 3), atol=1e-3)
    inside = (1.25 * (np.arange(9) - 4)).round().astype(int)
    seen = np.abs(inside) <= 4
    known = np.where(seen[:, None, None] & seen[:, None] & seen, 1, IGNORE)
    assert np.array_equal(codes[0, 0].numpy(), known)


@pytest.mark.parametrize("spacing", [None, (0.8, 0.9, 2.0), (0.8, 0.8, 5.0)])
def test_a_batch_is_resampled_as_scipy_does_sample_by_sample(spacing: tuple[float, ...] | None) -> None:
    shape, step = (7, 10, 8), Spatial(fill=-300)
    step.bind(SPACE, spacing)
    x, y = scene(shape, samples=2)
    matrices = [step.matrix([20, -13, 8], 1.2), step.matrix([-5, 28, 17], 0.8)]
    out, codes = step(x, y, given(*matrices))
    middle = (np.array(shape) - 1) / 2
    for i, matrix in enumerate(matrices):
        offset = middle - matrix @ middle
        for c in range(2):
            peer = ndimage.affine_transform(
                x[i, c].double().numpy(), matrix, offset, order=1, mode="grid-constant", cval=-300
            )
            assert np.allclose(out[i, c].numpy(), peer, atol=0.05)
        peer = ndimage.affine_transform(
            y[i, 0].numpy(), matrix, offset, order=0, mode="grid-constant", cval=IGNORE
        )
        assert np.array_equal(codes[i, 0].numpy(), peer)


def test_voxels_are_turned_in_mm() -> None:
    """A sphere, 1 × 1 × 2 mm voxels: turned by 40° it is the same sphere."""
    step = Spatial(fill=0)
    step.bind(SPACE, (1.0, 1.0, 2.0))
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (21, 21, 11)), indexing="ij"), -1)
    x = torch.from_numpy(100 - 10 * np.linalg.norm(grid * (1, 1, 2), axis=-1)).float()[None, None]
    inside = torch.from_numpy(np.linalg.norm(grid * (1, 1, 2), axis=-1) < 8)
    out, _ = step(x, torch.zeros(x.shape, dtype=torch.uint8), given(step.matrix([40, 0, 0], 1.0)))
    assert (out - x)[0, 0][
        inside
    ].abs().max() < 8  # linear interpolation of a cone; 80 HU lie between middle and edge
    step.bind(SPACE, None)
    out, _ = step(x, torch.zeros(x.shape, dtype=torch.uint8), given(step.matrix([40, 0, 0], 1.0)))
    assert (out - x)[0, 0][inside].abs().max() > 15


def test_thick_slices_stay_in_their_plane() -> None:
    step = Spatial()
    step.bind(SPACE, (0.8, 0.8, 5.0))
    cos, sin = 1.3 * np.cos(np.pi / 6), 1.3 * np.sin(np.pi / 6)
    assert np.allclose(step.matrix([20, 10, 30], 1.3), [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def test_the_matrix_is_that_of_nnunet() -> None:
    peer = pytest.importorskip("batchgeneratorsv2.transforms.spatial.spatial")
    degrees = np.array([12.0, -25.0, 7.0])
    wanted = peer.create_affine_matrix_3d(np.deg2rad(degrees), [1.3] * 3)
    assert np.allclose(Spatial().matrix(degrees, 1.3), wanted)


def test_constant_tissue_keeps_its_hu_and_labels_are_never_made_up() -> None:
    step = Spatial(p_rotation=1, p_scaling=1, p_elastic=1)
    y = scene(samples=8)[1]
    out, codes = Chain({"spatial": step})(torch.full((8, 1, *SHAPE), 40, dtype=torch.int16), y, 3)
    assert out.max() <= 40.001
    assert torch.allclose(out[codes != IGNORE].median(), torch.tensor(40.0))
    assert set(codes.unique().tolist()) <= {*y.unique().tolist(), IGNORE}
    assert codes.dtype == torch.uint8


def test_wide_codes_stay_whole() -> None:
    y = torch.full((1, 1, *SHAPE), 301, dtype=torch.uint16)
    codes = Spatial()(torch.zeros(1, 1, *SHAPE), y, given(2 * np.eye(3)))[1]
    assert codes.dtype == torch.uint16
    assert set(codes.long().unique().tolist()) == {301, IGNORE}


def test_elastic_displacements_are_as_large_as_drawn_and_on_average_none() -> None:
    """A ramp tells the displacement."""
    shape = (32, 28, 24)
    bent = {
        "matrix": np.eye(3)[None],
        "sigma": np.full((1, 3), 4.0),
        "magnitude": np.array([[1.5, 0.0, 0.5]]),
        "seed": np.array([5]),
    }
    ramp = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij"))[
        None
    ]
    y = torch.zeros(1, 1, *ramp.shape[2:], dtype=torch.uint8)
    moved = Spatial(p_elastic=1)(ramp, y, bent)[0] - ramp
    core = moved[..., 3:-3, 3:-3, 3:-3]
    assert core[0, 0].abs().max() <= 1.5 + 1e-3
    assert core[0, 1].abs().max() < 1e-3
    assert 0.2 < core[0, 2].abs().max() <= 0.5 + 1e-3
    assert core[0, 0].diff(dim=0).abs().max() < 0.6  # smooth: neighbours move alike


def test_parameters_are_drawn_as_nnunet_states() -> None:
    """Angles and factors are uniform, either of them for a fifth of the samples."""
    step, shape = Spatial(), (1, *SHAPE)
    drawn = [step.draw(generator("spatial", i), shape) for i in range(3000)]
    some = [d["matrix"] for d in drawn if d is not None]
    assert stats.binomtest(len(some), 3000, 1 - 0.8**2).pvalue > 1e-3
    factors = np.array([np.cbrt(np.linalg.det(m)) for m in some])
    scaled = factors[np.abs(factors - 1) > 1e-9]
    assert stats.binomtest(len(scaled), 3000, 0.2).pvalue > 1e-3
    assert stats.kstest(scaled, stats.uniform(0.7, 0.7).cdf).pvalue > 1e-3
    turned = [m for m, f in zip(some, factors) if np.abs(m - f * np.eye(3)).max() > 1e-9]
    assert stats.binomtest(len(turned), 3000, 0.2).pvalue > 1e-3
    last = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in turned]
    assert stats.kstest(last, stats.uniform(-30, 60).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotation": [10, 10]},
        {"rotation": 200},
        {"scaling": [1.4, 0.7]},
        {"p_elastic": 2},
        {"scaling": [0, 1]},
    ],
)
def test_senseless_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(LifelongCTError) as error:
        Spatial(**wrong)
    assert error.value.where == "trainer.augment"
