"""Scenes with known truth: painted bodies, cameras around them, and the files that the pose stage would write.

No structure from motion runs here: stages behind the poses get exact ones in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from models.camera import Camera, FloatArray, Plane, PosedImage, PoseSet, matrix4, project
from models.digest import canonical_json
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, Render, render_textured, sample_texture

GREY = (0.62, 0.62, 0.62)


@dataclass(frozen=True)
class Scene:
    """A body and the cameras around it."""

    mesh: Mesh
    poses: PoseSet

    def render(self, index: int, background: tuple[float, float, float] = GREY, supersample: int = 2) -> Render:
        """The exact picture, depth, mask and normals of one image of `poses`."""
        image = self.poses.images[index]
        return render_textured(self.mesh, image.camera, image.c2w, background, supersample)


def sphere_scene(views: int = 16, size: int = 64, radius: float = 1.0) -> Scene:
    """A painted ball at the origin, square pictures from all sides; `world_from_field` makes it 0.6 of the cube."""
    return make_scene(paint(sphere(radius)), fibonacci_cameras(views, size, size, 4.0 * radius))


def make_scene(mesh: Mesh, images: tuple[PosedImage, ...], support: Plane | None = None) -> Scene:
    """Body and cameras as a PoseSet whose field cube is the body's bounding sphere, enlarged to 1 / 0.6."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    world_from_field = np.eye(4)
    world_from_field[:3, :3] *= float((high - low).max()) / 2.0 / 0.6
    world_from_field[:3, 3] = (low + high) / 2.0
    poses = PoseSet(images=images, world_from_field=matrix4(world_from_field), units="metre", support=support)
    return Scene(mesh, poses)


# --- bodies ---------------------------------------------------------------------------------------------------------


def from_trimesh(body: trimesh.Trimesh) -> Mesh:
    """Vertices and faces of a trimesh."""
    return Mesh(np.array(body.vertices, dtype=np.float64), np.array(body.faces, dtype=np.int64))


def sphere(radius: float = 1.0, subdivisions: int = 4) -> Mesh:
    """An icosphere at the origin."""
    return from_trimesh(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))


def box(extents: tuple[float, float, float] = (1.0, 1.0, 1.0), subdivisions: int = 4) -> Mesh:
    """A box at the origin, its faces split often enough to carry vertex colours."""
    body = trimesh.creation.box(extents=extents)
    for _ in range(subdivisions):
        body = body.subdivide()
    return from_trimesh(body)


def torus(major: float = 0.7, minor: float = 0.25) -> Mesh:
    """A ring around z at the origin: genus 1."""
    return from_trimesh(trimesh.creation.torus(major, minor, major_sections=64, minor_sections=32))


def paint(mesh: Mesh, scale: float = 3.0, seed: int = 0) -> Mesh:
    """The mesh with a solid texture of smooth waves in its vertex colours: mid tones, no two places alike."""
    rng = np.random.default_rng(seed)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    x = (mesh.vertices - (low + high) / 2.0) / (float((high - low).max()) / 2.0)
    waves = rng.normal(size=(3, 3, 6)) * scale
    phases = rng.uniform(0, 2 * np.pi, (3, 6))
    rgb = np.stack([np.sin(x @ waves[k] + phases[k]).mean(1) for k in range(3)], 1)
    colors = np.clip((0.5 + 0.6 * rgb) * 255.0, 0, 255).astype(np.uint8)
    return Mesh(mesh.vertices, mesh.faces, uv=mesh.uv, texture=mesh.texture, colors=colors)


# --- cameras --------------------------------------------------------------------------------------------------------


def look_at(eye: FloatArray, target: FloatArray | tuple[float, float, float] = (0.0, 0.0, 0.0)) -> FloatArray:
    """[4, 4] c2w (OpenCV axes) at `eye` [3] towards `target` [3], the picture upright for z up."""
    z = np.asarray(target, dtype=np.float64) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0] if abs(z[2]) < 0.999 else [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    c2w[:3, 3] = eye
    return c2w


def pinhole(width: int, height: int, focal: float = 1.4) -> Camera:
    """A camera with its principal point in the middle; `focal` in lengths of the longer edge."""
    f = focal * max(width, height)
    return Camera(width=width, height=height, fx=f, fy=f, cx=width / 2.0, cy=height / 2.0)


def posed(
    eyes: FloatArray, camera: Camera, target: tuple[float, float, float] = (0, 0, 0), heldout_every: int = 8
) -> tuple[PosedImage, ...]:
    """Images `view_000.jpg`, ... from `eyes` [N, 3] towards `target`; every `heldout_every`-th is held out."""
    return tuple(
        PosedImage(
            name=f"view_{k:03d}.jpg",
            camera=camera,
            c2w=matrix4(look_at(eye, target)),
            image=f"images/view_{k:03d}.jpg",
            split="heldout" if k % heldout_every == heldout_every // 2 else "train",
        )
        for k, eye in enumerate(eyes)
    )


def fibonacci_cameras(views: int, width: int, height: int, distance: float) -> tuple[PosedImage, ...]:
    """Cameras spread evenly over a sphere around the origin."""
    k = np.arange(views)
    z = 1.0 - 2.0 * (k + 0.5) / views
    angle = k * np.pi * (3.0 - np.sqrt(5.0))
    r = np.sqrt(1.0 - z**2)
    eyes = np.stack([r * np.cos(angle), r * np.sin(angle), z], 1) * distance
    return posed(eyes, pinhole(width, height))


def ring_cameras(
    views: int,
    width: int,
    height: int,
    distance: float,
    elevations_deg: tuple[float, ...] = (15.0, 50.0),
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[PosedImage, ...]:
    """Cameras on rings around the vertical axis through `target`, the views dealt to the rings in turn."""
    k = np.arange(views)
    elevation = np.radians(np.array(elevations_deg))[k % len(elevations_deg)]
    angle = 2.0 * np.pi * k / views
    around = np.stack([np.cos(angle) * np.cos(elevation), np.sin(angle) * np.cos(elevation), np.sin(elevation)], 1)
    return posed(around * distance + np.array(target), pinhole(width, height), target)


# --- files ----------------------------------------------------------------------------------------------------------


def write_pose_outputs(
    folder: Path,
    mesh: Mesh,
    images: tuple[PosedImage, ...],
    *,
    support: Plane | None = None,
    background: tuple[float, float, float] = GREY,
    supersample: int = 2,
    points: int = 500,
    masks: bool = False,
    seed: int = 0,
) -> PoseSet:
    """Write what the pose stage would commit: poses.json, images/, masks/ on demand, points.npz, pose.json.

    Args:
        folder: made if need be; take the output folder of a Context.
        points: sparse points, sampled on the mesh, with exact visibility.
        masks: also write the exact silhouettes (255 on the mesh) and name them in the poses.

    Returns:
        the poses as written.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if masks:
        (folder / "masks").mkdir(exist_ok=True)
        images = tuple(image.model_copy(update={"mask": f"masks/{Path(image.name).stem}.png"}) for image in images)
    poses = make_scene(mesh, images, support).poses
    surface = (mesh, RayCaster(mesh, threads=2))
    for image in poses.images:
        view = render_textured(surface, image.camera, image.c2w, background, supersample)
        picture = Image.fromarray(np.round(np.clip(view.rgb, 0, 1) * 255).astype(np.uint8))
        picture.save(folder / str(image.image), quality=97, subsampling=0)
        if image.mask is not None:
            Image.fromarray(view.mask.astype(np.uint8) * 255).save(folder / image.mask)
    (folder / "poses.json").write_bytes(canonical_json(poses))
    _write_points(folder / "points.npz", surface, poses, points, seed)
    facts = {"registered": len(images), "photos": len(images), "reprojection_px": 0.1}
    (folder / "pose.json").write_bytes(canonical_json(facts))
    return poses


def _write_points(path: Path, surface: tuple[Mesh, RayCaster], poses: PoseSet, count: int, seed: int) -> None:
    mesh, caster = surface
    rng = np.random.default_rng(seed)
    a, b, c = mesh.triangles.transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(mesh.faces), count, p=area / area.sum())
    bary = rng.random((count, 2))
    bary = np.where(bary.sum(1, keepdims=True) > 1, 1 - bary, bary)
    xyz = a[face] + bary[:, :1] * (b - a)[face] + bary[:, 1:] * (c - a)[face]
    rgb = np.round(sample_texture(mesh, face, bary) * 255).astype(np.uint8)
    seen = np.zeros((count, len(poses.images)), bool)
    for k, image in enumerate(poses.images):
        uv, depth = project(image.camera, image.c2w, xyz)
        inside = (depth > 0) & (uv >= 0).all(1) & (uv < [image.camera.width, image.camera.height]).all(1)
        seen[:, k] = inside & caster.visible(xyz, image.centre, 1e-3 * mesh.diagonal)
    keep = seen.sum(1) >= 2
    seen = seen[keep]
    views = seen.sum(1)
    np.savez_compressed(
        path,
        xyz=xyz[keep],
        rgb=rgb[keep],
        error=np.full(len(seen), 0.1, np.float32),
        views=views.astype(np.int32),
        visible_ptr=np.concatenate([[0], np.cumsum(views)]).astype(np.int64),
        visible_idx=np.nonzero(seen)[1].astype(np.int32),
    )
