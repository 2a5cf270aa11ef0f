"""What must come out of each stage for a sphere of radius 1 at the origin: one function a stage.

Each returns complaints, none for what is right. The bounds are several times what the built-in methods reach on photos
of so few pixels, and far below what a wrong radius, axis or unit costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.contract.capture import METRES, RADIUS, Capture
from models.artifacts import (
    ASSET_FILE,
    DENSE_FILE,
    INDEX_FILE,
    MODEL_FOLDER,
    POINTS_FILE,
    POSES_FILE,
    SCALE_FILE,
)
from models.camera import PoseSet, pixel_rays
from models.digest import sha256_bytes
from models.manifest import Latest, Manifest
from models.photos import PhotoIndex
from models.quality import Verdict
from models.representation import load_representation
from models.results import Done, StageRequest
from models.scale import MeasuredScale

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Finished:
    """A committed run of a method."""

    capture: Capture
    request: StageRequest
    done: Done

    @property
    def folder(self) -> Path:
        """The files."""
        return self.capture.store.root / self.done.ref.uri.removeprefix("store:")


def _above(name: str, found: float, least: float) -> Iterator[str]:
    if not found >= least:
        yield f"{name}: expected at least {least:g}, found {found:.4g}"


def _below(name: str, found: float, most: float) -> Iterator[str]:
    if not found <= most:
        yield f"{name}: expected at most {most:g}, found {found:.4g}"


def _round(name: str, points: Points, radius: float, tolerance: float) -> Iterator[str]:
    """Complaints unless points [N, 3] lie on the sphere: the median distance is a share of the radius at most."""
    if not len(points):
        yield f"{name}: expected points, found none"
        return
    off = np.abs(np.linalg.norm(points, axis=1) / radius - 1.0)
    yield from _below(f"{name}, median distance from the sphere", float(np.median(off)), tolerance)
    yield from _below(f"{name}, 95 % within", float(np.quantile(off, 0.95)), 5 * tolerance)


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def pictures(run: Finished) -> Iterator[str]:
    """ingest: every photo is there, upright, with its mask."""
    index = PhotoIndex.read(run.folder / INDEX_FILE)
    names = {photo.name for photo in index.photos}
    if names != {image.name for image in run.capture.images}:
        yield f"photos: expected all {len(run.capture.images)}, found {len(names)}"
    for photo in index.photos:
        with Image.open(run.folder / photo.file) as kept, Image.open(run.capture.photos / photo.name) as given:
            off = np.abs(np.asarray(kept.convert("RGB"), float) - np.asarray(given.convert("RGB"), float)).mean()
        yield from _below(f"{photo.name}, mean change of a pixel", float(off), 6.0)
        if photo.mask is not None:
            image = next(each for each in run.capture.images if each.name == photo.name)
            with Image.open(run.folder / photo.mask) as mask:
                yield from _above(
                    f"{photo.name}, mask", _iou(np.asarray(mask) > 127, run.capture.silhouette(image)), 0.99
                )


def cameras(run: Finished) -> Iterator[str]:
    """pose: cameras as they stood, and points on the sphere, up to a similarity."""
    poses = PoseSet.model_validate_json((run.folder / POSES_FILE).read_bytes())
    true = {image.name: image.centre for image in run.capture.images}
    yield from _above("share of photos with a camera", len(poses.images) / len(true), 0.9)
    centres = np.array([image.centre for image in poses.images])
    wanted = np.array([true[image.name] for image in poses.images])
    turn = umeyama(centres, wanted)
    off = np.linalg.norm(_moved(turn, centres) - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    yield from _below("mean distance of cameras from their places, share of their distance", float(off.mean()), 0.01)
    with np.load(run.folder / POINTS_FILE) as data:
        found = _moved(turn, data["xyz"])
    yield from _above("sparse points", len(found), 100)
    off = np.minimum(np.abs(np.linalg.norm(found, axis=1) - RADIUS), np.abs(found[:, 2] + RADIUS))
    yield from _below("sparse points, median distance from the sphere and its mat", float(np.median(off)), 0.02)


def masks(run: Finished) -> Iterator[str]:
    """mask: the silhouettes."""
    path = run.folder / POSES_FILE
    if not path.exists():
        yield f"expected masks that are believed, found none: {run.done.result.facts.get('reasons')}"
        return
    overlaps = []
    for image in PoseSet.model_validate_json(path.read_bytes()).images:
        if image.mask is not None:
            with Image.open(run.folder / image.mask) as mask:
                overlaps.append(_iou(np.asarray(mask) > 127, run.capture.silhouette(image)))
    yield from _above("share of photos with a mask", len(overlaps) / len(run.capture.images), 0.8)
    yield from _above("mean overlap with the silhouettes", float(np.mean(overlaps)), 0.88)


def points(run: Finished) -> Iterator[str]:
    """dense: points on the sphere, with normals that point out of it."""
    with np.load(run.folder / DENSE_FILE) as data:
        xyz, normal = data["xyz"].astype(np.float64), data["normal"].astype(np.float64)
    yield from _above("dense points", len(xyz), 200)
    yield from _round("dense points", xyz, RADIUS, 0.03)
    outwards = (normal * xyz).sum(1) / np.maximum(np.linalg.norm(xyz, axis=1), 1e-9)
    yield from _above("median cosine between normals and the sphere's", float(np.median(outwards)), 0.8)


def model(run: Finished) -> Iterator[str]:
    """train: seen from the true cameras, the model is as large as the sphere and as far away."""
    made = load_representation(run.folder / MODEL_FOLDER, "cpu")
    poses = PoseSet.model_validate_json((run.capture.store.root / _pose_file(run)).read_bytes())
    seen, overlaps = [], []
    for image in poses.images[::3]:
        view = made.render(image.camera, image.c2w, poses.world_from_field)
        overlaps.append(_iou(view.opacity >= 0.5, run.capture.silhouette(image)))
        solid = np.isfinite(view.depth) & run.capture.silhouette(image)
        rays_o, rays_d = (each.reshape(*view.depth.shape, 3) for each in pixel_rays(image.camera, image.c2w))
        forward = np.array(image.c2w)[:3, 2]
        along = view.depth[solid] / (rays_d[solid] @ forward)
        seen.append(rays_o[solid] + along[:, None] * rays_d[solid])
    yield from _above("mean overlap with the silhouettes", float(np.mean(overlaps)), 0.75)
    tolerance = 0.08 if made.kind == "mesh" else 0.2  # so few steps leave fog before the surface of a field
    yield from _round("surface that cameras see", np.concatenate(seen), RADIUS, tolerance)


def surface(run: Finished) -> Iterator[str]:
    """surface: a closed, round mesh with Y up."""
    yield from _accepted(run)
    yield from _ball(run.folder / ASSET_FILE, RADIUS)


def exported(run: Finished) -> Iterator[str]:
    """export: the same in metres."""
    scale = MeasuredScale.model_validate_json(
        (run.capture.store.root / run.request.inputs["scale"].uri.removeprefix("store:") / SCALE_FILE).read_bytes()
    )
    yield from _ball(run.folder / ASSET_FILE, RADIUS * scale.factor)


def size(run: Finished) -> Iterator[str]:
    """scale: one metre a unit where cameras are in metres, METRES where marks tell so."""
    found = MeasuredScale.model_validate_json((run.folder / SCALE_FILE).read_bytes())
    wanted = 1.0 if found.source == "poses" else METRES
    if found.metres_per_unit is None:
        yield "metres_per_unit: expected a number, found none"
    elif run.request.method in ("none", "known_distance"):
        yield from _below("relative error of metres_per_unit", abs(found.metres_per_unit / wanted - 1.0), 0.01)


def measured(run: Finished) -> Iterator[str]:
    """quality: a true sphere scores as one."""
    yield from _accepted(run)
    values = {metric.name: metric.value for metric in run.done.result.metrics}
    for name, least in (("fscore_1pct", 0.9), ("normal_consistency", 0.95)):
        yield from _above(name, float(values.get(name) or 0.0), least)


def published(run: Finished) -> Iterator[str]:
    """publish: one version, whose files are what its manifest says."""
    root = run.capture.folder / "published"
    latest = Latest.model_validate_json((root / f"assets/{run.request.asset}/latest.json").read_bytes())
    data = (root / latest.manifest).read_bytes()
    if (latest.version, latest.manifest_sha256) != (1, sha256_bytes(data)):
        yield f"latest.json: expected version 1 and its manifest's sha256, found version {latest.version}"
    for file in Manifest.model_validate_json(data).files:
        if sha256_bytes(((root / latest.manifest).parent / file.path).read_bytes()) != file.sha256:
            yield f"{file.path}: expected the bytes of the manifest, found others"


def _accepted(run: Finished) -> Iterator[str]:
    if run.done.result.verdict is Verdict.REJECT:
        yield "expected a sphere to be accepted, found: " + "; ".join(each.message for each in run.done.result.reasons)


def _ball(path: Path, radius: float) -> Iterator[str]:
    import trimesh

    mesh = trimesh.load(path, force="mesh", process=False)
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    yield from _round("mesh", vertices, radius, 0.02)
    a, b, c = vertices[np.asarray(mesh.faces)].transpose(1, 0, 2)
    volume = float(np.einsum("ij,ij->i", np.cross(a, b), c).sum() / 6)
    yield from _below("relative error of the volume", abs(volume / (4 / 3 * np.pi * radius**3) - 1.0), 0.06)


def _pose_file(run: Finished) -> str:
    return f"{run.request.inputs['pose'].uri.removeprefix('store:')}/{POSES_FILE}"


def _moved(turn: Points, points: Points) -> Points:
    return np.asarray(points @ turn[:3, :3].T + turn[:3, 3])


def umeyama(source: Points, target: Points) -> Points:
    """[4, 4] similarity that takes points [N, 3] to points [N, 3] best (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * np.diag(flip)).sum() / (a**2).sum()
    m = np.eye(4)
    m[:3, :3] = scale * u @ flip @ vt
    m[:3, 3] = target.mean(0) - m[:3, :3] @ source.mean(0)
    return m
