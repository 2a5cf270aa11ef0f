"""Depth that other photos' colours refute, and the support that they confirm, before a wall and a floor of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import trimesh

from models.camera import PoseSet, invert_rigid, matrix4, pixel_rays
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, cast_mask
from models.points import SparsePoints
from tasks.mask.background import Background
from tasks.mask.carving import carve_by_depth
from tasks.mask.photos import MaskPhotos
from tasks.mask.views import BLOCKED, View
from tasks.sample.scenes import box, from_trimesh, paint, ring_cameras, write_pose_outputs
from tests.tasks.mask.captures import SIZE, MaskCapture

FLOOR = -1.0
VIEWS = 14
EXPOSURES = (1.0, 0.75)
"""Of even and odd photos."""


def plain(made: trimesh.Trimesh, height: float, colour: tuple[int, int, int]) -> Mesh:
    """One colour: nothing on it for stereo to compare."""
    made.apply_translation([0, 0, FLOOR + height])
    mesh = from_trimesh(made)
    return Mesh(mesh.vertices, mesh.faces, colors=np.tile(np.array(colour, np.uint8), (len(mesh.vertices), 1)))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        colors=np.concatenate([np.asarray(mesh.colors) for mesh in meshes]),
    )


def ground() -> Mesh:
    table = box((9.0, 9.0, 0.1), 7)
    return paint(Mesh(table.vertices + np.array([0.0, 0.0, FLOOR - 0.05]), table.faces), scale=10.0)


class Scene:
    """A pole on a disc on a painted table, and depth maps that miss the pole: they have the table behind it."""

    def __init__(self, root: Path) -> None:
        capture = MaskCapture(root, views=VIEWS)
        pole = plain(trimesh.creation.cylinder(0.12, 1.5), 0.75, (190, 40, 30))
        foot, table = plain(trimesh.creation.cylinder(0.5, 0.2), 0.1, (230, 220, 90)), ground()
        both = joined(pole, foot, table)
        images = ring_cameras(VIEWS, *SIZE, 5.5, (40.0, 60.0))
        poses = write_pose_outputs(capture.folder, both, images, support=capture.poses.support, points=3000)
        for number, image in enumerate(poses.images):
            _expose(capture.folder / str(image.image), EXPOSURES[number % 2])
        self.poses: PoseSet = poses.model_copy(update={"world_from_field": matrix4(np.diag([1.4, 1.4, 1.4, 1.0]))})
        self.context = capture.context(method="geometry")
        self.photos = MaskPhotos(self.poses, SparsePoints.read(capture.folder / "points.npz"), self.context)
        caster = RayCaster(joined(foot, table), 2)
        self.views = []
        for image in self.poses.images:
            origin, ray = pixel_rays(image.camera, image.c2w)
            t = caster.cast(origin, ray).t
            # where the pole stands nobody sees what is below it
            below = np.linalg.norm((origin + ray * np.where(np.isfinite(t), t, 0)[:, None])[:, :2], axis=1) < 0.14
            depth = (
                np.where(np.isfinite(t) & ~below, t * (ray @ np.array(image.c2w)[:3, 2]), 0)
                .astype(np.float32)
                .reshape(image.camera.height, image.camera.width)
            )
            self.views.append(View(depth, image.camera, invert_rigid(image.c2w)))
        self.truth = self.outlines(joined(pole, foot))
        self.pole = [mask & ~other for mask, other in zip(self.truth, self.outlines(foot), strict=True)]
        self.background = Background(self.photos, range(VIEWS), self.views)

    def outlines(self, mesh: Mesh) -> list[npt.NDArray[np.bool_]]:
        caster = RayCaster(mesh, 2)
        return [cast_mask(caster, image.camera, image.c2w) for image in self.poses.images]


def _expose(path: Path, gain: float) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB")).astype(np.float32) * gain
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path, quality=97, subsampling=0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("background"))


def test_depth_behind_a_plain_pole_is_refuted_and_the_table_beside_it_is_not(scene: Scene) -> None:
    refuted = [view.depth == BLOCKED for view in scene.background.checked(scene.views, scene.context)]
    on = np.mean([share[truth].mean() for share, truth in zip(refuted, scene.pole, strict=True)])
    beside = np.mean([share[~truth].mean() for share, truth in zip(refuted, scene.truth, strict=True)])
    assert on > 0.9 and beside < 0.1, (on, beside)


def test_a_pole_that_stereo_misses_is_carved_all_the_same(scene: Scene) -> None:
    support = scene.poses.support
    assert support is not None
    shares = {}
    for name, views in (("as found", scene.views), ("checked", scene.background.checked(scene.views, scene.context))):
        body = carve_by_depth(scene.photos, views, support, scene.context)
        assert body is not None
        found = scene.outlines(body)
        shares[name] = np.median([(f & t).sum() / (f | t).sum() for f, t in zip(found, scene.truth, strict=True)])
    assert shares["as found"] < 0.82 and shares["checked"] > 0.85, shares


def test_the_support_is_seen_where_stereo_found_nothing_and_not_on_the_pole(scene: Scene) -> None:
    support = scene.poses.support
    assert support is not None
    checked = scene.background.checked(scene.views, scene.context)
    holed = []
    for view, truth in zip(checked, scene.truth, strict=True):
        depth = view.depth.copy()
        depth[:, ::2] = np.where(truth[:, ::2], depth[:, ::2], 0.0)
        holed.append(view.with_depth(depth))
    found = scene.background.with_support(holed, scene.truth, support, scene.context)
    new = [(view.depth > 0) & (before.depth == 0) for view, before in zip(found, holed, strict=True)]
    exact = [
        np.abs(view.depth / np.maximum(full.depth, 1e-6) - 1) for view, full in zip(found, scene.views, strict=True)
    ]
    assert sum(each.sum() for each in new) > 100 * VIEWS
    # the table is 1 cm thick in a capture of metres: the support is its upper face
    assert all(share[fresh].max() < 0.01 for share, fresh in zip(exact, new, strict=True) if fresh.any())
    assert np.mean([fresh[truth].mean() for fresh, truth in zip(new, scene.truth, strict=True)]) < 0.01
