"""What the line left of a capture, and the truth in its frame, for `dense.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.artifacts import POINTS_FILE, POSES_FILE, TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE
from models.camera import Camera, CameraSet, Matrix4, PosedImage, PoseSet, matrix4, pixel_rays, transform_points
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.points import SparsePoints
from tasks.dense.options import DenseOptions
from tasks.dense.workset import REGION_MARGIN
from tasks.quality.alignment import align
from tasks.stereo import estimate, views
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo, read_mask

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Row = dict[str, Any]

SHARE = 0.01
"""Of the diagonal: the largest error of depth that counts as right."""


@dataclass(frozen=True)
class Capture:
    """What the line left of one capture: what stereo reads."""

    poses: PoseSet
    images: tuple[PosedImage, ...]
    """The training photos."""
    folders: tuple[Path, ...]
    """Where pictures and masks lie: the outputs of the stages mask and pose."""
    xyz: FloatArray
    """[P, 3] sparse points."""
    seen: npt.NDArray[np.bool_]
    """[I, P] which training photo sees which point."""

    @staticmethod
    def of(row: Row) -> Capture:
        """The capture of a row of `bench.real.run`. Raises ValueError where the pose stage left nothing."""
        folders = tuple(Path(row[name]) for name in ("mask_folder", "pose_folder") if name in row)
        paths = [folder / POSES_FILE for folder in folders if (folder / POSES_FILE).is_file()]
        points = [folder / POINTS_FILE for folder in folders if (folder / POINTS_FILE).is_file()]
        if not paths or not points:
            raise ValueError(f"expected poses and points of the capture, found none: {row.get('reasons')}")
        poses = PoseSet.model_validate_json(paths[0].read_bytes())
        sparse = SparsePoints.read(points[0])
        seen = np.zeros((len(poses.images), len(sparse.xyz)), bool)
        seen[sparse.visible_idx, sparse.owner] = True
        training = np.array([image.split == "train" for image in poses.images])
        return Capture(poses, poses.of_split("train"), folders, sparse.xyz, seen[training])

    def path(self, name: str) -> Path:
        """A picture or mask by the path that the PoseSet gives it."""
        return next(folder / name for folder in self.folders if (folder / name).is_file())

    def photo(self, k: int, edge_px: int, masked: bool) -> Photo:
        """A training photo as the dense stage reads it; the whole picture unless `masked`."""
        image = self.images[k]
        camera, mask = fitted(image.camera, edge_px), None
        if masked:
            region = matrix4(np.array(self.poses.world_from_field) @ np.diag([REGION_MARGIN] * 3 + [1.0]))
            mask = crosses_cube(camera, image.c2w, region)
            if image.mask is not None:
                mask &= read_mask(self.path(image.mask), camera)
        with Image.open(self.path(str(image.image))) as picture:
            size = (camera.width, camera.height)
            resized = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        return make_photo(resized, camera, image.c2w, mask, DenseOptions().levels)

    def depths(self, k: int) -> estimate.DepthRange:
        """Where the depth of a training photo is searched."""
        return views.depth_range(self.images[k], self.poses.world_from_field, self.xyz, self.seen[k])


class Truth:
    """The true object in the frame of a capture."""

    def __init__(self, poses: PoseSet, folder: Path) -> None:
        true = CameraSet.model_validate_json((folder / TRUTH_CAMERAS_FILE).read_text())
        alignment = align(poses.images, true.images)
        mesh = read_ply(folder / TRUTH_MESH_FILE)
        capture_from_truth = np.linalg.inv(np.array(alignment.truth_from_capture))
        moved = Mesh(transform_points(capture_from_truth, mesh.vertices), mesh.faces)
        self.tolerance = SHARE * moved.diagonal
        """In the capture's unit."""
        self._caster = RayCaster(moved, 1)

    def right(self, camera: Camera, c2w: Matrix4, depth: Float32Array) -> tuple[int, int]:
        """Pixels of a map [H, W] whose depth is right, and pixels that see the object."""
        rays_o, rays_d = pixel_rays(camera, c2w)
        true = self._caster.cast(rays_o, rays_d).t * (rays_d @ np.array(c2w)[:3, 2])
        hit = np.isfinite(true)
        right = hit & (depth.ravel() > 0) & (np.abs(depth.ravel() - np.where(hit, true, 0)) <= self.tolerance)
        return int(right.sum()), int(hit.sum())
