"""Pictures of a field: colour, depth, opacity and normals along given rays or through a camera."""

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
from models.fields.threads import threads_of
from models.representation import SOLID, Render

TILE = 1 << 13
"""Rays that are rendered together."""
OPAQUE = 1e-3
"""Transmittance below which a ray is not followed further."""


class Traced(NamedTuple):
    """What rays see."""

    rgb: Tensor
    """[R, 3] sRGB, the surroundings included."""
    opacity: Tensor
    """[R] of what is inside the cube."""
    t: Tensor
    """[R] mean distance of what is inside the cube, in field units; infinite where the opacity is below SOLID."""
    normals: Tensor | None = None
    """[R, 3] unit vectors along the field's axes, zero where the opacity is below SOLID; None if not asked for."""


@torch.no_grad()
def trace(field: Field, rays_o: Tensor, rays_d: Tensor, normals: bool = False, backdrop: float | None = None) -> Traced:
    """What rays [R, 3] (field coordinates, unit directions) see, without gradients and noise.

    Args:
        normals: also the normals, from the slope of the field's value.
        backdrop: sRGB grey to show instead of what is outside the cube.
    """
    t_in, t_out = cube_interval(rays_o, rays_d, field.near, field.extent)
    half = torch.full_like(t_in, 0.5)
    marched = march(rays_o, rays_d, t_in, t_out, field.step, half, field.grid)
    value, feature = field.query(marched.places(rays_o, rays_d))
    density = field.density_along(value, marched)
    samples, kept = marched.leading(visible_counts(density, marched.offsets, field.step, OPAQUE))
    density, t, directions = density[kept], samples.t, rays_d.index_select(0, samples.ray)
    places = samples.places(rays_o, rays_d)
    rgb = field.color(places, directions, feature.t().index_select(1, kept).t())
    light, through, _ = composite(density, rgb, t, samples.offsets, field.step)
    moment = composite(density, t[:, None].expand(-1, 3), t, samples.offsets, field.step).light[:, 0]
    opacity = 1.0 - through
    if backdrop is None:
        front, before, behind = field.surroundings(rays_o, rays_d, t_in, t_out, through > OPAQUE)
        seen = front + before[:, None] * (light + through[:, None] * behind)
    else:
        seen = light + through[:, None] * backdrop
    distance = torch.where(opacity >= SOLID, moment / opacity.clamp(min=SOLID), torch.inf)
    traced = Traced(seen.clamp(0.0, 1.0), opacity, distance)
    if not normals:
        return traced
    facing = torch.nn.functional.normalize(outwards(field, places), dim=1)
    mean = torch.nn.functional.normalize(composite(density, facing, t, samples.offsets, field.step).light, dim=1)
    return traced._replace(normals=mean * (opacity >= SOLID)[:, None])


def outwards(field: Field, x: Tensor) -> Tensor:
    """[N, 3] directions (not of unit length) in which points [N, 3] lie further outside of what is there."""
    slopes = [field.gradient(part) for part in x.split(TILE)] if len(x) else [x]  # type: ignore[no-untyped-call]
    slope = torch.cat(slopes)
    return -slope if field.quantity == "density" else slope


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
    normals: bool = False,
    backdrop: float | None = None,
) -> Render:
    """The picture that a camera takes of a field.

    Args:
        c2w: [4, 4] camera to world, OpenCV axes.
        world_from_field: [4, 4] similarity from the field's cube to the world.
        check: called before each tile; may raise to stop.
        normals, backdrop: as `trace`'s.
    """
    device = next(iter(field.parameters()), torch.zeros(())).device
    origins, directions = field_rays(camera, c2w, world_from_field)

    def tile(start: int) -> Traced:
        check()
        rays_o = torch.from_numpy(origins[start : start + TILE]).to(device)
        rays_d = torch.from_numpy(directions[start : start + TILE]).to(device)
        seen = trace(field, rays_o, rays_d, normals, backdrop)
        facing = None if seen.normals is None else seen.normals.cpu()
        return Traced(seen.rgb.cpu(), seen.opacity.cpu(), seen.t.cpu(), facing)

    with threads_of(torch.get_num_threads()):
        tiles = [tile(start) for start in range(0, len(origins), TILE)]
    shape = (camera.height, camera.width)
    rgb = torch.cat([part.rgb for part in tiles]).numpy()
    opacity, t = (torch.cat(parts).numpy() for parts in zip(*((part.opacity, part.t) for part in tiles), strict=True))
    similarity = np.asarray(world_from_field, dtype=np.float64)
    depth = t * (directions @ (np.asarray(c2w, dtype=np.float64)[:3, 2] @ similarity[:3, :3])).astype(np.float32)
    picture = Render(rgb.reshape(*shape, 3), depth.reshape(shape), opacity.reshape(shape))
    if not normals:
        return picture
    facing = torch.cat([part.normals for part in tiles if part.normals is not None]).numpy()
    turned = facing @ (similarity[:3, :3].T / similarity_scale(similarity))
    return picture._replace(normals=turned.astype(np.float32).reshape(*shape, 3))
