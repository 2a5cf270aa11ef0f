"""Pictures for the report and the preview: the studio, error maps, colour maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.camera import Camera, Vector3, pixel_rays, rotation_between
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# Viridis at five places (van der Walt and Smith 2015): even steps also for colour-blind eyes and in grey print
_VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]) / 255.0
OUTLINE = np.array([1.0, 0.55, 0.0], np.float32)
"""sRGB of the outlines of masks."""
UNSEEN = 0.62
"""Grey of what is not judged."""
BACKDROP = np.array([[0.965, 0.96, 0.95], [0.87, 0.862, 0.85]])
"""sRGB of the studio's backdrop at the top and at the bottom."""
_FIELD_OF_VIEW_DEG = 28.0
_AO_RAYS = 24


def viridis(values: npt.ArrayLike) -> Float32Array:
    """[..., 3] sRGB of values [...] from 0 (violet) to 1 (yellow), clipped."""
    x = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0) * (len(_VIRIDIS) - 1)
    low = np.minimum(x.astype(np.int64), len(_VIRIDIS) - 2)
    share = (x - low)[..., None]
    return np.asarray(_VIRIDIS[low] * (1 - share) + _VIRIDIS[low + 1] * share, dtype=np.float32)


def to_jpeg(rgb: npt.ArrayLike, max_edge_px: int | None = None, quality: int = 85) -> bytes:
    """A JPEG file of [H, W, 3] sRGB in [0, 1] (or uint8), shrunk to `max_edge_px` along its longer side."""
    from PIL import Image

    array = np.asarray(rgb)
    if array.dtype != np.uint8:
        array = (np.clip(array, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    picture = Image.fromarray(array)
    if max_edge_px and max(picture.size) > max_edge_px:
        picture.thumbnail((max_edge_px, max_edge_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def data_uri(data: bytes, media_type: str = "image/jpeg") -> str:
    """`data` as a URI that a page can hold."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def error_map(prediction: Float32Array, target: Float32Array, mask: BoolArray, full_scale: float) -> Float32Array:
    """[H, W, 3] mean absolute difference over the channels, `full_scale` = yellow; the target, dimmed, off the mask."""
    difference = np.abs(prediction - target).mean(-1) / full_scale
    return masked(target, mask, viridis(difference))


def masked(picture: Float32Array, mask: BoolArray, inside: Float32Array | None = None) -> Float32Array:
    """[H, W, 3] a picture, or what is to be shown `inside`, dimmed and grey off the mask [H, W]."""
    dimmed = 0.25 * picture.mean(-1, keepdims=True) + 0.65
    kept = picture if inside is None else inside
    return np.asarray(np.where(mask[..., None], kept, dimmed), dtype=np.float32)


def outlined(picture: Float32Array, mask: BoolArray) -> Float32Array:
    """[H, W, 3] a picture with the outline of a mask [H, W] in orange, about a 150th of the picture wide."""
    from scipy import ndimage

    wide = max(1, round(max(mask.shape) / 300))
    inner = ndimage.binary_erosion(mask, iterations=wide, border_value=1)
    band = ndimage.binary_dilation(mask, iterations=wide) & ~inner
    return np.asarray(np.where(band[..., None], OUTLINE, picture), dtype=np.float32)


def orbit(
    vertices: FloatArray, up: Vector3, front: FloatArray, azimuth_deg: float, elevation_deg: float, size_px: int
) -> tuple[Camera, FloatArray]:
    """A square studio camera that looks at the middle of `vertices` [N, 3] and holds all of them.

    Args:
        front: [3] direction from the object from which azimuth 0 is seen; azimuths turn about `up`.
    """
    focal = 0.5 * size_px / np.tan(np.radians(_FIELD_OF_VIEW_DEG) / 2)
    camera = Camera(width=size_px, height=size_px, fx=focal, fy=focal, cx=size_px / 2, cy=size_px / 2)
    turn = rotation_between(up, (0.0, 0.0, 1.0))
    ahead = turn @ front
    azimuth = np.arctan2(ahead[1], ahead[0]) + np.radians(azimuth_deg)
    elevation = np.radians(elevation_deg)
    away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    x = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    axes = np.stack([x, np.cross(-away, x), -away], 1)
    local = vertices @ turn.T
    centre = (local.min(0) + local.max(0)) / 2
    seen = (local - centre) @ axes
    # the nearest distance at which every vertex is inside 86 % of the frame
    half = 0.86 * np.tan(np.radians(_FIELD_OF_VIEW_DEG) / 2)
    distance = float((np.abs(seen[:, :2]).max(1) / half - seen[:, 2]).max())
    c2w = np.eye(4)
    c2w[:3, :3] = turn.T @ axes
    c2w[:3, 3] = turn.T @ (centre + distance * away)
    return camera, c2w


def studio(
    mesh: Mesh, caster: RayCaster, up: Vector3, camera: Camera, c2w: FloatArray, supersample: int = 2, seed: int = 0
) -> Float32Array:
    """[H, W, 3] the textured mesh before a light backdrop, gently shaded, on a soft contact shadow."""
    normal_up = np.array(up) / np.linalg.norm(up)
    heights = mesh.vertices @ normal_up
    span = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    ground, half = float(heights.min()), camera.resized(max(1, camera.width // 2), max(1, camera.height // 2))
    rays_o, rays_d = pixel_rays(half, c2w)
    hits = caster.cast(rays_o, rays_d)
    down = rays_d @ normal_up
    t_ground = np.where(down < -1e-6, (ground - rays_o @ normal_up) / np.minimum(down, -1e-6), np.inf)
    on_mesh, on_ground = hits.face >= 0, ~(hits.face >= 0) & np.isfinite(t_ground)
    facing = np.where((hits.normal * rays_d).sum(1, keepdims=True) > 0, -hits.normal, hits.normal)
    normals = np.where(on_mesh[:, None], facing, normal_up)
    t = np.where(on_mesh, hits.t, np.where(on_ground, t_ground, 0.0)).astype(np.float64)
    points = rays_o + t[:, None] * rays_d + 2e-3 * span * normals
    used = np.flatnonzero(on_mesh | on_ground)
    light = np.ones(len(rays_o))
    light[used] = _openness(caster, points[used], normals[used], 0.6 * span, seed)
    shape = (half.height, half.width)
    on_mesh_map = on_mesh.reshape(shape)
    mesh_light = _upsampled(_smooth(light.reshape(shape), on_mesh_map, 1.2), camera)
    ground_light = _upsampled(_smooth(light.reshape(shape), ~on_mesh_map, 3.0), camera)
    blend = np.linspace(0, 1, camera.height)[:, None, None]
    backdrop = (BACKDROP[0] * (1 - blend) + BACKDROP[1] * blend) * (0.45 + 0.55 * ground_light[..., None])
    shaded = _shaded(mesh, caster, camera, c2w, normal_up, supersample)
    rgb, share = shaded[..., :3], shaded[..., 3:]
    lit = rgb * (0.55 + 0.45 * mesh_light[..., None])
    return np.asarray(lit + (1 - share) * backdrop, dtype=np.float32)


def _shaded(
    mesh: Mesh, caster: RayCaster, camera: Camera, c2w: FloatArray, up: FloatArray, supersample: int
) -> Float32Array:
    """[H, W, 4] colours times their share of the pixel, and that share: the mesh lit from above the camera."""
    fine = camera.resized(camera.width * supersample, camera.height * supersample)
    picture = render_textured((mesh, caster), fine, c2w)
    toward = -np.asarray(c2w)[:3, 2] + 0.8 * up
    toward /= np.linalg.norm(toward)
    lit = 0.86 + 0.2 * np.clip(picture.normal @ toward, 0, 1)
    rgba = np.concatenate([picture.rgb * lit[..., None], np.ones_like(lit)[..., None]], -1) * picture.mask[..., None]
    blocks = rgba.reshape(camera.height, supersample, camera.width, supersample, 4)
    return np.asarray(blocks.mean((1, 3)), dtype=np.float32)


def _openness(caster: RayCaster, points: FloatArray, normals: FloatArray, reach: float, seed: int) -> FloatArray:
    """[N] share of cosine-distributed rays from each point that leave without a hit within `reach`."""
    rng = np.random.default_rng(seed)
    opened = np.zeros(len(points))
    for k in range(_AO_RAYS):
        # one stratum of the height a round keeps the noise down
        z = 1.0 - 2.0 * (k + rng.random(len(points))) / _AO_RAYS
        angle = rng.random(len(points)) * 2 * np.pi
        ring = np.sqrt(np.maximum(0.0, 1 - z * z))
        directions = normals + 0.999 * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        opened += caster.cast(points, directions).t > reach
    return opened / _AO_RAYS


def _smooth(values: FloatArray, mask: BoolArray, sigma: float) -> FloatArray:
    """Blur values [H, W] among the pixels of a mask, and carry them a little beyond it."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(mask.astype(np.float64), sigma)
    blurred = gaussian_filter(np.where(mask, values, 0.0), sigma) / np.maximum(weight, 1e-6)
    return np.asarray(np.where(weight > 1e-4, blurred, 1.0))


def _upsampled(values: FloatArray, camera: Camera) -> FloatArray:
    from PIL import Image

    small = Image.fromarray(values.astype(np.float32))
    return np.asarray(small.resize((camera.width, camera.height), Image.Resampling.BILINEAR), dtype=np.float64)


def distance_picture(
    shown: RayCaster,
    other: RayCaster,
    camera: Camera,
    c2w: FloatArray,
    full_scale: float,
    judged: Callable[[FloatArray], BoolArray],
) -> Float32Array:
    """[H, W, 3] a surface coloured by its exact distance to another surface of the same frame, pixel by pixel.

    Args:
        full_scale: the distance that is yellow.
        judged: points [N, 3] -> whether each counts [N]; the others are grey.
    """
    rays_o, rays_d = pixel_rays(camera, c2w)
    hits = shown.cast(rays_o, rays_d)
    hit = hits.face >= 0
    points = rays_o[hit] + hits.t[hit, None] * rays_d[hit]
    colours = viridis(other.distance(points) / full_scale)
    colours[~judged(points)] = UNSEEN
    shade = 0.8 + 0.2 * np.abs((hits.normal[hit] * rays_d[hit]).sum(1))
    picture = np.full((len(rays_o), 3), BACKDROP[0], dtype=np.float32)
    picture[hit] = colours * shade[:, None]
    return picture.reshape(camera.height, camera.width, 3)
