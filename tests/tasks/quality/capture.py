"""A small capture with known truth: a textured bumpy ball on a mat, its photos, poses and published mesh."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from infra.storage import FolderStore, open_store
from models.camera import (
    Camera,
    CameraSet,
    Plane,
    PosedImage,
    PoseSet,
    apply_similarity_to_c2w,
    gltf_from_world,
    matrix4,
    transform_points,
)
from models.digest import canonical_json, sha256_file
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured
from models.mesh.representation import MeshRepresentation
from models.photos import IngestedPhoto, PhotoIndex, RejectedPhoto
from models.points import SparsePoints
from models.representation import Render
from models.results import ArtifactRef, FileRef, StageRequest
from models.stage import Stage
from tasks.context import Context

WIDTH, HEIGHT, FOCAL = 160, 120, 170.0
TIERS = {
    "high": {
        "faces": 150000,
        "texture_size": 4096,
        "watertight": True,
        "self_intersections": 0,
    },
    "full": {"faces": 2000000},
}
SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=1.0)


def look_at(eye: np.ndarray, target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """[4, 4] c2w with OpenCV axes, z of the world up."""
    z = np.asarray(target) - eye
    z = z / np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    c2w[:3, 3] = eye
    return c2w


def ring(count: int, radius: float = 4.0, heights: tuple[float, ...] = (0.4, 2.0)) -> tuple[PosedImage, ...]:
    """Cameras around the origin; every fourth is held out."""
    camera = Camera(width=WIDTH, height=HEIGHT, fx=FOCAL, fy=FOCAL, cx=WIDTH / 2, cy=HEIGHT / 2)
    images = []
    for k in range(count):
        angle = 2 * np.pi * k / count
        eye = np.array([radius * np.cos(angle), radius * np.sin(angle), heights[k % len(heights)]])
        split = "heldout" if k % 4 == 2 else "train"
        images.append(PosedImage(name=f"p{k:02d}.jpg", camera=camera, c2w=matrix4(look_at(eye)), split=split))
    return tuple(images)


def sphere(subdivisions: int = 4, radius: float = 1.0) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh(np.array(made.vertices), np.array(made.faces, dtype=np.int64))


def box(low: tuple[float, ...], high: tuple[float, ...]) -> Mesh:
    made = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.array(made.vertices), np.array(made.faces, dtype=np.int64))


def plane(half: float, z: float, cells: int = 8) -> Mesh:
    """A square [-half, half]^2 at height z, facing up."""
    grid = np.linspace(-half, half, cells + 1)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel())
    vertices = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], 1)
    return Mesh(vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)])
    return Mesh(np.concatenate([m.vertices for m in meshes]), faces)


def textured_ball(rows: int = 48, columns: int = 96) -> Mesh:
    """A bumpy ball that touches z = -1, with a texture and a seam."""
    v, u = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    theta, phi = np.pi * (1 - v), 2 * np.pi * u
    r = 1.0 - 0.08 * (np.cos(4 * phi) * np.sin(theta) ** 2 + 1)
    r = np.where((v == 0) | (v == 1), 1.0 - 0.08, r)
    x = np.stack([r * np.sin(theta) * np.cos(phi), r * np.sin(theta) * np.sin(phi), r * np.cos(theta)], -1)
    x[:, -1] = x[:, 0]
    x[0], x[-1] = x[0, 0], x[-1, 0]
    x[..., 2] *= 1.0 / (1.0 - 0.08)
    index = np.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1)[columns:], np.stack([a, c, d], 1)[: -columns or None]])
    t, s = np.mgrid[0:128, 0:256]
    texture = np.stack([128 + 90 * np.sin(s / 9.0), 128 + 90 * np.sin(t / 7.0 + s / 30.0), 60 + t], -1)
    return Mesh(
        x.reshape(-1, 3),
        faces.astype(np.int64),
        uv=np.stack([u.ravel(), v.ravel()], 1),
        texture=texture.astype(np.uint8),
    )


def write_glb(path: Path, mesh: Mesh, up: tuple[float, float, float]) -> None:
    """A binary glTF by trimesh: not the project's own exporter."""
    visual = None
    if mesh.uv is not None and mesh.texture is not None:
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(mesh.texture))
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv, material=material)
    vertices = transform_points(gltf_from_world(up), mesh.vertices)
    path.write_bytes(trimesh.Trimesh(vertices, mesh.faces, visual=visual, process=False).export(file_type="glb"))


@dataclass
class Capture:
    """What the stages before quality would have committed."""

    root: Path
    truth: Mesh
    prediction: Mesh
    similarity: np.ndarray = field(default_factory=lambda: np.eye(4))
    """capture from truth"""
    cameras: tuple[PosedImage, ...] = ring(8)
    with_mat: bool = True
    asset: str = "ball"
    surface_facts: dict[str, Any] = field(default_factory=lambda: {"support_cut": False, "tiers": TIERS})
    with_points: bool = True
    with_masks: bool = False

    def build(self) -> Capture:
        for name in ("ingest", "pose/images", "pose/masks", "train/model", "surface", "truth"):
            (self.root / "store" / "work" / name).mkdir(parents=True)
        scene = (self.truth, RayCaster(self.truth))
        ground = plane(2.0, -1.0)
        tint = np.random.default_rng(0).integers(90, 200, (len(ground.vertices), 3)).astype(np.uint8)
        mat = Mesh(ground.vertices, ground.faces, colors=tint)
        mat_caster = (mat, RayCaster(mat))
        pale = np.full(self.truth.vertices.shape, 255, np.uint8)
        white = (Mesh(self.truth.vertices, self.truth.faces, colors=pale), scene[1])
        posed = []
        for image in self.cameras:
            c2w = np.array(image.c2w)
            front = render_textured(scene, image.camera, c2w, supersample=2)
            rgb = np.full((HEIGHT, WIDTH, 3), 0.25)
            if self.with_mat:
                rgb = render_textured(mat_caster, image.camera, c2w, background=(0.25, 0.25, 0.25)).rgb
            share = render_textured(white, image.camera, c2w, supersample=2).rgb
            rgb = rgb * (1 - share) + front.rgb
            Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)).save(
                self.folder("pose") / "images" / f"{image.name}.jpg", quality=97, subsampling=0
            )
            mask = None
            if self.with_masks:
                mask = f"masks/{image.name}.png"
                Image.fromarray(front.mask.astype(np.uint8) * 255).save(self.folder("pose") / mask)
            moved = matrix4(apply_similarity_to_c2w(self.similarity, c2w))
            posed.append(image.model_copy(update={"c2w": moved, "image": f"images/{image.name}.jpg", "mask": mask}))
        self._write(tuple(posed))
        return self

    def with_prediction(self, root: Path, prediction: Mesh) -> Capture:
        """The same capture with another published mesh."""
        other = replace(self, root=root, prediction=prediction)
        shutil.copytree(self.root / "store", root / "store")
        other._write_surface()
        return other

    def folder(self, name: str) -> Path:
        return self.root / "store" / "work" / name

    @property
    def up(self) -> tuple[float, float, float]:
        direction = self.similarity[:3, :3] @ np.array([0.0, 0.0, 1.0])
        direction /= np.linalg.norm(direction)
        return (float(direction[0]), float(direction[1]), float(direction[2]))

    def _write(self, posed: tuple[PosedImage, ...]) -> None:
        region = self.similarity @ np.diag([1.3, 1.3, 1.3, 1.0])
        at = transform_points(self.similarity, [[0.0, 0.0, -1.0]])[0]
        support = Plane(normal=self.up, offset=-float(np.dot(self.up, at)))
        poses = PoseSet(images=posed, world_from_field=matrix4(region), up=self.up, support=support)
        (self.folder("pose") / "poses.json").write_bytes(canonical_json(poses))
        facts = {"metrics": {"registered_share": 1.0, "registered_images": len(posed), "reprojection_error_px": 0.4}}
        (self.folder("pose") / "pose.json").write_text(json.dumps(facts))
        if self.with_points:
            xyz = transform_points(self.similarity, np.concatenate([self.truth.vertices, plane(2.0, -1.0).vertices]))
            # every photo sees every point: which of them does not matter here
            SparsePoints(
                xyz=xyz,
                rgb=np.zeros(xyz.shape, np.uint8),
                error=np.zeros(len(xyz), np.float32),
                visible_ptr=np.arange(len(xyz) + 1) * len(posed),
                visible_idx=np.tile(np.arange(len(posed), dtype=np.int32), len(xyz)),
            ).write(self.folder("pose") / "points.npz")
        photos = tuple(
            IngestedPhoto(
                name=image.name,
                file=f"images/{image.name}",
                width=WIDTH,
                height=HEIGHT,
                source_width=WIDTH,
                source_height=HEIGHT,
                camera_key="k",
                sharpness=1.0,
                source_sha256="0" * 64,
            )
            for image in posed
        )
        rejected = (RejectedPhoto(name="dark <b>.jpg", code="blurred", message="expected sharpness 0.1, found 0.01"),)
        index = PhotoIndex(photos=photos, rejected=rejected)
        (self.folder("ingest") / "photos.json").write_bytes(canonical_json(index))
        (self.folder("train") / "model" / "representation.json").write_text("{}")
        history = [{"step": 100 * k, "psnr": 30 - 15 / (k + 1)} for k in range(30)]
        (self.folder("train") / "train.json").write_text(json.dumps({"history": history}))
        self._write_surface()
        write_ply(self.folder("truth") / "mesh.ply", self.truth)
        (self.folder("truth") / "cameras.json").write_bytes(canonical_json(CameraSet(images=self.cameras)))
        (self.folder("truth") / "support.json").write_bytes(canonical_json(SUPPORT))

    def _write_surface(self) -> None:
        moved = Mesh(
            transform_points(self.similarity, self.prediction.vertices),
            self.prediction.faces,
            uv=self.prediction.uv,
            texture=self.prediction.texture,
        )
        write_glb(self.folder("surface") / "asset.glb", moved, self.up)
        (self.folder("surface") / "surface.json").write_text(json.dumps(self.surface_facts))

    def context(self, options: dict[str, Any] | None = None, truth: bool = True) -> Context:
        """A context for the quality stage."""
        inputs = {name: self._reference(name) for name in ("ingest", "pose", "train", "surface")}
        if truth:
            inputs["truth"] = ArtifactRef(digest="truth", uri=str(self.folder("truth")))
        request = StageRequest(
            asset=self.asset, stage=Stage.QUALITY, method="standard", version="1", options=options or {}, inputs=inputs
        )
        scratch, output = self.root / "scratch", self.root / "output"
        scratch.mkdir(exist_ok=True)
        output.mkdir(exist_ok=True)
        store = FolderStore(self.root / "store")
        return Context(request, scratch, output, store, open_store, threads=2)

    def _reference(self, name: str) -> ArtifactRef:
        folder = self.folder(name)
        files = tuple(
            FileRef(path=p.relative_to(folder).as_posix(), sha256=sha256_file(p), bytes=p.stat().st_size)
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        )
        return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=f"store:work/{name}", files=files)


class Drawing(MeshRepresentation):
    """A drawing of a mesh before mid-grey, as if it knew the background."""

    has_background = True  # type: ignore[assignment]

    def render(self, camera: Camera, c2w: Any, world_from_field: Any, **options: Any) -> Render:  # type: ignore[override]
        return super().render(camera, c2w, world_from_field, backdrop=0.5)


def use_field(monkeypatch: pytest.MonkeyPatch, mesh: Mesh, similarity: np.ndarray) -> None:
    """Let the model be a drawing of `mesh` (in the truth's frame): no training in these tests."""
    shown = Mesh(transform_points(similarity, mesh.vertices), mesh.faces, uv=mesh.uv, texture=mesh.texture)
    monkeypatch.setattr("tasks.quality.evaluate.load_model", lambda context: Drawing(shown))
