"""A mesh as a representation: what a method hands on that makes a surface without a field."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, Matrix4
from models.errors import DigitizeError, ReasonCode
from models.mesh.io import read_ply, write_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured, sample_texture
from models.representation import Render, Representation

MESH_FILE = "mesh.ply"
TEXTURE_FILE = "texture.png"
SUPERSAMPLE = 2
"""Samples along each side of a pixel."""
_BATCH = 1 << 19


class MeshRepresentation(Representation):
    """A mesh in the capture's frame, with a texture, with colours at its vertices, or without either.

    Args:
        mesh: vertices in the world.
        threads: CPU threads of each query; 0 takes all.
    """

    kind = "mesh"

    def __init__(self, mesh: Mesh, threads: int = 0) -> None:
        self.mesh = mesh
        self._threads = threads

    @cached_property
    def _caster(self) -> RayCaster:
        return RayCaster(self.mesh, self._threads)

    @property
    def has_background(self) -> bool:
        return False

    @property
    def has_colours(self) -> bool:
        return self.mesh.colors is not None or (self.mesh.texture is not None and self.mesh.uv is not None)

    def render(
        self,
        camera: Camera,
        c2w: npt.ArrayLike,
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
        normals: bool = False,
        backdrop: float | None = None,
    ) -> Render:
        check()
        behind = None if backdrop is None else (backdrop, backdrop, backdrop)
        picture = render_textured((self.mesh, self._caster), camera, c2w, behind, SUPERSAMPLE)
        if not normals:
            return Render(picture.rgb, picture.depth, picture.mask.astype(np.float32))
        forward = np.asarray(c2w, dtype=np.float64)[:3, 2]
        turned = (picture.normal @ forward > 0)[..., None]
        # a face seen from behind shows its other side
        facing = np.where(turned, -picture.normal, picture.normal).astype(np.float32)
        return Render(picture.rgb, picture.depth, picture.mask.astype(np.float32), facing)

    def colours(
        self,
        points: npt.NDArray[np.float64],
        normals: npt.NDArray[np.float64],
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
    ) -> npt.NDArray[np.uint8]:
        """The colour of the nearest place of the mesh; plain grey where the mesh has no colours."""
        result = np.zeros((len(points), 3), np.uint8)
        for start in range(0, len(points), _BATCH):
            check()
            part = slice(start, start + _BATCH)
            face, bary = self._caster.nearest(points[part])
            result[part] = (sample_texture(self.mesh, face, bary) * 255.0 + 0.5).astype(np.uint8)
        return result

    def write(self, folder: Path) -> None:
        write_ply(folder / MESH_FILE, self.mesh)
        if self.mesh.texture is not None:
            Image.fromarray(self.mesh.texture).save(folder / TEXTURE_FILE, compress_level=1)

    @classmethod
    def read(cls, folder: Path, device: str) -> MeshRepresentation:
        mesh = read_ply(folder / MESH_FILE)
        if len(mesh.faces) == 0:
            message = "expected a mesh with faces, found none"
            raise DigitizeError(ReasonCode.EMPTY_SURFACE, message, path=str(folder / MESH_FILE))
        if not (folder / TEXTURE_FILE).is_file():
            return cls(mesh)
        with Image.open(folder / TEXTURE_FILE) as picture:
            texture = np.asarray(picture.convert("RGB"), dtype=np.uint8)
        return cls(Mesh(mesh.vertices, mesh.faces, mesh.uv, texture, mesh.colors, mesh.seen))
