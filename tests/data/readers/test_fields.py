"""Points, occupancy grids and signed distances against closed forms, and those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.annotations import read_label
from lifelong_ct.data.images import read_image
from lifelong_ct.data.readers import grid, read_ids, read_volume
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame

TURN = trimesh.transformations.rotation_matrix(0.5, [3, 1, 2])
OWN = TURN @ np.diag([2.0, 2.5, 3.0, 1])
OWN[:3, 3] = -60, -20, -70
SHAPE = (44, 36, 30)
FRAME = Frame(OWN, SHAPE)
MIDDLE = (OWN @ [21, 17, 15, 1])[:3]
RADIUS = 30.0
IMAGE = Frame(np.diag([1.6, 1.6, 2.2, 1]), (64, 64, 48))
IMAGE.affine[:3, 3] = MIDDLE - np.array([51.2, 51.2, 52.8])


def mm(frame: Frame) -> np.ndarray:
    """`[D, H, W, 3]`, mm of every voxel centre."""
    index = np.moveaxis(np.indices(frame.shape), 0, -1)
    return index @ frame.affine[:3, :3].T + frame.affine[:3, 3]


def distance(frame: Frame, radius=RADIUS, middle=MIDDLE) -> np.ndarray:
    """To a ball, in closed form."""
    return np.linalg.norm(mm(frame) - middle, axis=-1) - radius


def ml(voxels, frame: Frame) -> float:
    return float(voxels.sum() * abs(np.linalg.det(frame.affine[:3, :3])) / 1000)


def saved(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def sdf(tmp_path: Path, values=None, affine=OWN, name="a.npz") -> Path:
    return saved(
        tmp_path / name, sdf=distance(FRAME).astype(np.float32) if values is None else values, affine=affine
    )


def refused(path, like=IMAGE, read=read_ids, **shapes) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, like, Shapes(**shapes))
    assert path.name in caught.value.where
    assert caught.value.fix
    return caught.value


# --- signed distances ---------------------------------------------------------------------------------------


def test_a_ball_as_a_distance_becomes_its_label_on_another_oblique_grid(tmp_path):
    volume = read_ids(sdf(tmp_path), IMAGE)
    truth = distance(IMAGE)
    assert volume.voxels.dtype == np.uint8
    # linear between centres: off by at most the curvature term, diagonal² / 8r, twice for safety
    unsure = np.abs(truth) < 2 * (2.0**2 + 2.5**2 + 3.0**2) / (8 * RADIUS)
    np.testing.assert_array_equal(volume.voxels[~unsure], truth[~unsure] < 0)
    assert ml(volume.voxels, IMAGE) == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.01)
    np.testing.assert_allclose(mm(IMAGE)[volume.voxels > 0].mean(0), MIDDLE, atol=0.1)
    np.testing.assert_array_equal(read_label(sdf(tmp_path), IMAGE).voxels, volume.voxels)


def test_a_distance_as_an_image_stays_a_distance(tmp_path):
    own = read_volume(sdf(tmp_path), None)
    shape, affine = grid(sdf(tmp_path))
    assert (shape, own.original_shape) == (SHAPE, SHAPE)
    np.testing.assert_allclose(affine, OWN, atol=1e-9)
    there = Frame(own.affine, own.shape)
    np.testing.assert_allclose(own.voxels, distance(there), atol=1e-4)  # turned to RAS+, still in its place
    raw = read_image(sdf(tmp_path), "SDF")
    slope, offset = raw.scales[0]
    np.testing.assert_allclose(raw.image * slope + offset, distance(there), atol=0.051)
    assert refused(sdf(tmp_path), read=lambda p, like, s: read_image(p, "CT", s)).code == "implausible-hu"


def test_a_turned_sign_is_found(tmp_path):
    error = refused(sdf(tmp_path, -distance(FRAME)))
    assert (error.code, "100%" in error.what, "negate" in error.fix) == ("wrong-sign", True, True)


def test_units_of_a_distance_are_measured_at_its_surface(tmp_path):
    for factor in (1e-3, 0.2, 10):
        error = refused(sdf(tmp_path, distance(FRAME) * factor), read=read_volume)
        assert error.code == "wrong-units"
        assert float(error.what.split("change by ")[1].split()[0]) == pytest.approx(factor, rel=0.1)
    truncated = np.clip(distance(FRAME), -4, 4)
    assert read_volume(sdf(tmp_path, truncated), IMAGE).voxels.max() == 4
    metres = sdf(tmp_path, distance(FRAME) / 1000, np.diag([1e-3, 1e-3, 1e-3, 1]) @ OWN)
    assert refused(metres).code == "wrong-units"
    volume = read_ids(metres, IMAGE, Shapes(unit="m"))
    np.testing.assert_array_equal(volume.voxels, read_ids(sdf(tmp_path, name="b.npz"), IMAGE).voxels)
    back = read_volume(metres, IMAGE, Shapes(unit="m")).voxels
    np.testing.assert_allclose(back, read_volume(tmp_path / "b.npz", IMAGE).voxels, atol=1e-3)


def test_a_field_in_lps_is_turned(tmp_path):
    turned = sdf(tmp_path, None, np.diag([-1.0, -1, 1, 1]) @ OWN)
    volume = read_ids(turned, IMAGE, Shapes(space="LPS"))
    np.testing.assert_array_equal(volume.voxels, read_ids(sdf(tmp_path, name="b.npz"), IMAGE).voxels)


# --- occupancy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["share", "bool", "uint8"])
def test_an_occupancy_has_the_volume_of_what_it_holds(kind, tmp_path):
    share = np.clip(0.5 - distance(FRAME) / 2.5, 0, 1)
    values = {
        "share": share.astype(np.float32),
        "bool": share >= 0.5,
        "uint8": (share >= 0.5).astype(np.uint8),
    }
    path = saved(tmp_path / "a.npz", occupancy=values[kind], affine=OWN)
    label = read_ids(path, IMAGE).voxels
    assert label.dtype == np.uint8
    assert ml(label, IMAGE) == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.02)
    np.testing.assert_allclose(mm(IMAGE)[label > 0].mean(0), MIDDLE, atol=0.2)
    share = read_volume(path, IMAGE).voxels
    assert 0 <= share.min() < 0.01 < 0.99 < share.max() <= 1
    image = read_image([path], "SHAPE").image
    assert (image.min(), image.max()) == (-175, 250)


def test_a_grid_that_is_that_of_the_image_is_taken_voxel_by_voxel(tmp_path):
    mask = np.random.default_rng(0).random(IMAGE.shape) < 0.3
    path = saved(tmp_path / "a.npz", occupancy=mask, affine=IMAGE.affine)
    np.testing.assert_array_equal(read_ids(path, IMAGE).voxels, mask)


def test_a_smaller_grid_is_nothing_beyond_itself(tmp_path):
    """Half a voxel around its centres, and no more."""
    inner = Frame(
        IMAGE.affine @ np.array([[2, 0, 0, 10.5], [0, 2, 0, 10.5], [0, 0, 2, 10.5], [0, 0, 0, 1]]), (5, 4, 3)
    )
    path = saved(tmp_path / "a.npz", occupancy=np.ones(inner.shape, bool), affine=inner.affine)
    expected = np.zeros(IMAGE.shape, bool)
    expected[10:20, 10:18, 10:16] = True
    np.testing.assert_array_equal(read_ids(path, IMAGE).voxels, expected)


def test_what_would_be_lost_is_counted(tmp_path):
    moved = IMAGE.affine.copy()
    moved[0, 3] += 10 * 1.6
    mask = np.zeros(IMAGE.shape, bool)
    mask[:, 20:22, 20] = True
    path = saved(tmp_path / "a.npz", occupancy=mask, affine=moved)
    error = refused(path)
    assert error.code == "outside-image"
    assert (
        "18 of its 128 voxels" in error.what
    )  # ten planes of two, less one that reaches half into the image


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"sdf": np.ones(SHAPE)}, "corrupt"),
        ({"mask": np.ones(SHAPE), "affine": OWN}, "corrupt"),
        ({"affine": OWN}, "corrupt"),
        ({"occupancy": np.ones(SHAPE) * 1.2, "affine": OWN}, "out-of-range"),
        ({"occupancy": np.zeros(SHAPE), "affine": OWN}, "empty-shape"),
        ({"occupancy": np.ones((4, 4)), "affine": OWN}, "not-3d"),
        ({"occupancy": np.ones((4, 4, 4, 2)), "affine": OWN}, "not-3d"),
        ({"occupancy": np.ones((4, 4, 1)), "affine": OWN}, "too-thin"),
        ({"occupancy": np.ones(SHAPE, np.complex64), "affine": OWN}, "not-scalar"),
        ({"occupancy": np.full(SHAPE, np.nan), "affine": OWN}, "non-finite"),
        ({"sdf": np.ones(SHAPE), "affine": OWN}, "empty-shape"),
        ({"sdf": -np.ones(SHAPE), "affine": OWN}, "empty-shape"),
        ({"occupancy": np.ones(SHAPE), "affine": np.eye(3)}, "no-geometry"),
        ({"occupancy": np.ones(SHAPE), "affine": np.zeros((4, 4))}, "no-geometry"),
        ({"occupancy": np.ones(SHAPE), "affine": np.full((4, 4), np.nan)}, "no-geometry"),
        ({"occupancy": np.ones(SHAPE), "affine": np.ones(5000)}, "no-geometry"),
        ({"occupancy": np.ones(SHAPE), "affine": OWN + np.eye(4, k=1) * [[1], [0], [0], [0]]}, "sheared"),
        ({"occupancy": np.ones(SHAPE), "affine": np.diag([1e-3, 1e-3, 1e-3, 1])}, "wrong-units"),
        ({"occupancy": np.ones(SHAPE), "affine": np.diag([1e3, 1e3, 1e3, 1])}, "wrong-units"),
    ],
)  # fmt: skip
def test_fields_that_are_none(arrays, code, tmp_path):
    assert refused(saved(tmp_path / "a.npz", **arrays)).code == code


def test_damaged_archives_are_refused(tmp_path):
    path = sdf(tmp_path)
    data = path.read_bytes()
    for part in (b"", data[:100], data[:-200], data[:500] + b"\xff" * 99 + data[599:]):
        path.write_bytes(part)
        assert refused(path).code == "corrupt"
    path.unlink()
    assert refused(path).code == "missing"
    np.savez(path, sdf=np.array([object()]), affine=OWN)
    assert refused(path).code in ("corrupt", "not-3d")


def test_an_array_that_announces_too_much_allocates_nothing(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, sdf=np.zeros((10, 10, 10), np.float32), affine=OWN)
    path.write_bytes(path.read_bytes().replace(b"(10, 10, 10)", b"(9999,99,99)"))
    assert refused(path).code == "corrupt"


# --- points -------------------------------------------------------------------------------------------------

POINTS = np.array([[1.2, 2.0, 3.4], [4.49, 0.0, 0.6], [28.6, 19.4, 14.3], [-0.4, 7.5001, 2.0]])
UNIT = Frame(np.eye(4), (30, 20, 15))
VOXELS = {(1, 2, 3), (4, 0, 1), (29, 19, 14), (0, 8, 2)}


def cloud(path: Path, points=POINTS) -> Path:
    if path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".ply":
        trimesh.PointCloud(points).export(path)
    else:
        separator = ", " if path.name.startswith("comma") else " "
        lines = [separator.join(f"{v:.6f}" for v in row) for row in points]
        path.write_text("# x y z\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.xyz", "comma.xyz", "a.ply"])
def test_points_mark_the_voxels_that_hold_them(name, tmp_path):
    volume = read_ids(cloud(tmp_path / name), UNIT)
    assert {tuple(at) for at in np.argwhere(volume.voxels).tolist()} == VOXELS


def test_points_lie_where_an_oblique_affine_puts_them(tmp_path):
    index = np.random.default_rng(0).integers(0, SHAPE, (500, 3))
    jitter = np.random.default_rng(1).uniform(-0.45, 0.45, (500, 3))
    points = (index + jitter) @ OWN[:3, :3].T + OWN[:3, 3]
    found = np.argwhere(read_ids(cloud(tmp_path / "a.npy", points), FRAME).voxels)
    assert {tuple(at) for at in found.tolist()} == {tuple(at) for at in index.tolist()}
    turned = cloud(tmp_path / "b.npy", points * (-1, -1, 1))
    np.testing.assert_array_equal(np.argwhere(read_ids(turned, FRAME, Shapes(space="LPS")).voxels), found)


def test_points_as_an_image_have_a_grid_of_their_own(tmp_path):
    path = cloud(tmp_path / "a.xyz")
    volume = read_volume(path, None, Shapes(voxel=0.5, margin=2))
    assert volume.voxels.sum() == len(POINTS)
    assert (
        grid(path, Shapes(voxel=0.5, margin=2))[0] == volume.shape == (66, 47, 36)
    )  # (29, 19.4, 13.7 and twice 2) / 0.5, rounded up
    assert refused(path, None).code == "no-voxel-size"


def test_points_outside_are_counted(tmp_path):
    error = refused(cloud(tmp_path / "a.npy", np.concatenate([POINTS, [[40, 0, 0], [0, 0, -9.5]]])), UNIT)
    assert error.code == "outside-image"
    assert "2 of its 6 points" in error.what
    assert "10.5 mm" in error.what


@pytest.mark.parametrize(
    ("name", "points", "code"),
    [
        ("a.npy", np.zeros((5, 2)), "not-points"),
        ("a.npy", np.zeros((5, 4)), "not-points"),
        ("a.npy", np.zeros((0, 3)), "empty-shape"),
        ("a.npy", POINTS * np.nan, "non-finite"),
        ("a.npy", POINTS / 1000, "wrong-units"),
        ("a.npy", POINTS * 1000, "wrong-units"),
        ("a.xyz", POINTS[:, :2], "corrupt"),
        ("a.npy", np.array([["a", "b", "c"]]), "not-points"),
    ],
)
def test_points_that_are_none(name, points, code, tmp_path):
    assert refused(cloud(tmp_path / name, points), UNIT).code == code


def test_no_pickle_is_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[object()] * 3]))
    assert refused(tmp_path / "a.npy", UNIT).code == "corrupt"
    (tmp_path / "b.xyz").write_bytes(b"\xff\xfe\x00")
    assert refused(tmp_path / "b.xyz", UNIT).code == "corrupt"
