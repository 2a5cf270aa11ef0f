"""The cameras in the formats of other programs, read by COLMAP itself and by the definition of `transforms.json`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image  # noqa: F401  before pycolmap

from models.camera import PoseSet, project, transform_points
from models.points import SparsePoints
from tasks.export.camera_files import write_archive
from tasks.sample.scenes import fibonacci_cameras, paint, sphere, write_pose_outputs


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PoseSet, SparsePoints]:
    """A capture of a ball off the origin, and its files."""
    folder = tmp_path_factory.mktemp("archive")
    mesh = paint(sphere(1.0))
    poses = write_pose_outputs(folder, mesh, fibonacci_cameras(7, 96, 64, 4.0), points=60)
    points = SparsePoints.read(folder / "points.npz")
    write_archive(folder, poses, points)
    return folder, poses, points


def test_colmap_reads_the_same_cameras_and_points(archive: tuple[Path, PoseSet, SparsePoints]) -> None:
    import pycolmap

    folder, poses, points = archive
    found = pycolmap.Reconstruction()
    found.read_text(str(folder / "colmap"))
    assert found.num_images() == len(poses.images) and found.num_points3D() == len(points.xyz)
    for number, image in enumerate(poses.images, 1):
        theirs = found.images[number]
        assert theirs.name == Path(str(image.image)).name
        camera = found.cameras[theirs.camera_id]
        assert (camera.width, camera.height) == (image.camera.width, image.camera.height)
        w2c = np.vstack([theirs.cam_from_world().matrix(), [0, 0, 0, 1]])
        assert np.abs(w2c @ np.array(image.c2w) - np.eye(4)).max() < 1e-9
        seen = [each for each in theirs.points2D if each.has_point3D()]
        assert len(seen) == int((points.visible_idx == number - 1).sum()) > 0
        for each in seen:
            xyz = found.points3D[each.point3D_id].xyz
            assert np.abs(camera.img_from_cam(w2c[:3, :3] @ xyz + w2c[:3, 3]) - each.xy).max() < 1e-3
            uv, _ = project(image.camera, image.c2w, xyz[None])
            assert np.abs(uv[0] - each.xy).max() < 1e-3
    for number, (xyz, rgb) in enumerate(zip(points.xyz, points.rgb, strict=True), 1):
        theirs = found.points3D[number]
        assert np.array_equal(theirs.xyz, xyz) and np.array_equal(theirs.color, rgb)
        own = points.visible_idx[points.visible_ptr[number - 1] : points.visible_ptr[number]]
        assert sorted(each.image_id - 1 for each in theirs.track.elements) == sorted(own)
        for each in theirs.track.elements:
            assert found.images[each.image_id].points2D[each.point2D_idx].point3D_id == number


def test_transforms_look_down_minus_z(archive: tuple[Path, PoseSet, SparsePoints]) -> None:
    folder, poses, points = archive
    document = json.loads((folder / "transforms.json").read_bytes())
    assert [frame["file_path"] for frame in document["frames"]] == [image.image for image in poses.images]
    for frame, image in zip(document["frames"], poses.images, strict=True):
        x, y, z = transform_points(np.linalg.inv(np.array(frame["transform_matrix"])), points.xyz).T
        assert (z < 0).all()
        u = frame["cx"] - frame["fl_x"] * x / z
        v = frame["cy"] + frame["fl_y"] * y / z
        uv, _ = project(image.camera, image.c2w, points.xyz)
        assert np.abs(uv - np.stack([u, v], 1)).max() < 1e-6
        assert (frame["w"], frame["h"]) == (image.camera.width, image.camera.height)


def test_equal_poses_give_equal_bytes(archive: tuple[Path, PoseSet, SparsePoints], tmp_path: Path) -> None:
    folder, poses, points = archive
    write_archive(tmp_path, poses, points)
    names = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 4
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names)
