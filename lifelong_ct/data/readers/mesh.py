"""Closed surfaces (STL, PLY, OBJ, OFF), voxelised: 1 inside, 0 outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong_ct.data.readers.options import Shapes
from lifelong_ct.data.readers.placing import Frame, check_inside, in_mm, own_frame
from lifelong_ct.data.readers.winding import fill
from lifelong_ct.data.types import Grid, Volume, bad_file

SUFFIXES = (".stl", ".obj", ".off", ".ply")
SLACK = 1.0
"""Voxels by which a surface may reach beyond its image: smoothing and marching cubes do."""


def reads(path: Path) -> bool:
    """Whether it is a mesh by its name; a PLY without faces is points."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES and (suffix != ".ply" or ply_faces(path) != 0)


def ply_faces(path: Path) -> int | None:
    """Faces that the header of a PLY file announces; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            lines = file.read(1 << 16).partition(b"end_header")[0].splitlines()
        return sum(int(line.split()[2]) for line in lines if line.startswith(b"element face"))
    except (OSError, ValueError, IndexError):
        return None


def grid(path: Path, shapes: Shapes) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """The grid of its own that the options give it.

    Raises:
        DataError: as `read_volume`.
    """
    corners, _ = _surface(path, shapes)
    frame = own_frame(path, corners, shapes)
    return frame.shape, frame.affine


def read_volume(path: Path, like: Grid | None, shapes: Shapes) -> Volume:
    """uint8: 1 where a voxel's centre lies inside; on the grid of `like`, else on one of its own.

    Raises:
        DataError: missing, corrupt, not-watertight, as `in_mm` and `own_frame`, outside-image, empty-shape.
    """
    corners, faces = _surface(path, shapes)
    frame = own_frame(path, corners, shapes) if like is None else Frame.of(like)
    index = frame.index(corners)
    check_inside(path, frame, index, SLACK)
    inside = fill(index, faces, frame.shape)
    if not inside.any():
        what, fix = "it lies between the voxels: no centre is inside", "use smaller voxels"
        raise bad_file(path, what, "empty-shape", fix)
    return frame.volume(inside.view(np.uint8))


def _surface(path: Path, shapes: Shapes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Corners in mm `[n, 3]` and faces `[m, 3]`."""
    mesh = load(path)
    faces = np.asarray(getattr(mesh, "faces", ()))
    if not len(faces):
        raise bad_file(path, "it has no faces", "empty-shape", "export it again")
    in_mm(path, mesh.vertices, shapes)
    if faces.min() < 0 or faces.max() >= len(mesh.vertices):
        raise bad_file(path, "its faces name corners that are not there", "corrupt", "export it again")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)  # STL repeats a corner for every face
    mesh.update_faces(mesh.nondegenerate_faces())
    mesh.remove_unreferenced_vertices()
    if not mesh.is_watertight:
        sides = np.unique(mesh.edges_sorted, axis=0, return_counts=True)[1]
        what = f"it is no closed surface: {np.count_nonzero(sides != 2)} edges are not shared by two faces"
        fix = "close it (trimesh.repair.fill_holes, MeshLab: Close Holes), or give an occupancy grid"
        raise bad_file(path, what, "not-watertight", fix)
    if not mesh.is_winding_consistent:
        what = "neighbouring faces are wound in opposite directions: inside and outside are not certain"
        raise bad_file(path, what, "not-watertight", "turn them alike (trimesh.repair.fix_normals)")
    return in_mm(path, mesh.vertices, shapes), np.asarray(mesh.faces)


def load(path: Path) -> Any:
    """What trimesh makes of a file; nothing else is opened, whatever the file refers to.

    Raises:
        DataError: missing, corrupt.
    """
    import trimesh

    try:
        with path.open("rb") as file:
            kind = path.suffix[1:].lower()
            found = trimesh.load(file, file_type=kind, process=False, skip_materials=True)
        return found.to_mesh() if isinstance(found, trimesh.Scene) else found  # several bodies are one shape
    except OSError as error:
        raise bad_file(path, f"it cannot be read: {error.strerror}", "missing", "check the path") from error
    except Exception as error:  # the parsers meet any bytes here
        what = f"it is no {path.suffix[1:].upper()} ({type(error).__name__})"
        raise bad_file(path, what, "corrupt", "export it again") from error
