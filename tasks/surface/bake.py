"""The base colour from the photographs: every texel blends the few photos that show its place best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import project
from models.mesh.mesh import ByteArray, FloatArray, IntArray, Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import vertex_normals
from tasks.surface.exposure import correction, log_gains
from tasks.surface.gutter import dilate
from tasks.surface.raster import Texels, ranges, rasterize
from tasks.surface.shading import Levels
from tasks.surface.unwrap import Atlas
from tasks.surface.views import View
from tasks.surface.weights import VertexViews, keep_best, vertex_views

SLOTS = 6
"""Photos that one face can take its colours from."""
BEST = 4
"""Photos that one vertex takes its colours from."""
SMALLEST = 512
"""Texture below which nothing is saved by baking it smaller."""
CHUNK = 1 << 19
"""Texels at a time."""
OUTLIER = 18.0
"""sRGB steps from the median at which a photo's weight has fallen to 1 / e."""
VISIBLE = 0.002
"""Share of the mesh's diagonal by which a point may lie behind the first hit and still be seen."""

Fill = Callable[[FloatArray, FloatArray], ByteArray]
"""Colours [N, 3] for points [N, 3] and normals [N, 3] that no photo shows."""


@dataclass(frozen=True)
class Baked:
    """A texture and what it was made from."""

    texture: ByteArray
    photo_share: float
    """Share of the charts' texels that photographs coloured; the field filled the rest."""
    gains: FloatArray
    """[C, 3] logarithm of each photo's exposure, which was taken out."""
    baked_size: int
    """Pixels along the texture as it was baked: finer texels than the photos' pixels are interpolated."""


@dataclass(frozen=True)
class _Choice:
    """The photos of each face."""

    camera: IntArray
    """[F, SLOTS] view, -1 for none."""
    weight: npt.NDArray[np.float32]
    """[V, C]"""
    safe: npt.NDArray[np.bool_]
    """[V, C]"""
    wide: npt.NDArray[np.bool_]
    """[F] faces so large that an occluder may pass between their corners."""


def bake(
    mesh: Mesh,
    atlas: Atlas,
    views: Sequence[View],
    size: int,
    fill: Fill,
    angle_power: float = 2.0,
    sharpness: float = 3.0,
    equalise: bool = True,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[float], None] = lambda share: None,
) -> Baked:
    """The texture of a mesh.

    Args:
        mesh: in the world, faces as in `atlas`.
        size: pixels along the square texture.
        fill: colours of what no photo shows.
        angle_power: exponent of the cosine of the viewing angle in a photo's weight.
        sharpness: exponent of the weights; high values take the best photo alone, low ones average.
        equalise: estimate and take out one exposure a photo.
    """
    caster = RayCaster(mesh, threads)
    tolerance = VISIBLE * mesh.diagonal
    samples = vertex_views(mesh, views, caster, tolerance, angle_power, check)
    gains = log_gains(samples) if equalise else np.zeros((len(views), 3))
    progress(0.3)
    best = keep_best(samples.weight, BEST, sharpness)
    levels = Levels(mesh, samples, gains, best) if equalise else None
    choice = _choose(mesh, best, samples.safe)
    wanted, size = size, useful_size(samples, _texels_per_unit(mesh, atlas, 1), size)
    texels = rasterize(atlas.corner_uv, size)
    density = _texels_per_unit(mesh, atlas, size)
    rgb = np.zeros((len(texels.pixel), SLOTS, 3), np.uint8)
    weight = np.zeros((len(texels.pixel), SLOTS), np.float16)
    for c, view in enumerate(views):
        check()
        seen = samples.pixels[samples.weight[:, c] > 0, c]
        shrink = max(1, int(np.median(seen) / density)) if len(seen) else 1
        offset = levels.offset(c) if levels else None
        _gather(mesh, texels, choice, c, view, correction(gains[c]), offset, shrink, caster, tolerance, rgb, weight)
        progress(0.3 + 0.5 * (c + 1) / len(views))
    colour, covered = _blend(rgb, weight, check)
    _fill(mesh, texels, colour, ~covered, fill)
    progress(0.9)
    texture = np.zeros((size * size, 3), np.uint8)
    texture[texels.pixel] = colour
    texture = resized(dilate(texture.reshape(size, size, 3), texels.pixel), wanted)
    return Baked(texture, float(covered.mean()) if len(covered) else 0.0, gains, size)


def useful_size(samples: VertexViews, texels_per_unit: float, size: int) -> int:
    """The texture's size, halved while its texels stay at least as fine as the pixels of the sharpest photos.

    Args:
        texels_per_unit: texels along one unit of length for a texture of one pixel.
    """
    best = np.where(samples.weight > 0, samples.pixels, 0.0).max(1)
    if not (best > 0).any():
        return size
    finest = float(np.percentile(best[best > 0], 90))
    while size >= 2 * SMALLEST and size % 2 == 0 and texels_per_unit * size / 2 >= finest:
        size //= 2
    return size


def resized(texture: ByteArray, size: int) -> ByteArray:
    """The texture at another size: smaller by averaging, larger by smooth interpolation."""
    if texture.shape[0] == size:
        return texture
    kind = Image.Resampling.BOX if texture.shape[0] > size else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(texture).resize((size, size), kind))


def _texels_per_unit(mesh: Mesh, atlas: Atlas, size: int) -> float:
    """Texels along one unit of length on the surface, on average."""
    a, b = atlas.corner_uv[:, 1] - atlas.corner_uv[:, 0], atlas.corner_uv[:, 2] - atlas.corner_uv[:, 0]
    covered = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() * size * size
    p, q, r = np.moveaxis(mesh.triangles, 1, 0)
    return float(np.sqrt(covered / max(float(np.linalg.norm(np.cross(q - p, r - p), axis=1).sum()), 1e-300)))


def _choose(mesh: Mesh, weight: npt.NDArray[np.float32], safe: npt.NDArray[np.bool_]) -> _Choice:
    """The best photos of each face: those that weigh most at any of its corners."""
    count = min(SLOTS, weight.shape[1])
    camera = np.full((len(mesh.faces), SLOTS), -1, np.int64)
    for start in range(0, len(mesh.faces), CHUNK // 8):
        part = slice(start, start + CHUNK // 8)
        score = weight[mesh.faces[part]].max(1)
        best = np.argpartition(score, -count, axis=1)[:, -count:]
        camera[part, :count] = np.where(np.take_along_axis(score, best, 1) > 0, best, -1)
    corners = mesh.triangles
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
    return _Choice(camera, weight, safe, longest > 1.5 * np.median(longest))


def _gather(
    mesh: Mesh,
    texels: Texels,
    choice: _Choice,
    c: int,
    view: View,
    tables: tuple[ByteArray, npt.NDArray[np.bool_]],
    offset: npt.NDArray[np.float32] | None,
    shrink: int,
    caster: RayCaster,
    tolerance: float,
    rgb: ByteArray,
    weight: npt.NDArray[np.float16],
) -> None:
    """Write what view `c` shows at the texels of the faces that chose it into `rgb` and `weight` [T, SLOTS]."""
    face, slot = np.nonzero(choice.camera == c)
    if len(face) == 0:
        return
    picture = view.rgb()
    mask = view.mask()
    table, clipped = tables
    camera, c2w = view.camera, view.c2w
    if shrink > 1:
        # the texture is coarser than the photo: averaging first keeps fine detail from turning into noise
        picture = np.asarray(Image.fromarray(picture).reduce(shrink))
    step = camera.resized(picture.shape[1], picture.shape[0])
    # homogeneous pixels interpolate exactly over a face: only the vertices have to be projected
    uv, depth = project(step, c2w, mesh.vertices)
    level = np.zeros((len(depth), 0)) if offset is None else offset
    corner_values = np.concatenate([uv * depth[:, None], depth[:, None], choice.weight[:, c, None], level], 1)
    corner_values = corner_values.astype(np.float32)[mesh.faces]
    doubtful_face = choice.wide | ~choice.safe[mesh.faces, c].all(1)
    count = texels.start[face + 1] - texels.start[face]
    index = ranges(texels.start[face], count)
    into = np.repeat(slot, count)
    for start in range(0, len(index), CHUNK):
        part, where = index[start : start + CHUNK], into[start : start + CHUNK]
        owner = texels.face[part]
        local = np.matmul(texels.bary[part, None], corner_values[owner])[:, 0]
        depth, value = local[:, 2], local[:, 3]
        uv = local[:, :2] / np.maximum(depth, 1e-12)[:, None]
        usable = (depth > 0) & (uv > 0.5).all(1) & (uv[:, 0] < step.width - 0.5) & (uv[:, 1] < step.height - 0.5)
        doubtful = np.nonzero(usable & doubtful_face[owner])[0]
        usable[doubtful] = caster.visible(texels.positions(mesh, part[doubtful]), c2w[:3, 3], tolerance)
        if mask is not None:
            column, row = np.clip(
                (uv / (step.width, step.height) * (camera.width, camera.height)).astype(np.int64).T,
                0,
                [[camera.width - 1], [camera.height - 1]],
            )
            usable &= mask[row, column]
        raw = bilinear(picture, uv)
        # what the sensor clipped says little about the colour
        value = np.where(clipped[raw, [0, 1, 2]].any(1), 0.1 * value, value)
        shown = table[raw, [0, 1, 2]]
        if offset is not None:
            shown = np.clip(shown + local[:, 4:7] + 0.5, 0, 255).astype(np.uint8)
        rgb[part, where] = shown
        weight[part, where] = np.where(usable, np.maximum(value, 1e-4 * (value > 0)), 0.0)


def bilinear(picture: ByteArray, uv: FloatArray | npt.NDArray[np.float32]) -> ByteArray:
    """[N, 3] colours of a picture at pixel positions [N, 2] (centres at +0.5)."""
    height, width = picture.shape[:2]
    x = np.clip(uv[:, 0] - 0.5, 0, width - 1.001).astype(np.float32)
    y = np.clip(uv[:, 1] - 0.5, 0, height - 1.001).astype(np.float32)
    left, top = x.astype(np.int64), y.astype(np.int64)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    flat, base = picture.reshape(-1, 3), top * width + left
    right, below = (1 if width > 1 else 0), (width if height > 1 else 0)
    upper = flat[base] * (1 - fx) + flat[base + right] * fx
    lower = flat[base + below] * (1 - fx) + flat[base + below + right] * fx
    values: ByteArray = (upper * (1 - fy) + lower * fy + 0.5).astype(np.uint8)
    return values


def _blend(
    rgb: ByteArray, weight: npt.NDArray[np.float16], check: Callable[[], None]
) -> tuple[ByteArray, npt.NDArray[np.bool_]]:
    """Weighted mean [T, 3] of each texel's photos, those far from their median held back; and where there was any."""
    colour = np.zeros((len(rgb), 3), np.uint8)
    covered = np.zeros(len(rgb), bool)
    for start in range(0, len(rgb), CHUNK):
        check()
        part = slice(start, start + CHUNK)
        w, values = weight[part].astype(np.float32), rgb[part].astype(np.float32)
        count = (w > 0).sum(1)
        ordered = np.sort(np.where((w > 0)[..., None], values, 1e9), axis=1)
        rows = np.arange(len(w))
        middle = np.maximum(count, 1)
        median = (ordered[rows, (middle - 1) // 2] + ordered[rows, middle // 2]) / 2.0
        far = np.abs(values - median[:, None]).max(2)
        # two photos alone cannot tell which of them is wrong
        trust = np.where((count >= 3)[:, None], np.exp(-((far / OUTLIER) ** 2)) + 1e-3, 1.0)
        w = w * trust
        total = w.sum(1)
        mean = np.einsum("ns,nsc->nc", w, values) / np.maximum(total, 1e-12)[:, None]
        colour[part] = np.clip(mean + 0.5, 0, 255).astype(np.uint8)
        covered[part] = total > 0
    return colour, covered


def _fill(mesh: Mesh, texels: Texels, colour: ByteArray, missing: npt.NDArray[np.bool_], fill: Fill) -> None:
    index = np.nonzero(missing)[0]
    normals = vertex_normals(mesh)
    for start in range(0, len(index), CHUNK):
        part = index[start : start + CHUNK]
        around = np.einsum("nk,nkc->nc", texels.bary[part], normals[mesh.faces[texels.face[part]]])
        around /= np.maximum(np.linalg.norm(around, axis=1, keepdims=True), 1e-12)
        colour[part] = fill(texels.positions(mesh, part), around)
