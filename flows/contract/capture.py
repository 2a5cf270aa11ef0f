"""A painted sphere with known cameras, masks, surface and size, and what each stage of the line makes of it.

The capture is made by construction. Committed inputs are made once for each capture: cameras and the trained model are
the truth, written as their stages would; all other stages run their default method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from infra.storage import FolderStore, open_store
from models.artifacts import LENSES_FILE, MODEL_FOLDER, TRAIN_FILE, TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE
from models.camera import CameraSet, LensSet, Plane, PosedImage, PoseSet
from models.digest import canonical_json
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.representation import MeshRepresentation
from models.results import ArtifactRef, Done, StageRequest, StageResult
from models.stage import Stage
from tasks.commit import find_done, run_stage
from tasks.context import Context
from tasks.sample.scenes import fibonacci_cameras, paint, ring_cameras, sphere, write_pose_outputs

ASSET = "sphere"
RADIUS = 1.0
SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=RADIUS)
"""The sphere touches it from above; no photo shows it."""
MAT, MAT_LINES = 2.5, 160
"""Half the edge of the mat, and how many lines of vertices carry its paint."""
METRES = 0.05
"""Metres for one unit, where a kind of scale is told so."""


@dataclass(frozen=True)
class Kind:
    """How the sphere is photographed."""

    views: int
    edge_px: int
    all_around: bool
    """From all sides; otherwise in a ring of neighbours that show the same parts."""
    paint_scale: float
    """How fine the texture is."""
    subdivisions: int
    masks: bool
    """Whether the cameras' file names the true masks."""
    mat: bool = False
    """Whether the photos show a painted mat below it: cameras around a sphere alone cannot be told from others."""

    def cameras(self) -> tuple[PosedImage, ...]:
        """The true cameras."""
        edge = self.edge_px
        if self.all_around:
            return fibonacci_cameras(self.views, edge, edge, 4.0 * RADIUS)
        return ring_cameras(self.views, edge, edge, 4.0 * RADIUS, (30.0,))


TINY = Kind(views=12, edge_px=24, all_around=True, paint_scale=3.0, subdivisions=4, masks=True)
"""For all that has its cameras: photos of 24x24 pixels."""
SMALL = Kind(views=16, edge_px=64, all_around=True, paint_scale=8.0, subdivisions=5, masks=True)
"""For dense stereo: it compares windows of 11 pixels."""
STANDING = Kind(views=8, edge_px=96, all_around=False, paint_scale=10.0, subdivisions=5, masks=False)
"""For what finds the object: from above its support, by the network or by depth."""
FINE = Kind(views=14, edge_px=200, all_around=False, paint_scale=16.0, subdivisions=6, masks=False, mat=True)
"""For what solves cameras: SIFT finds no features in 24x24 pixels."""


class Capture:
    """The sphere's photos and committed stages below a folder."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder, self.kind = folder, kind
        self.store = FolderStore(folder / "store")
        self.mesh: Mesh = paint(sphere(RADIUS, kind.subdivisions), kind.paint_scale)
        self.images = kind.cameras()
        self._made: dict[str, Done] = {}
        self._write_given()

    @property
    def photos(self) -> Path:
        """The folder of photos, as a user gives them."""
        return self.folder / "photos"

    def given(self) -> dict[str, Path]:
        """What a user gives for it, by the names that methods ask for."""
        truth = self.folder / "truth"
        masks = {} if self.kind.mat else {"masks": self.folder / "masks"}
        return {"photos": self.photos, **masks, "truth": truth, "poses": truth / TRUTH_CAMERAS_FILE}

    def silhouette(self, image: PosedImage) -> npt.NDArray[np.bool_]:
        """[H, W] where a true camera sees the sphere."""
        with Image.open(self.folder / "masks" / f"{Path(image.name).stem}.png") as mask:
            return np.asarray(mask) > 127

    def made(self, name: str, stage: Stage, door: Callable[[StageRequest, Context], StageResult]) -> ArtifactRef:
        """The files that a function writes, committed as a stage's, once."""
        if name not in self._made:
            request = StageRequest(asset=ASSET, stage=stage, method="made", version="1", options={"made": name})
            self._made[name] = self.commit(request, door)
        return self._made[name].ref

    def commit(self, request: StageRequest, door: Callable[[StageRequest, Context], StageResult]) -> Done:
        """Run a stage in this process and commit it, unless that was done before."""
        if (done := find_done(self.store, request)) is not None:
            return done
        folder = self.folder / "made" / request.stage / request.key
        scratch, output = folder / "scratch", folder / "output"
        scratch.mkdir(parents=True)
        context = Context(request, scratch, output, self.store, open_store, threads=1)
        return run_stage(door, request, context)

    def poses(self) -> ArtifactRef:
        """The pose stage's files with the true cameras, undistorted pictures and exact sparse points."""

        def write(request: StageRequest, context: Context) -> StageResult:
            self._write_poses(context.output)
            return StageResult(facts={"registered": len(self.images)})

        return self.made("pose", Stage.POSE, write)

    def model(self, kind: str) -> ArtifactRef | None:
        """The train stage's files with the true surface, as a `field` or a `mesh`; None for another kind."""
        writers = {"field": _write_field, "mesh": self._write_mesh}
        if kind not in writers:
            return None

        def write(request: StageRequest, context: Context) -> StageResult:
            writers[kind](context.output / MODEL_FOLDER)
            (context.output / TRAIN_FILE).write_bytes(canonical_json({"method": "made", "kind": kind, "history": []}))
            return StageResult()

        return self.made(f"train-{kind}", Stage.TRAIN, write)

    def _write_given(self) -> None:
        if self.photos.exists():
            return
        poses = self._write_poses(self.folder / "posed", masks=True)
        if self.kind.mat:
            write_pose_outputs(self.folder / "posed", on_mat(self.kind), self.images, points=20, supersample=3)
        for source, target in (("images", self.photos), ("masks", self.folder / "masks")):
            (self.folder / "posed" / source).rename(target)
        truth = self.folder / "truth"
        truth.mkdir()
        write_ply(truth / TRUTH_MESH_FILE, Mesh(self.mesh.vertices, self.mesh.faces))
        cameras = CameraSet(images=tuple(image.model_copy(update={"mask": None}) for image in poses.images))
        (truth / TRUTH_CAMERAS_FILE).write_bytes(canonical_json(cameras))

    def _write_poses(self, folder: Path, masks: bool | None = None) -> PoseSet:
        with_masks = self.kind.masks if masks is None else masks
        poses = write_pose_outputs(
            folder, self.mesh, self.images, support=SUPPORT, points=1500, masks=with_masks, supersample=3
        )
        (folder / LENSES_FILE).write_bytes(canonical_json(LensSet()))
        return poses

    def _write_mesh(self, folder: Path) -> None:
        MeshRepresentation(self.mesh).save(folder)


def on_mat(kind: Kind) -> Mesh:
    """The sphere and a square below it, both painted."""
    ball = sphere(RADIUS, kind.subdivisions)
    x, y = (each.ravel() for each in np.meshgrid(*[np.linspace(-MAT, MAT, MAT_LINES)] * 2, indexing="ij"))
    corner = np.arange(MAT_LINES**2).reshape(MAT_LINES, MAT_LINES)
    a, b, c, d = (each.ravel() for each in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]) + len(ball.vertices)
    vertices = np.concatenate([ball.vertices, np.stack([x, y, np.full(len(x), -RADIUS)], 1)])
    return _speckled(Mesh(vertices, np.concatenate([ball.faces, faces])))


def _speckled(mesh: Mesh) -> Mesh:
    """The mesh with blocks of random colours at several sizes: corners everywhere, no two places alike."""
    rng, total = np.random.default_rng(3), np.zeros((len(mesh.vertices), 3))
    for edge in (0.5, 0.25, 0.12):
        cells = np.floor((mesh.vertices - mesh.vertices.min(0)) / edge).astype(np.int64)
        blocks = rng.integers(0, 256, (*(cells.max(0) + 1), 3))
        total += blocks[tuple(cells.T)] / 3.0
    return Mesh(mesh.vertices, mesh.faces, colors=np.clip(1.6 * total - 76.0, 0, 255).astype(np.uint8))


def _write_field(folder: Path) -> None:
    """A signed distance field as it is before training: a sphere of the radius that the region gives the true one."""
    from models.fields.representation import FieldRepresentation
    from tasks.train.options import HashSDFOptions
    from tasks.train.sdf_learner import new_surface

    small: dict[str, Any] = {"levels": 4, "levels_from": 4, "max_resolution": 32, "log2_table": 10, "hidden": 16}
    options = HashSDFOptions(initial_radius=0.6, **small, occupancy_resolution=32, ray_steps=128)
    field = new_surface(options, 0, outside=False)
    FieldRepresentation(field.eval()).save(folder)
