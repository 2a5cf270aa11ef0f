"""The object by depth: carved from exact depth maps, and by the whole stage before a busy background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import trimesh

from models.camera import PosedImage, PoseSet, invert_rigid, matrix4, pixel_rays
from models.digest import canonical_json
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, cast_mask, render_textured
from models.points import SparsePoints
from tasks.mask import task
from tasks.mask.carving import carve_by_depth, touches_region
from tasks.mask.gate import Judgement, tolerance_px
from tasks.mask.photos import MaskPhotos, PhotoMask, mask_path
from tasks.mask.standing import Saved, points_on
from tasks.mask.views import View
from tasks.sample.scenes import box, from_trimesh, paint, ring_cameras, write_pose_outputs
from tests.tasks.mask.captures import SIZE, MaskCapture

FLOOR = -1.0


def joined(*parts: trimesh.Trimesh) -> Mesh:
    return from_trimesh(trimesh.util.concatenate(list(parts)))


def ring_on_a_foot() -> trimesh.Trimesh:
    """A ring that stands upright on a disc: a hole to see through."""
    ring = trimesh.creation.torus(0.6, 0.2)
    ring.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    foot = trimesh.creation.cylinder(0.7, 0.3)
    foot.apply_translation([0, 0, -0.85])
    return trimesh.util.concatenate([ring, foot])


def floor() -> trimesh.Trimesh:
    """The inside of a room."""
    made = trimesh.creation.box((30, 30, 20))
    made.apply_translation([0, 0, FLOOR + 10.0])
    return made


def moved(mesh: trimesh.Trimesh, *by: float) -> trimesh.Trimesh:
    mesh.apply_translation(by)
    return mesh


def exact_views(scene: Mesh, images: tuple[PosedImage, ...]) -> list[View]:
    """Depth along z of everything there is."""
    caster, found = RayCaster(scene, 2), []
    for image in images:
        camera = image.camera.resized(120, 100)
        rays_o, rays_d = pixel_rays(camera, image.c2w)
        along = rays_d @ np.array(image.c2w)[:3, 2]
        t = caster.cast(rays_o, rays_d).t * along
        depth = np.where(np.isfinite(t), t, 0).astype(np.float32).reshape(camera.height, camera.width)
        found.append(View(depth, camera, invert_rigid(image.c2w)))
    return found


class Setting:
    """Photos without pictures, for the carving alone."""

    def __init__(self, folder: Path, half: float = 1.4) -> None:
        self.capture = MaskCapture(folder, views=12)
        images = ring_cameras(12, *SIZE, 5.5, (15.0, 40.0))
        cube = matrix4(np.diag([half, half, half, 1.0]))
        self.poses = self.capture.poses.model_copy(update={"images": images, "world_from_field": cube})
        self.context = self.capture.context(method="geometry")
        self.photos = MaskPhotos(self.poses, SparsePoints.read(self.capture.folder / "points.npz"), self.context)

    def carve(self, views: list[View]) -> Mesh | None:
        assert self.poses.support is not None
        return carve_by_depth(self.photos, views, self.poses.support, self.context)


def overlap(carved: Mesh, truth: Mesh, images: tuple[PosedImage, ...]) -> float:
    one, other = RayCaster(carved, 2), RayCaster(truth, 2)
    shares = []
    for image in images:
        a, b = (cast_mask(each, image.camera, image.c2w) for each in (one, other))
        shares.append(float((a & b).sum() / (a | b).sum()))
    return min(shares)


def test_what_stands_on_the_support_is_found_with_its_hole_and_without_what_is_beside_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    beside = moved(trimesh.creation.icosphere(radius=0.25), 1.1, 1.1, FLOOR + 0.25)
    carved = setting.carve(exact_views(joined(ring_on_a_foot(), beside, floor()), setting.poses.images))
    assert carved is not None
    assert overlap(carved, joined(ring_on_a_foot()), setting.poses.images) > 0.93
    assert not touches_region(carved, setting.poses.world_from_field)


def test_plain_parts_without_depth_stay(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    views = exact_views(joined(ring_on_a_foot(), floor()), setting.poses.images)
    on = RayCaster(joined(ring_on_a_foot()), 2)
    for view, image in zip(views, setting.poses.images, strict=True):
        hit = on.cast(*pixel_rays(view.camera, image.c2w)).face >= 0
        view.depth[hit.reshape(view.depth.shape)] = 0.0
    carved = setting.carve(views)
    assert carved is not None and overlap(carved, joined(ring_on_a_foot()), setting.poses.images) > 0.82


def test_nothing_on_the_support_is_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    assert setting.carve(exact_views(joined(floor()), setting.poses.images)) is None


def test_what_goes_on_beyond_the_region_is_told(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    wall = moved(trimesh.creation.box((6.0, 0.6, 1.0)), 0, 0, FLOOR + 0.5)
    carved = setting.carve(exact_views(joined(wall, floor()), setting.poses.images))
    assert carved is not None and touches_region(carved, setting.poses.world_from_field)


class Distracted:
    """A stand-in for the network that takes the left half of every photo for the object."""

    def __init__(self, path: Path, *settings: Any) -> None:
        pass

    def __call__(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found = np.zeros(picture.shape[:2], np.float32)
        found[:, : picture.shape[1] // 2] = 1.0
        return found


@pytest.mark.parametrize("method", ["saliency", pytest.param("geometry", marks=pytest.mark.slow)])
def test_where_saliency_cannot_be_believed_depth_finds_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("tasks.saliency.network.OnnxNetwork", Distracted)
    monkeypatch.setattr("tasks.external.fetch_external", lambda context, name: Path("none"))
    monkeypatch.setattr("tasks.mask.gate._CELLS", 64)
    capture = MaskCapture(tmp_path, views=16)
    table = box((9.0, 9.0, 0.1), 7)
    table = paint(Mesh(table.vertices + np.array([0.0, 0.0, FLOOR - 0.05]), table.faces), scale=12.0)
    assert capture.mesh.colors is not None and table.colors is not None
    mesh = Mesh(
        np.concatenate([capture.mesh.vertices, table.vertices]),
        np.concatenate([capture.mesh.faces, table.faces + len(capture.mesh.vertices)]),
        colors=np.concatenate([capture.mesh.colors, table.colors]),
    )
    images = ring_cameras(16, *SIZE, 5.5, (50.0, 65.0))
    poses = write_pose_outputs(capture.folder, mesh, images, support=capture.poses.support, points=3000)
    poses = poses.model_copy(update={"world_from_field": matrix4(np.diag([1.4, 1.4, 1.4, 1.0]))})
    (capture.folder / "poses.json").write_bytes(canonical_json(poses))
    capture.truth = [
        render_textured(capture.mesh, image.camera, image.c2w, supersample=1).mask for image in poses.images
    ]
    context = capture.context(method=method, min_points=20)
    result = task.run(context.request, context)
    assert result.facts["scene_mode"] is False, [result.facts["reasons"], result.facts["notes"]]
    assert len(result.facts["carved"]) == len(images), result.facts["notes"]
    assert (len(result.facts.get("notes", [])) > 0) == (method == "saliency")
    # the cameras look down: what is under the belly stays hidden
    assert np.mean(capture.overlaps(context)) > 0.7
    written = PoseSet.model_validate_json((context.output / "poses.json").read_bytes())
    assert all(image.mask for image in written.images)


def test_a_body_that_leaves_the_points_out_is_told(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    support = setting.poses.support
    assert support is not None
    assert points_on(setting.photos, setting.capture.mesh, support) > 0.99
    foot = from_trimesh(moved(trimesh.creation.box((0.4, 0.4, 0.2)), 0, 0, FLOOR + 0.1))
    assert points_on(setting.photos, foot, support) < 0.2


def test_masks_earn_their_tolerance() -> None:
    mask = PhotoMask(0, np.ones((2, 2), bool), np.zeros(0, np.int8), 0.0)
    close, apart = (Judgement({"hull_iou_median": share}, (), None) for share in (0.985, 0.962))
    assert (tolerance_px([mask], close), tolerance_px([mask], apart)) == (2.0, 4.0)
    assert tolerance_px([replace(mask, state="carved")], close) == 4.0


def test_saved_masks_come_back_as_they_were(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    photos, shape = setting.photos, (SIZE[1], SIZE[0])
    drawn = [np.random.default_rng(k).random(shape) > 0.5 for k in range(3)]
    masks = [photos.keep(k, mask, 0.1 * k, "trimmed") for k, mask in enumerate(drawn)]
    saved = Saved.of(photos, [*masks[:2], masks[2].as_dropped()])
    for k in range(3):
        photos.keep(k, ~drawn[k], 0.0, "carved")
    back = saved.restore(photos)
    assert [mask.state for mask in back] == ["trimmed", "trimmed", "dropped"]
    assert all((photos.mask(k) == drawn[k]).all() for k in range(2))
    assert not (setting.context.output / mask_path(photos.images[2])).exists()
