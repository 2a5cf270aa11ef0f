"""Pictures of a field: colour, depth and opacity along given rays or through a camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.camera import Camera, pixel_rays, similarity_scale
from models.fields.base import Field
from models.fields.kernels.ops import composite, visible_counts
from models.fields.march import cube_interval, march
from tasks.train.parallel import threads_of

TILE = 1 << 13
"""Rays that are rendered together."""
OPAQUE = 1e-3
"""Transmittance below which a ray is not followed further."""
SURE = 0.5
"""Opacity from which on a ray has a depth."""


class Traced(NamedTuple):
    """What rays see."""

    rgb: Tensor
    """[R, 3] sRGB, the surroundings included."""
    opacity: Tensor
    """[R] of what is inside the cube."""
    t: Tensor
    """[R] mean distance of what is inside the cube, in field units; infinite where the opacity is below SURE."""


class Render(NamedTuple):
    """A picture of a field."""

    rgb: npt.NDArray[np.float32]
    """[H, W, 3] sRGB in [0, 1]."""
    depth: npt.NDArray[np.float32]
    """[H, W] along the camera's z axis in world units; infinite where nothing solid is seen."""
    opacity: npt.NDArray[np.float32]
    """[H, W] of what is inside the field's cube."""


@torch.no_grad()
def trace(field: Field, rays_o: Tensor, rays_d: Tensor) -> Traced:
    """What rays [R, 3] (field coordinates, unit directions) see, without gradients and noise."""
    t_in, t_out = cube_interval(rays_o, rays_d, field.near, field.extent)
    half = torch.full_like(t_in, 0.5)
    marched = march(rays_o, rays_d, t_in, t_out, field.step, half, field.grid)
    value, feature = field.query(marched.places(rays_o, rays_d))
    density = field.density_of(value)
    samples, kept = marched.leading(visible_counts(density, marched.offsets, field.step, OPAQUE))
    density, t, directions = density[kept], samples.t, rays_d.index_select(0, samples.ray)
    rgb = field.color(samples.places(rays_o, rays_d), directions, feature.t().index_select(1, kept).t())
    light, through, _ = composite(density, rgb, t, samples.offsets, field.step)
    moment = composite(density, t[:, None].expand(-1, 3), t, samples.offsets, field.step).light[:, 0]
    opacity = 1.0 - through
    front, before, behind = field.surroundings(rays_o, rays_d, t_in, t_out, through > OPAQUE)
    seen = front + before[:, None] * (light + through[:, None] * behind)
    distance = torch.where(opacity >= SURE, moment / opacity.clamp(min=SURE), torch.inf)
    return Traced(seen.clamp(0.0, 1.0), opacity, distance)


def field_rays(
    camera: Camera, c2w: npt.ArrayLike, world_from_field: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Rays through all pixel centres, row by row: origins and unit directions [H * W, 3] in field coordinates."""
    similarity = np.asarray(world_from_field, dtype=np.float64)
    scale = similarity_scale(similarity)
    rays_o, rays_d = pixel_rays(camera, c2w)
    rotation = similarity[:3, :3] / scale
    origins = (rays_o - similarity[:3, 3]) @ rotation / scale
    return origins.astype(np.float32), (rays_d @ rotation).astype(np.float32)


def render_image(
    field: Field,
    camera: Camera,
    c2w: npt.ArrayLike,
    world_from_field: npt.ArrayLike,
    check: Callable[[], None] = lambda: None,
) -> Render:
    """The picture that a camera takes of a field.

    Args:
        c2w: [4, 4] camera to world, OpenCV axes.
        world_from_field: [4, 4] similarity from the field's cube to the world.
        check: called before each tile; may raise to stop.
    """
    device = next(iter(field.parameters()), torch.zeros(())).device
    origins, directions = field_rays(camera, c2w, world_from_field)

    def tile(start: int) -> Traced:
        check()
        rays_o = torch.from_numpy(origins[start : start + TILE]).to(device)
        rays_d = torch.from_numpy(directions[start : start + TILE]).to(device)
        return Traced(*(part.cpu() for part in trace(field, rays_o, rays_d)))

    with threads_of(torch.get_num_threads()):
        tiles = [tile(start) for start in range(0, len(origins), TILE)]
    shape = (camera.height, camera.width)
    rgb, opacity, t = (torch.cat(parts).numpy() for parts in zip(*tiles, strict=True))
    forward = np.asarray(c2w, dtype=np.float64)[:3, 2] @ np.asarray(world_from_field, dtype=np.float64)[:3, :3]
    depth = t * (directions @ forward).astype(np.float32)
    return Render(rgb.reshape(*shape, 3), depth.reshape(shape), opacity.reshape(shape))
