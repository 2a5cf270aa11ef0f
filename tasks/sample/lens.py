"""A lens that bends straight lines: the model OPENCV of COLMAP (radial k1, k2; decentred p1, p2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import Camera
from models.record import Record
from tasks.sample.noise import FloatArray


class Lens(Record):
    """Coefficients on coordinates divided by the focal length. File: `truth/lens.json`."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def distort(self, xy: npt.ArrayLike) -> FloatArray:
        """[N, 2] where the lens moves places [N, 2] of the pinhole's image plane at z = 1."""
        points = np.asarray(xy, dtype=np.float64)
        x, y = points[:, 0], points[:, 1]
        r2 = x * x + y * y
        radial = 1.0 + self.k1 * r2 + self.k2 * r2 * r2
        u = x * radial + 2.0 * self.p1 * x * y + self.p2 * (r2 + 2.0 * x * x)
        v = y * radial + self.p1 * (r2 + 2.0 * y * y) + 2.0 * self.p2 * x * y
        return np.stack([u, v], 1)

    def undistort(self, xy: npt.ArrayLike) -> FloatArray:
        """[N, 2] the inverse of `distort` by fixed-point iteration; exact to 1e-9 for the weak lenses used here."""
        target = np.asarray(xy, dtype=np.float64)
        found = target.copy()
        for _ in range(25):
            step = target - self.distort(found)
            found += step
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        return found

    def distort_pixels(self, camera: Camera, pixels: npt.ArrayLike) -> FloatArray:
        """[N, 2] pixels of the photo as taken, from pixels [N, 2] of the pinhole camera."""
        centre, focal = np.array([camera.cx, camera.cy]), np.array([camera.fx, camera.fy])
        return np.asarray(self.distort((np.asarray(pixels, dtype=np.float64) - centre) / focal) * focal + centre)

    def straight(self, camera: Camera, pixels: npt.ArrayLike) -> FloatArray:
        """[N, 2] places of the image plane at z = 1 that pixels [N, 2] of the photo as taken show."""
        centre, focal = np.array([camera.cx, camera.cy]), np.array([camera.fx, camera.fy])
        return self.undistort((np.asarray(pixels, dtype=np.float64) - centre) / focal)
