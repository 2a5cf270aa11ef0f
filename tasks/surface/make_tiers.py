"""From the full mesh to the finished tiers: fewer faces, texture coordinates, colours, normals, occlusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.camera import FloatArray
from models.mesh.mesh import ByteArray, Mesh
from models.mesh.raycast import RayCaster, sample_texture
from models.mesh.topology import vertex_normals
from tasks.surface.bake import Baked, Fill, bake, resized
from tasks.surface.checks import check_surface, statistics
from tasks.surface.correspond import match
from tasks.surface.decimate import decimate
from tasks.surface.detail import REACH, Source, normal_map, occlusion_map, resized_normals, sky_seen
from tasks.surface.gutter import dilate
from tasks.surface.options import SurfaceOptions
from tasks.surface.raster import Texels, rasterize
from tasks.surface.tiers import Tier
from tasks.surface.unwrap import Atlas, textured, unwrap
from tasks.surface.views import View

LARGEST_NORMALS = 2048
"""Pixels along the normal map as it is baked: the full mesh holds nothing finer; larger maps are interpolated."""
CHUNK = 1 << 19

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Finished:
    """One tier: a mesh with its maps."""

    tier: Tier
    mesh: Mesh
    facts: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What all tiers are made from."""

    full: Mesh
    views: Sequence[View]
    fill: Fill
    box: FloatArray
    """[2, 3] where vertices may lie."""
    options: SurfaceOptions
    threads: int
    check: Callable[[], None]


@dataclass(frozen=True)
class _Body:
    """One decimated shape, unwrapped; several tiers may share it."""

    mesh: Mesh
    atlas: Atlas
    asset: Mesh
    """Textured, its corners split along the seams."""
    texels: Texels
    seen: FloatArray
    """[V] sky that each vertex sees."""
    facts: dict[str, Any]


def finish(work: Work, tiers: Sequence[Tier], progress: Progress) -> tuple[list[Finished], Baked]:
    """All tiers (largest first); the first shape takes its colours from the photographs, the others from it."""
    source = Source.of(work.full, work.threads)
    done: list[Finished] = []
    shape = replace(work.full, colors=None, seen=None)
    first: Mesh | None = None
    baked: Baked | None = None
    groups = [[t for t in tiers if t.faces == faces] for faces in dict.fromkeys(tier.faces for tier in tiers)]
    for number, group in enumerate(groups):
        start, step = number / len(groups), 1.0 / len(groups)
        progress(start, f"{group[0].faces} faces")
        body = _body(shape, group, source, work)
        shape = body.mesh
        size = max(tier.texture_size for tier in group)
        progress(start + 0.3 * step, "colours")
        if first is None or baked is None:
            baked = _from_photos(body, size, work)
            colour = baked.texture
            first = replace(body.asset, texture=colour)
        else:
            colour = _from_mesh(body, size, first, work)
        progress(start + 0.8 * step, "normals and occlusion")
        normals = normal_map(body.mesh, body.atlas, body.texels, source, work.check)
        occlusion = occlusion_map(body.mesh, body.texels, body.seen)
        for tier in group:
            mesh = replace(
                body.asset,
                texture=resized(colour, tier.texture_size),
                normal_map=resized_normals(normals, tier.texture_size),
                occlusion=resized(occlusion, tier.texture_size),
            )
            done.append(Finished(tier, mesh, {**body.facts, "texture_size": tier.texture_size}))
    assert baked is not None
    return done, baked


def coloured(full: Mesh, asset: Mesh, threads: int, check: Callable[[], None]) -> Mesh:
    """The full mesh with the colours that the textured asset has at the same places."""
    caster, normals = RayCaster(asset, threads), vertex_normals(full)
    colors = np.zeros((len(full.vertices), 3), np.uint8)
    for start in range(0, len(colors), CHUNK):
        check()
        part = slice(start, start + CHUNK)
        found = match(asset, caster, full.vertices[part], normals[part], REACH * full.diagonal)
        colors[part] = (sample_texture(asset, found.face, found.bary) * 255.0 + 0.5).astype(np.uint8)
    return replace(full, colors=colors)


def _body(shape: Mesh, group: Sequence[Tier], source: Source, work: Work) -> _Body:
    small = decimate(shape, group[0].faces, work.threads)
    check_surface(small.mesh, work.box)
    work.check()
    size = max(tier.texture_size for tier in group)
    atlas = unwrap(small.mesh, size)
    work.check()
    facts = {
        **statistics(small.mesh),
        "self_intersections": small.self_intersections,
        "charts": atlas.charts,
        "texture_utilization": atlas.utilization,
    }
    return _Body(
        small.mesh,
        atlas,
        textured(small.mesh, atlas),
        rasterize(atlas.corner_uv, min(size, LARGEST_NORMALS)),
        sky_seen(small.mesh, source, work.check),
        facts,
    )


def _from_photos(body: _Body, size: int, work: Work) -> Baked:
    return bake(
        body.mesh,
        body.atlas,
        work.views,
        size,
        work.fill,
        angle_power=work.options.angle_power,
        sharpness=work.options.blend_sharpness,
        equalise=work.options.equalise,
        threads=work.threads,
        check=work.check,
    )


def _from_mesh(body: _Body, size: int, first: Mesh, work: Work) -> ByteArray:
    """The colours that the first shape has at the same places."""
    texels = body.texels if body.texels.size == size else rasterize(body.atlas.corner_uv, size)
    texture = first.texture
    if texture is not None and texture.shape[0] > size:
        # no finer than what is written: single texels of a larger texture would be noise
        texture = resized(texture, size)
    donor = replace(first, texture=texture)
    caster, normals = RayCaster(donor, work.threads), vertex_normals(body.mesh)
    picture = np.zeros((size * size, 3), np.uint8)
    for start in range(0, len(texels.pixel), CHUNK):
        work.check()
        part = slice(start, start + CHUNK)
        n = texels.interpolate(body.mesh, normals, part)
        n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)
        found = match(donor, caster, texels.positions(body.mesh, part), n, REACH * donor.diagonal)
        picture[texels.pixel[part]] = (sample_texture(donor, found.face, found.bary) * 255.0 + 0.5).astype(np.uint8)
    return dilate(picture.reshape(size, size, 3), texels.pixel)
