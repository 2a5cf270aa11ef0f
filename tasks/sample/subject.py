"""What stands on the mat: the sample's own flask, or a mesh of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.raycast import face_normals, sample_texture
from tasks.sample import object as shape
from tasks.sample.colour import to_linear
from tasks.sample.face_paint import FacePaint
from tasks.sample.noise import Float32Array, FloatArray
from tasks.sample.paint import solid_colour

LARGEST_M = 0.145
"""Longest edge of the bounding box of a user's mesh: it leaves the mat's scale bar free."""
_CREASE = np.cos(np.radians(35.0))
_LONGEST_EDGE_M = 0.004
_PAINT_DETAIL = 4
_Y_UP = {".glb", ".gltf"}


@dataclass(frozen=True)
class Subject:
    """A mesh in metres that stands on z = 0, ready to be lit and photographed."""

    mesh: Mesh
    """The true surface with vertex colours: paint alone, without light."""
    points: FloatArray
    """[P, 3] places whose light is computed."""
    normals: FloatArray
    """[P, 3] their unit normals."""
    corners: npt.NDArray[np.int64]
    """[F, 3] which of the places stands for each corner of each face."""
    colour: Callable[[npt.NDArray[np.int64], Float32Array], Float32Array]
    """(face [N], bary [N, 2]) -> [N, 3] linear paint."""

    @property
    def middle(self) -> FloatArray:
        """[3] the bounding box's middle."""
        return np.asarray((self.mesh.vertices.min(0) + self.mesh.vertices.max(0)) / 2.0)


def sample_subject(cell_m: float, seed: int) -> Subject:
    """The sample's flask with its paint (`object.build_mesh`, `paint.solid_colour`)."""
    bare = shape.build_mesh(cell_m)
    return _painted(bare, bare.vertices, shape.normals(bare.vertices), bare.faces, seed)


def user_subject(path: Path, seed: int) -> Subject:
    """A user's mesh, scaled to `LARGEST_M`, its lowest point at z = 0 over the mat's middle.

    Args:
        path: a PLY, OBJ or GLB with faces that look outwards, z up (y up in a GLB). It keeps its texture or vertex
            colours; without any it is painted as the sample is.
        seed: chooses that paint.

    Raises:
        DigitizeError: source_not_found, or undecodable where the file holds no triangles.
    """
    mesh = _standing(_read(path), path)
    mesh = _subdivided(mesh)
    points, normals, corners = _shading(mesh)
    if mesh.texture is None and mesh.colors is None:
        return _painted(mesh, points, normals, corners, seed)
    every = _vertex_colours(mesh)

    def colour(face: npt.NDArray[np.int64], bary: Float32Array) -> Float32Array:
        return to_linear(sample_texture(mesh, face, bary)).astype(np.float32)

    return Subject(Mesh(mesh.vertices, mesh.faces, colors=every), points, normals, corners, colour)


def _painted(bare: Mesh, points: FloatArray, normals: FloatArray, corners: npt.NDArray[np.int64], seed: int) -> Subject:
    colors = np.round(solid_colour(bare.vertices, seed) * 255).astype(np.uint8)
    paint = FacePaint.bake(bare, seed, _PAINT_DETAIL)
    return Subject(replace(bare, colors=colors), points, normals, corners, paint.lookup)


def _read(path: Path) -> Mesh:
    if not path.is_file():
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected a mesh file", path=str(path))
    import trimesh

    try:
        body: Any = trimesh.load(path, force="mesh", process=False)
        vertices, faces = np.asarray(body.vertices, np.float64), np.asarray(body.faces, np.int64)
        if not len(faces) or not np.isfinite(vertices).all():
            raise ValueError("no triangles, or corners that are no numbers")
        if path.suffix.lower() in _Y_UP:
            vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1)
        return Mesh(vertices, faces, **_paint_of(body.visual))
    except Exception as error:  # trimesh's readers raise whatever their parsers do
        message = f"expected a mesh of triangles, found: {error}"
        raise DigitizeError(
            ReasonCode.UNDECODABLE, message, "Export it again as GLB or PLY.", path=str(path)
        ) from error


def _paint_of(visual: Any) -> dict[str, Any]:
    if visual.kind == "texture" and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None:
            return {"uv": np.asarray(visual.uv, np.float64), "texture": np.asarray(image.convert("RGB"))}
    if visual.kind == "vertex":
        return {"colors": np.ascontiguousarray(visual.vertex_colors[:, :3], np.uint8)}
    return {}


def _standing(mesh: Mesh, path: Path) -> Mesh:
    used = mesh.vertices[np.unique(mesh.faces)]
    low, high = used.min(0), used.max(0)
    longest = float((high - low).max())
    if longest <= 0:
        raise DigitizeError(ReasonCode.UNDECODABLE, "expected a mesh with an extent", path=str(path))
    foot = np.array([(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0, low[2]])
    return replace(mesh, vertices=(mesh.vertices - foot) * (LARGEST_M / longest))


def _subdivided(mesh: Mesh) -> Mesh:
    """The same surface with short edges, because light is kept at the corners of faces."""
    while len(mesh.faces) < 400_000:
        longest = np.linalg.norm(np.diff(mesh.triangles[:, [0, 1, 2, 0]], axis=1), axis=2).max()
        if longest <= _LONGEST_EDGE_M:
            return mesh
        mesh = _split(mesh)
    return mesh


def _split(mesh: Mesh) -> Mesh:
    """Every face in four at the middles of its edges."""
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    pairs, number = np.unique(edges, axis=0, return_inverse=True)
    middle = number.reshape(-1, 3) + len(mesh.vertices)
    (a, b, c), (ab, bc, ca) = mesh.faces.T, middle.T
    quarters = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    faces = np.stack([np.stack(each, 1) for each in quarters], 1).reshape(-1, 3)

    def with_middles(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate([values, values[pairs].mean(1).astype(values.dtype)])

    return replace(
        mesh,
        vertices=with_middles(mesh.vertices),
        faces=faces,
        uv=None if mesh.uv is None else with_middles(mesh.uv),
        colors=None if mesh.colors is None else with_middles(mesh.colors),
    )


def _shading(mesh: Mesh) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Points, normals and corners as `Subject` has them: smooth over gentle bends, sharp at creases."""
    flat = face_normals(mesh).astype(np.float64)
    edges = np.diff(mesh.triangles, axis=1)
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    # vertices doubled along a texture's seams share one normal
    _, place = np.unique(mesh.vertices, axis=0, return_inverse=True)
    place = place.ravel()[mesh.faces]
    total = np.zeros((place.max() + 1, 3))
    np.add.at(total, place, (flat * area[:, None])[:, None].repeat(3, 1))
    smooth = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)
    # one sharp bend at a vertex makes all of its corners sharp
    bend = np.einsum("fkc,fc->fk", smooth[place], flat)
    sharpest = np.ones(len(smooth))
    np.minimum.at(sharpest, place, bend)
    gentle = sharpest[place] > _CREASE
    owner = np.where(gentle, -1, np.arange(len(flat))[:, None])
    keys = np.stack([mesh.faces.ravel(), owner.ravel()], 1)
    kept, first, corners = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    normals = np.where(kept[:, 1:] < 0, smooth[place.ravel()[first]], flat[first // 3])
    return mesh.vertices[kept[:, 0]], normals, corners.reshape(-1, 3)


def _vertex_colours(mesh: Mesh) -> npt.NDArray[np.uint8]:
    if mesh.colors is not None:
        return mesh.colors
    face = np.zeros(len(mesh.vertices), np.int64)
    corner = np.zeros(len(mesh.vertices), np.int64)
    for k in range(3):
        face[mesh.faces[:, k]], corner[mesh.faces[:, k]] = np.arange(len(mesh.faces)), k
    bary = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])[corner]
    return np.round(sample_texture(mesh, face, bary) * 255).astype(np.uint8)
