"""Texture coordinates and baking: what was painted on a mesh and photographed comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.camera import PoseSet
from models.mesh.mesh import Mesh
from models.mesh.raycast import render_textured, sample_texture
from tasks.sample import scenes
from tasks.surface.bake import Baked, bake, bilinear
from tasks.surface.exposure import linear_from_srgb, srgb_from_linear
from tasks.surface.gutter import dilate
from tasks.surface.raster import rasterize
from tasks.surface.unwrap import Atlas, split, textured, unwrap
from tasks.surface.views import View
from tasks.surface.weights import keep_best

SIZE = 512
MAGENTA = np.array([255, 0, 255], np.uint8)


def magenta(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0, abs=1e-3)
    return np.broadcast_to(MAGENTA, (len(points), 3))


@pytest.fixture(scope="module")
def body() -> Mesh:
    return scenes.paint(scenes.torus())


@pytest.fixture(scope="module")
def atlas(body: Mesh) -> Atlas:
    return unwrap(body, SIZE)


@pytest.fixture(scope="module")
def capture(body: Mesh, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PoseSet]:
    folder = tmp_path_factory.mktemp("bake")
    images = scenes.fibonacci_cameras(16, 240, 200, 3.4)
    return folder, scenes.write_pose_outputs(folder, body, images, supersample=2)


def views_of(folder: Path, poses: PoseSet) -> list[View]:
    return [View(image, lambda path: folder / path) for image in poses.of_split("train")]


def error(asset: Mesh, truth: Mesh) -> np.ndarray:
    """[N] largest difference of the channels, in sRGB steps, at places all over the surface."""
    rng = np.random.default_rng(0)
    face = rng.integers(0, len(truth.faces), 20_000)
    bary = rng.dirichlet((1, 1, 1), len(face))[:, 1:]
    difference: np.ndarray = np.abs(sample_texture(asset, face, bary) - sample_texture(truth, face, bary)).max(1) * 255
    return difference


def baked_asset(body: Mesh, atlas: Atlas, baked: Baked) -> Mesh:
    return replace(textured(body, atlas), texture=baked.texture, colors=None)


# --- unwrapping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [10**6, 500])
def test_charts_fill_the_square_without_overlap(body: Mesh, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.surface.unwrap.PART_FACES", part)
    atlas = unwrap(body, SIZE)
    assert atlas.corner_uv.min() >= 0
    assert atlas.corner_uv.max() <= 1
    assert atlas.utilization > 0.35
    # each face drawn on its own and a little shrunk: no texel may be drawn twice
    centre = atlas.corner_uv.mean(1, keepdims=True)
    shrunk = centre + (atlas.corner_uv - centre) * (1 - 1e-6)
    drawn = sum(len(rasterize(shrunk[k :: len(shrunk)], SIZE).pixel) for k in range(len(shrunk)))
    assert drawn <= 1.001 * len(rasterize(shrunk, SIZE).pixel)


def test_texture_space_is_spent_evenly(body: Mesh, atlas: Atlas) -> None:
    a, b = atlas.corner_uv[:, 1] - atlas.corner_uv[:, 0], atlas.corner_uv[:, 2] - atlas.corner_uv[:, 0]
    flat = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    p, q, r = np.moveaxis(body.triangles, 1, 0)
    ratio = flat / np.linalg.norm(np.cross(q - p, r - p), axis=1)
    assert np.percentile(ratio, 95) < 2.5 * np.percentile(ratio, 5)


def test_parts_hold_every_face_once(body: Mesh) -> None:
    parts = split(body, 300)
    assert max(len(part) for part in parts) <= 300
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(body.faces)))


def test_textured_mesh_keeps_every_corner(body: Mesh, atlas: Atlas) -> None:
    asset = textured(body, atlas)
    assert asset.uv is not None
    assert asset.triangles == pytest.approx(body.triangles)
    assert asset.uv[asset.faces] == pytest.approx(atlas.corner_uv)
    assert len(asset.vertices) < 1.6 * len(body.vertices)


def test_rasterizer_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 1, (1, 3, 2))
    texels = rasterize(corner, 64)
    row, column = np.divmod(np.arange(64 * 64), 64)
    p = np.stack([(column + 0.5) / 64, 1 - (row + 0.5) / 64], 1)
    a, b, c = corner[0]
    sides = [np.cross(v - u, p - u) for u, v in ((a, b), (b, c), (c, a))]
    inside = np.all(np.stack(sides) > 0, 0) | np.all(np.stack(sides) < 0, 0)
    assert np.array_equal(texels.pixel, np.nonzero(inside)[0])
    back = np.einsum("nk,kc->nc", texels.bary, corner[0])
    assert back == pytest.approx(p[inside], abs=1e-5)


# --- baking ---------------------------------------------------------------------------------------------------------


def test_bake_brings_the_paint_back(body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet]) -> None:
    baked = bake(body, atlas, views_of(*capture), SIZE, magenta)
    asset = baked_asset(body, atlas, baked)
    assert baked.photo_share > 0.97
    assert np.median(error(asset, body)) < 3
    assert np.percentile(error(asset, body), 90) < 8
    folder, poses = capture
    image = poses.of_split("heldout")[0]
    view = render_textured(asset, image.camera, image.c2w, scenes.GREY, 2)
    photo = np.asarray(Image.open(folder / str(image.image)), np.float32) / 255.0
    psnr = -10 * np.log10(np.mean((view.rgb - photo)[view.mask] ** 2))
    assert psnr > 30


def test_exposures_are_equalised(body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet], tmp_path: Path) -> None:
    folder, poses = capture
    (tmp_path / "images").mkdir()
    gains = np.where(np.arange(16) % 2 == 0, 0.8, 1.25)
    for k, image in enumerate(poses.images):
        light = linear_from_srgb(np.asarray(Image.open(folder / str(image.image)), np.float64) / 255.0) * gains[k]
        Image.fromarray((srgb_from_linear(light) * 255 + 0.5).astype(np.uint8)).save(
            tmp_path / str(image.image), quality=97, subsampling=0
        )
    views = views_of(tmp_path, poses)
    even = bake(body, atlas, views, SIZE, magenta)
    true = np.log([gains[k] for k, image in enumerate(poses.images) if image.split == "train"])
    assert even.gains == pytest.approx(np.repeat((true - true.mean())[:, None], 3, 1), abs=0.03)
    uneven = bake(body, atlas, views, SIZE, magenta, equalise=False)
    assert np.median(error(baked_asset(body, atlas, even), body)) < 4
    assert np.median(error(baked_asset(body, atlas, uneven), body)) > 8


def test_levels_that_change_within_photos_are_evened(
    body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every photo is brighter towards another side, which no gain can take out."""
    folder, poses = capture
    (tmp_path / "images").mkdir()
    for k, image in enumerate(poses.images):
        picture = np.asarray(Image.open(folder / str(image.image)), np.float64)
        turn = np.array([np.cos(2.4 * k), np.sin(2.4 * k)])
        row, column = np.meshgrid(*(np.linspace(-1, 1, n) for n in picture.shape[:2]), indexing="ij")
        ramp = 1.0 + 0.25 * (turn[0] * column + turn[1] * row)
        Image.fromarray(np.clip(picture * ramp[..., None], 0, 255).astype(np.uint8)).save(
            tmp_path / str(image.image), quality=97, subsampling=0
        )
    views = views_of(tmp_path, poses)
    evened = np.median(error(baked_asset(body, atlas, bake(body, atlas, views, SIZE, magenta)), body))
    monkeypatch.setattr("tasks.surface.shading.ROUNDS", 0)
    monkeypatch.setattr("tasks.surface.shading.MOST", 0.0)
    before = np.median(error(baked_asset(body, atlas, bake(body, atlas, views, SIZE, magenta)), body))
    assert evened < 0.8 * before, (evened, before)


def test_a_stain_in_one_photo_is_rejected(
    body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet], tmp_path: Path
) -> None:
    folder, poses = capture
    (tmp_path / "images").mkdir()
    for k, image in enumerate(poses.images):
        picture = np.array(Image.open(folder / str(image.image)))
        if k == 5:
            picture[60:140, 80:160] = 255, 0, 0
        Image.fromarray(picture).save(tmp_path / str(image.image), quality=97, subsampling=0)
    asset = baked_asset(body, atlas, bake(body, atlas, views_of(tmp_path, poses), SIZE, magenta))
    assert np.percentile(error(asset, body), 98) < 25


def test_an_occluder_inside_a_large_face_is_noticed(tmp_path: Path) -> None:
    floor = scenes.box((3.0, 3.0, 0.1), subdivisions=2)
    ball = scenes.sphere(0.12, 3)
    count = len(floor.vertices)
    mesh = Mesh(
        np.concatenate([floor.vertices, ball.vertices + np.array([0.1, 0.05, 0.6])]),
        np.concatenate([floor.faces, ball.faces + count]),
    )
    colors = np.full((len(mesh.vertices), 3), (40, 120, 40), np.uint8)
    colors[count:] = 220, 30, 30
    mesh = replace(mesh, colors=colors)
    images = scenes.ring_cameras(6, 240, 200, 4.0, (60.0,))[:1]
    poses = scenes.write_pose_outputs(tmp_path, mesh, images)
    views = [View(image, lambda path: tmp_path / path) for image in poses.images]
    atlas = unwrap(mesh, SIZE)
    texels = rasterize(atlas.corner_uv, SIZE)
    on_floor = texels.pixel[texels.face < len(floor.faces)]
    colour = bake(mesh, atlas, views, SIZE, magenta).texture.reshape(-1, 3)[on_floor].astype(int)
    red = (colour[:, 0] > 150) & (colour[:, 2] < 100)
    assert red.mean() < 0.002


def test_what_no_photo_sees_is_filled(body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet]) -> None:
    above = [view for view in views_of(*capture) if view.image.centre[2] > 1.0]
    baked = bake(body, atlas, above, SIZE, magenta)
    asset = baked_asset(body, atlas, baked)
    assert 0.3 < baked.photo_share < 0.8
    below = np.nonzero(body.triangles[:, :, 2].max(1) < -0.24)[0]
    seen = sample_texture(asset, below, np.full((len(below), 2), 1 / 3))
    assert np.median(np.abs(seen * 255 - MAGENTA).max(1)) < 2


def test_masked_pixels_are_not_used(body: Mesh, atlas: Atlas, capture: tuple[Path, PoseSet], tmp_path: Path) -> None:
    folder, poses = capture
    Image.fromarray(np.zeros((200, 240), np.uint8)).save(tmp_path / "none.png")
    views = [
        View(
            image.model_copy(update={"mask": "none.png"}),
            lambda path: (tmp_path if path == "none.png" else folder) / path,
        )
        for image in poses.of_split("train")
    ]
    baked = bake(body, atlas, views, 64, magenta)
    assert baked.photo_share == 0
    assert (baked.texture == MAGENTA).all()


def test_gutters_carry_the_colour_of_the_nearest_chart() -> None:
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[2, 2], texture[6, 6] = 10, 200
    filled = dilate(texture, np.array([2 * 8 + 2, 6 * 8 + 6]))
    assert (filled[0, 0] == 10).all()
    assert (filled[7, 7] == 200).all()


def test_best_views_enter_without_a_jump() -> None:
    weight = np.array([[1.0, 0.9, 0.5, 0.2]], np.float32)
    kept = keep_best(weight, 2, 1.0)
    assert kept[0].tolist() == pytest.approx([1.0, 0.8, 0.0, 0.0])
    assert keep_best(weight[:, :2], 2, 2.0)[0].tolist() == pytest.approx([1.0, 0.81])


def test_bilinear_lookup() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:, 1] = 100
    assert bilinear(picture, np.array([[0.5, 0.5], [1.0, 1.0], [1.5, 1.5]]))[:, 0].tolist() == [0, 50, 100]


def test_srgb_curves_are_inverse() -> None:
    value = np.linspace(0, 1, 256)
    assert srgb_from_linear(linear_from_srgb(value)) == pytest.approx(value, abs=1e-9)
