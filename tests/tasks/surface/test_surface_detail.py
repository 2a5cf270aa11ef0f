"""Maps: the normals and the occlusion of the full mesh come back from a tier's maps; tiers agree with each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, face_normals, sample_texture
from models.mesh.topology import vertex_normals
from tasks.sample import scenes
from tasks.surface.correspond import barycentric, interpolate, match
from tasks.surface.detail import Source, normal_map, occlusion_map, sky_seen
from tasks.surface.make_tiers import Work, coloured, finish
from tasks.surface.methods.isosurface import Options
from tasks.surface.raster import rasterize
from tasks.surface.tiers import TIERS, planned
from tasks.surface.unwrap import unwrap
from tasks.surface.views import View

SIZE = 256


def wavy(subdivisions: int) -> Mesh:
    """A ball with ripples too fine for few faces."""
    body = scenes.sphere(1.0, subdivisions)
    x, y, z = (14.0 * body.vertices).T
    return replace(body, vertices=body.vertices * (1 + 0.01 * (np.sin(x) * np.sin(y) * np.sin(z)))[:, None])


def test_normal_map_holds_what_the_faces_leave_out() -> None:
    full, small = wavy(6), scenes.sphere(1.0, 3)
    atlas = unwrap(small, SIZE)
    texels = rasterize(atlas.corner_uv, SIZE)
    picture = normal_map(small, atlas, texels, Source.of(full))
    assert picture.shape == (SIZE, SIZE, 3)
    # read it back as a viewer does: a frame from the texture coordinates by finite differences on the face
    rng = np.random.default_rng(0)
    pick = rng.integers(0, len(texels.pixel), 4000)
    face = texels.face[pick]
    n = texels.interpolate(small, vertex_normals(small), pick)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    a, b, c = np.moveaxis(small.triangles[face], 1, 0)
    uv = atlas.corner_uv[face]
    edges = np.stack([b - a, c - a], 1)
    slopes = np.linalg.solve(np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], 1), edges)
    t = slopes[:, 0] - n * np.einsum("ni,ni->n", n, slopes[:, 0])[:, None]
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    bitangent = np.cross(n, t) * np.sign(np.einsum("ni,ni->n", np.cross(n, t), slopes[:, 1]))[:, None]
    local = picture.reshape(-1, 3)[texels.pixel[pick]] / 127.5 - 1.0
    drawn = local[:, :1] * t + local[:, 1:2] * bitangent + local[:, 2:] * n
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    places = texels.positions(small, pick)
    caster = RayCaster(full)
    _, nearest = caster.closest(places)
    truth = face_normals(full)[nearest]
    angle = np.degrees(np.arccos(np.clip(np.einsum("ni,ni->n", drawn, truth), -1, 1)))
    plain = np.degrees(np.arccos(np.clip(np.einsum("ni,ni->n", n, truth), -1, 1)))
    assert np.median(plain) > 3.0
    assert np.median(angle) < 0.35 * np.median(plain)


def test_occlusion_follows_the_sky() -> None:
    # below an endless lid nothing is seen of the sky; a lone ball sees all of it
    ball = scenes.sphere(0.2, 3)
    assert sky_seen(ball, Source.of(ball)).min() > 0.97
    bowl = scenes.sphere(1.0, 4)
    inner = replace(bowl, vertices=0.9 * bowl.vertices, faces=bowl.faces[:, ::-1])
    shell = Mesh(
        np.concatenate([bowl.vertices, inner.vertices]), np.concatenate([bowl.faces, inner.faces + len(bowl.vertices)])
    )
    seen = sky_seen(shell, Source.of(shell))
    assert seen[: len(bowl.vertices)].min() > 0.95
    assert seen[len(bowl.vertices) :].mean() < 0.9
    atlas = unwrap(ball, 64)
    texels = rasterize(atlas.corner_uv, 64)
    picture = occlusion_map(ball, texels, np.linspace(0, 1, len(ball.vertices)))
    expected = texels.interpolate(ball, np.linspace(0, 1, len(ball.vertices))[:, None], slice(None))[:, 0] * 255
    assert picture.ravel()[texels.pixel] == pytest.approx(expected, abs=1)


def test_matches_are_found_along_the_normal_and_beside_it() -> None:
    body = scenes.sphere(1.0, 4)
    caster = RayCaster(body)
    rng = np.random.default_rng(1)
    direction = rng.standard_normal((500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for radius in (0.99, 1.01):
        found = match(body, caster, radius * direction, direction, 0.05)
        places = interpolate(body, body.vertices, found)
        assert np.einsum("ni,ni->n", places / np.linalg.norm(places, axis=1, keepdims=True), direction).min() > 0.9999
        assert found.offset == pytest.approx(1.0 - radius, abs=0.005)
    far = match(body, caster, 2.0 * direction, direction, 0.05)
    assert np.linalg.norm(interpolate(body, body.vertices, far), axis=1) == pytest.approx(1.0, abs=0.01)


def test_barycentric_weights_give_the_place_back() -> None:
    body = scenes.torus()
    rng = np.random.default_rng(2)
    face = rng.integers(0, len(body.faces), 300)
    weights = rng.dirichlet((1, 1, 1), 300)
    places = np.einsum("nk,nkc->nc", weights, body.triangles[face])
    assert barycentric(body, face, places) == pytest.approx(weights[:, 1:], abs=1e-6)


def test_plans_hold_budgets_and_bounds() -> None:
    tiers = planned(("thumb", "full", "ar", "high"), 120_000, 2048)
    assert [(t.name, t.faces, t.texture_size) for t in tiers] == [
        ("high", 120_000, 2048),
        ("ar", 100_000, 2048),
        ("thumb", 20_000, 1024),
    ]
    assert all(TIERS[name].faces == 150_000 for name in ("low", "medium", "high"))


def test_smaller_tiers_carry_the_colours_of_the_first(tmp_path: Path) -> None:
    body = scenes.paint(scenes.torus())
    poses = scenes.write_pose_outputs(tmp_path, body, scenes.fibonacci_cameras(16, 240, 200, 3.4), supersample=2)
    views = [View(image, lambda path: tmp_path / path) for image in poses.of_split("train")]
    options = Options(tiers=("thumb", "ar", "medium"), faces=6000, texture_size=512)
    tiers = tuple(
        tier.model_copy(update={"faces": faces})
        for tier, faces in zip(planned(options.tiers, 6000, 512), (6000, 3000, 1500), strict=True)
    )
    box = np.array([[-9.0] * 3, [9.0] * 3])
    grey = np.full(3, 128, np.uint8)
    work = Work(body, views, lambda p, n: np.broadcast_to(grey, (len(p), 3)), box, options, 1, lambda: None)
    heard: list[float] = []
    done, baked = finish(work, tiers, lambda share, what: heard.append(share))
    assert heard == sorted(heard)
    assert baked.photo_share > 0.95
    rng = np.random.default_rng(0)
    for item in done:
        mesh = item.mesh
        assert item.facts["self_intersections"] == 0
        assert len(mesh.faces) <= item.tier.faces
        assert mesh.texture is not None and mesh.normal_map is not None and mesh.occlusion is not None
        assert mesh.texture.shape[:2] == mesh.normal_map.shape[:2] == mesh.occlusion.shape == (512, 512)
        face, bary = rng.integers(0, len(mesh.faces), 5000), rng.dirichlet((1, 1, 1), 5000)[:, 1:]
        corners = mesh.triangles[face]
        places = (
            corners[:, 0]
            + bary[:, :1] * (corners[:, 1] - corners[:, 0])
            + bary[:, 1:] * (corners[:, 2] - corners[:, 0])
        )
        _, nearest = RayCaster(body).closest(places)
        truth = sample_texture(body, nearest, barycentric(body, nearest, places))
        error = np.abs(sample_texture(mesh, face, bary) - truth).max(1) * 255
        assert np.median(error) < 4, item.tier.name
        assert np.percentile(error, 90) < 16, item.tier.name
    whole = coloured(replace(body, colors=None), done[0].mesh, 1, lambda: None)
    assert np.median(np.abs(whole.colors.astype(int) - body.colors.astype(int))) < 4  # type: ignore[union-attr]
