"""A triangle mesh with an optional texture: plain arrays, no library's object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Mesh:
    """Vertices [V, 3] float64 in the capture's frame, faces [F, 3] int64, counter-clockwise seen from outside.

    uv: [V, 2] float64, origin at the texture's lower left corner (glTF exporters flip v), or None.
    texture: [H, W, 3] uint8 sRGB, row 0 on top, or None.
    colors: [V, 3] uint8 sRGB per vertex, or None.
    normal_map: [H, W, 3] uint8 unit normals in tangent space, (n + 1) / 2 * 255, y towards growing v, or None.
    occlusion: [H, W] uint8, how much of the sky each place sees, or None.
    seen: [V] whether photographs show the vertex; False where the method made it up; None if unknown.
    """

    vertices: FloatArray
    faces: IntArray
    uv: FloatArray | None = None
    texture: ByteArray | None = None
    colors: ByteArray | None = None
    seen: npt.NDArray[np.bool_] | None = None
    normal_map: ByteArray | None = None
    occlusion: ByteArray | None = None

    def take(self, source: IntArray, faces: IntArray) -> Mesh:
        """The mesh of vertices `source` [W] of this one, with all they hold, and of faces [F, 3] that number them."""
        return replace(
            self,
            vertices=self.vertices[source],
            faces=faces,
            uv=None if self.uv is None else self.uv[source],
            colors=None if self.colors is None else self.colors[source],
            seen=None if self.seen is None else self.seen[source],
        )

    @property
    def triangles(self) -> FloatArray:
        """[F, 3, 3] corner positions."""
        return self.vertices[self.faces]

    @property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal."""
        return float(np.linalg.norm(self.vertices.max(0) - self.vertices.min(0)))
