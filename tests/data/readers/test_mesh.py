"""Meshes against closed forms: volumes, centres of mass, half-spaces; and meshes that have no inside."""

from __future__ import annotations

import itertools
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import trimesh

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.readers import grid, read_ids, read_volume
from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame
from lifelong_ct.data.readers.winding import fill

OBLIQUE = trimesh.transformations.rotation_matrix(0.4, [1, 2, 3]) @ np.diag([0.9, 1.1, 2.0, 1])
OBLIQUE[:3, 3] = -40, -50, -60
FRAME = Frame(OBLIQUE, (100, 90, 60))
MIDDLE = (OBLIQUE @ [50, 45, 30, 1])[:3]
UNIT = Frame(np.eye(4), (30, 20, 15))
NAMES = ("a.stl", "a.ply", "a.obj", "a.off", "a.STL")


def ball(radius=30.0, centre=MIDDLE, fine=4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=fine, radius=radius).apply_translation(centre)


def box(low, high) -> trimesh.Trimesh:
    low, high = np.array(low, float), np.array(high, float)
    return trimesh.creation.box(high - low).apply_translation((low + high) / 2)


def saved(path: Path, mesh) -> Path:
    mesh.export(path, file_type=path.suffix[1:].lower())
    return path


def ml(voxels, affine) -> float:
    return float(voxels.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)


def refused(path, like=UNIT, **shapes) -> DataError:
    with pytest.raises(DataError) as caught:
        read_volume(path, like, Shapes(**shapes))
    assert path.name in caught.value.where
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_ball_has_its_volume_and_its_centre_on_an_oblique_grid(name, tmp_path):
    volume = read_volume(saved(tmp_path / name, ball()), FRAME)
    voxels = volume.voxels
    assert voxels.dtype == np.uint8
    assert volume.shape == FRAME.shape
    half = np.linalg.norm([0.9, 1.1, 2.0]) / 2  # a voxel's centre is at most this far from its corners
    low, high = (4 / 3 * np.pi * (30 + d) ** 3 / 1000 for d in (-half, half))
    assert low < ml(voxels, OBLIQUE) < high
    assert ml(voxels, OBLIQUE) == pytest.approx(4 / 3 * np.pi * 27, rel=0.005)
    centre = np.argwhere(voxels).mean(0)
    np.testing.assert_allclose(centre, (50, 45, 30), atol=0.02)


def test_the_voxels_are_those_that_lie_behind_every_face(tmp_path):
    """A convex body is the intersection of half-spaces."""
    mesh = ball(8, (14.1, 9.3, 7.2), fine=2)
    voxels = read_volume(saved(tmp_path / "a.ply", mesh), UNIT).voxels
    centres = np.argwhere(np.ones(UNIT.shape)).astype(float)
    behind = np.ones(len(centres), bool)
    for normal, corner in zip(mesh.face_normals, mesh.triangles[:, 0], strict=True):
        behind &= centres @ normal <= corner @ normal
    np.testing.assert_array_equal(voxels.ravel(), behind)


@pytest.mark.parametrize("shift", [0.0, 0.5, 0.25])
def test_a_box_has_as_many_voxels_as_its_edges_are_long(shift, tmp_path):
    """Faces, edges and corners that run through centres are counted once."""
    path = saved(tmp_path / "a.stl", box(np.array([2, 3, 1]) + shift, np.array([22, 13, 9]) + shift))
    voxels = read_volume(path, UNIT).voxels
    assert voxels.sum() == 20 * 10 * 8
    first = 0 if shift == 0 else 1
    assert voxels[2 + first : 22 + first, 3 + first : 13 + first, 1 + first : 9 + first].all()


def test_boxes_that_touch_share_no_voxel_and_leave_none_out(tmp_path):
    cuts = [2, 7, 11, 12, 20]
    parts = [
        read_volume(saved(tmp_path / f"{a}.off", box((a, 2, 2), (b, 9, 9))), UNIT).voxels
        for a, b in itertools.pairwise(cuts)
    ]
    whole = read_volume(saved(tmp_path / "whole.off", box((2, 2, 2), (20, 9, 9))), UNIT).voxels
    np.testing.assert_array_equal(sum(parts), whole)


def test_hollows_stay_hollow_and_bodies_that_overlap_do_not_cut_each_other(tmp_path):
    inner = box((6, 6, 6), (9, 9, 9))
    inner.invert()
    hollow = trimesh.util.concatenate([box((2, 2, 2), (14, 14, 14)), inner])
    assert read_volume(saved(tmp_path / "a.ply", hollow), UNIT).voxels.sum() == 12**3 - 3**3
    both = trimesh.util.concatenate([box((2, 2, 2), (12, 12, 12)), box((7, 2, 2), (17, 12, 12))])
    assert read_volume(saved(tmp_path / "b.obj", both), UNIT).voxels.sum() == 15 * 10 * 10


def test_objects_and_quads_of_an_obj_are_one_shape(tmp_path):
    """A cube of 4 mm and one of 3 mm, by hand, each an object with a material of its own."""
    ends = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    lines = []
    for k, (low, high) in enumerate([(2, 6), (10, 13)]):
        square = [(low, low), (high, low), (high, high), (low, high)]
        lines += [f"o part{k}", f"usemtl part{k}"]
        lines += [f"v {x} {y} {z}" for z in (low, high) for x, y in square]
        lines += ["f " + " ".join(str(i + 1 + 8 * k) for i in face) for face in ends]
    path = tmp_path / "a.obj"
    path.write_text("\n".join(lines))
    voxels = read_volume(path, UNIT).voxels
    assert voxels[2:6, 2:6, 2:6].all()
    assert voxels[10:13, 10:13, 10:13].all()
    assert voxels.sum() == 4**3 + 3**3


def test_nothing_leaks_whatever_the_position():
    """Many small turned boxes, corners on and near centres, against the half-spaces of their faces."""
    rng = np.random.default_rng(0)
    centres = np.argwhere(np.ones((20, 20, 20))).astype(float)
    for turn in range(40):
        mesh = box((-4, -3, -5), (4, 3, 5))
        mesh.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
        mesh.apply_translation(rng.integers(9, 12, 3) + rng.choice([0, 0.5, 1e-7], 3))
        inside = fill(mesh.vertices, mesh.faces, (20, 20, 20)).ravel()
        depth = (centres @ mesh.face_normals.T - (mesh.face_normals * mesh.triangles[:, 0]).sum(1)).max(1)
        assert inside[depth < -1e-4].all(), turn
        assert not inside[depth > 1e-4].any(), turn


def test_memory_grows_with_the_surface_only():
    mesh = ball(100, (128, 128, 128), fine=5)
    tracemalloc.start()
    inside = fill(mesh.vertices, mesh.faces, (256, 256, 256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inside.sum() == pytest.approx(mesh.volume, rel=1e-3)
    assert peak - inside.nbytes < 128 << 20


@pytest.mark.parametrize("unit", ["mm", "cm", "m"])
@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_units_and_space_are_as_declared(space, unit, tmp_path):
    mesh = ball(30)
    factor = {"mm": 1, "cm": 10, "m": 1000}[unit]
    mesh.vertices = mesh.vertices / factor * ((-1, -1, 1) if space == "LPS" else 1)
    path = saved(tmp_path / "a.ply", mesh)
    voxels = read_volume(path, FRAME, Shapes(space=space, unit=unit)).voxels
    np.testing.assert_allclose(np.argwhere(voxels).mean(0), (50, 45, 30), atol=0.02)


def test_an_image_gets_a_grid_of_the_stated_voxel_size(tmp_path):
    path = saved(tmp_path / "a.stl", ball(20, (5, -7, 100)))
    volume = read_volume(path, None, Shapes(voxel=1.25, margin=6))
    shape, affine = grid(path, Shapes(voxel=1.25, margin=6))
    assert shape == volume.shape == (42, 42, 42)  # (2 × 20 + 2 × 6) / 1.25, rounded up
    np.testing.assert_array_equal(affine, volume.affine)
    assert ml(volume.voxels, volume.affine) == pytest.approx(4 / 3 * np.pi * 8, rel=0.01)
    centre = np.argwhere(volume.voxels).mean(0) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(centre, (5, -7, 100), atol=0.05)
    with pytest.raises(DataError) as caught:
        read_ids(path)
    assert caught.value.code == "no-voxel-size"


# --- meshes that have no inside ---------------------------------------------------------------------------


def test_a_hole_is_counted_in_edges(tmp_path):
    mesh = box((2, 2, 2), (12, 12, 12))
    mesh.update_faces(np.arange(12) != 3)
    error = refused(saved(tmp_path / "a.stl", mesh))
    assert (error.code, "3 edges" in error.what, "fill_holes" in error.fix) == ("not-watertight", True, True)


def test_faces_wound_against_their_neighbours_are_found(tmp_path):
    mesh = box((2, 2, 2), (12, 12, 12))
    mesh.faces[5] = mesh.faces[5][::-1]
    error = refused(saved(tmp_path / "a.off", mesh))
    assert (error.code, "fix_normals" in error.fix) == ("not-watertight", True)


def test_a_mesh_inside_out_is_still_a_body(tmp_path):
    mesh = box((2, 2, 2), (12, 12, 12))
    mesh.invert()
    assert read_volume(saved(tmp_path / "a.ply", mesh), UNIT).voxels.sum() == 1000


def test_what_lies_outside_the_image_is_measured(tmp_path):
    error = refused(saved(tmp_path / "a.stl", box((2, 2, 2), (12, 12, 35))))
    assert error.code == "outside-image"
    assert "4 of its 8 points" in error.what
    assert "up to 19.5 mm" in error.what  # 35 - 14.5, less a voxel of slack
    assert "space" in error.fix
    up_to_the_border = saved(tmp_path / "b.stl", box((-0.5, -0.5, -0.5), (29.5, 19.5, 14.5)))
    assert read_volume(up_to_the_border, UNIT).voxels.all()


@pytest.mark.parametrize(("factor", "word"), [(1e-3, "in m"), (1e3, "µm")])
def test_wrong_units_are_told(factor, word, tmp_path):
    mesh = ball(30, (0, 0, 0))
    mesh.apply_scale(factor)
    error = refused(saved(tmp_path / "a.stl", mesh), FRAME)
    assert error.code == "wrong-units"
    assert word in error.what


def test_a_declared_space_must_be_that_of_the_option(tmp_path):
    path = saved(tmp_path / "a.obj", box((2, 2, 2), (12, 12, 12)))
    path.write_text("# Written by 3D Slicer; SPACE=LPS\n" + path.read_text())
    error = refused(path)
    assert (error.code, error.fix) == ("wrong-space", "shapes: {space: LPS}")


def test_a_body_between_the_voxels_is_not_lost_silently(tmp_path):
    coarse = Frame(np.diag([10.0, 10, 10, 1]), (3, 3, 3))
    assert refused(saved(tmp_path / "a.ply", box((2, 2, 2), (8, 8, 8))), coarse).code == "empty-shape"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "a.STL"])
def test_damaged_files_are_refused(name, tmp_path):
    path = saved(tmp_path / name, ball(5, (10, 9, 7), fine=1))
    data = path.read_bytes()
    for part in (b"", data[:40], data[: len(data) // 2], b"\xff" * 500):
        path.write_bytes(part)
        assert refused(path).code in ("corrupt", "empty-shape", "not-watertight", "non-finite", "wrong-units")
    path.unlink()
    assert refused(path).code == "missing"


def test_random_damage_is_an_error_or_a_mesh(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES[:4]:
        path = saved(tmp_path / name, ball(5, (10, 9, 7), fine=1))
        plain = path.read_bytes()
        for _ in range(40):
            data = bytearray(plain)
            for at in rng.integers(0, len(data), 3):
                data[at] = rng.integers(256)
            path.write_bytes(data)
            with suppress(DataError):
                assert read_volume(path, UNIT).shape == UNIT.shape


def test_files_that_a_mesh_refers_to_are_not_opened(tmp_path):
    mesh = saved(tmp_path / "a.obj", box((2, 2, 2), (12, 12, 12)))
    mesh.write_text("mtllib /etc/passwd\nusemtl x\n" + mesh.read_text())
    assert read_volume(mesh, UNIT).voxels.sum() == 1000


def test_options_that_are_none():
    for given in ({"space": "LAS"}, {"unit": "inch"}, {"voxel": 0}, {"margin": -1}, {"voxle": 1}):
        with pytest.raises(LifelongCTError, match=next(iter(given))):
            Shapes.of(given)
