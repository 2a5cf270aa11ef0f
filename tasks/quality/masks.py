"""Where pictures of held-out photos are compared: masks that the mesh under test cannot influence.

In this order of preference:

1. `true_silhouette`: the true mesh cast from the true camera of that photo, dilated by 2 % of its size;
2. `given_mask`: the mask given with the photo, inside the projected region of interest;
3. `region`: all pixels whose ray meets the region's cube;
4. `region_above_support`: as 3, when the support was cut off the mesh on request. The cube then holds the support too,
   which the mesh lacks by design, and no ray tells the two apart. So the mask is the projection of the convex hull of
   those sparse points of the pose stage that lie in the cube above the support plane, dilated by 2 % of its size:
   points that were there before there was a field or a mesh.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import Camera, Matrix4, PosedImage, pixel_rays, transform_points
from models.mesh.raycast import RayCaster, cast_mask
from tasks.silhouettes.outlines import dilate

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def true_camera(true: PosedImage, stored: tuple[int, int], picture: Camera) -> Camera:
    """The true camera of an undistorted picture.

    The true camera saw the photo at its original size; the stored photo may be smaller, and undistortion may then have
    cropped or widened it about its centre.

    Args:
        stored: (width, height) of the photo as ingested.
        picture: the estimated camera of the undistorted picture; only its size is used.
    """
    camera = true.camera.resized(*stored)
    shift_u, shift_v = (picture.width - stored[0]) / 2.0, (picture.height - stored[1]) / 2.0
    return Camera(
        width=picture.width,
        height=picture.height,
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx + shift_u,
        cy=camera.cy + shift_v,
    )


def silhouette_mask(caster: RayCaster, camera: Camera, c2w: npt.ArrayLike) -> BoolArray:
    """[H, W] dilated silhouette of a mesh."""
    return dilate(cast_mask(caster, camera, c2w))


def region_mask(camera: Camera, c2w: npt.ArrayLike, world_from_field: Matrix4) -> BoolArray:
    """[H, W] pixels whose ray meets the cube [-1, 1]^3 of the field ahead of the camera."""
    field_from_world = np.linalg.inv(np.array(world_from_field))
    rays_o, rays_d = pixel_rays(camera, c2w)
    o, d = transform_points(field_from_world, rays_o), rays_d @ field_from_world[:3, :3].T
    safe = np.where(np.abs(d) < 1e-12, 1e-12, d)
    one, other = (-1.0 - o) / safe, (1.0 - o) / safe
    enter, leave = np.minimum(one, other).max(1), np.maximum(one, other).min(1)
    return np.asarray(leave > np.maximum(enter, 0.0)).reshape(camera.height, camera.width)
