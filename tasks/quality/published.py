"""The published mesh, read back from `asset.glb` by another reader than the one that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Vector3, gltf_from_world, invert_rigid, transform_points
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh


def read_published(path: Path, up: Vector3) -> Mesh:
    """The mesh of a binary glTF in the capture's frame: `gltf_from_world(up)` undone.

    All primitives of all nodes are joined; the texture is the first material's base colour.

    Raises:
        DigitizeError(empty_surface): nothing drawable in the file.
        DigitizeError(undecodable): not a binary glTF.
    """
    import trimesh

    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        message = f"expected a binary glTF mesh, found: {error}"
        raise DigitizeError(ReasonCode.UNDECODABLE, message, path=path.name) from error
    if not parts:
        raise DigitizeError(ReasonCode.EMPTY_SURFACE, "expected a mesh with faces, found none", path=path.name)
    world_from_gltf = invert_rigid(gltf_from_world(up))
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    vertices = np.concatenate([np.asarray(part.vertices, dtype=np.float64) for part in parts])
    faces = np.concatenate(
        [np.asarray(part.faces, dtype=np.int64) + start for part, start in zip(parts, starts, strict=True)]
    )
    uv = _joined([_uv(part) for part in parts])
    colors = _joined([_vertex_colors(part) for part in parts])
    texture = next((found for part in parts if (found := _texture(part)) is not None), None)
    return Mesh(
        transform_points(world_from_gltf, vertices),
        faces,
        uv=None if uv is None else uv.astype(np.float64),
        texture=texture,
        colors=None if colors is None else colors.astype(np.uint8),
    )


def _joined(blocks: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    found = [block for block in blocks if block is not None]
    return np.concatenate(found) if len(found) == len(blocks) else None


def _uv(part: Any) -> npt.NDArray[Any] | None:
    # the reader has turned glTF's v (down) into v up already
    uv = getattr(part.visual, "uv", None)
    return None if uv is None else np.asarray(uv)


def _vertex_colors(part: Any) -> npt.NDArray[Any] | None:
    if part.visual.kind != "vertex":
        return None
    return np.asarray(part.visual.vertex_colors)[:, :3]


def _texture(part: Any) -> npt.NDArray[np.uint8] | None:
    image = getattr(getattr(part.visual, "material", None), "baseColorTexture", None)
    return None if image is None else np.asarray(image.convert("RGB"), dtype=np.uint8)
