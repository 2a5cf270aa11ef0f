"""The whole judgement of one asset, from the stage's inputs to its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Camera, FloatArray, PosedImage, PoseSet
from models.digest import canonical_json
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.photos import INDEX_FILE, PhotoIndex
from tasks.context import Context
from tasks.quality.base import MaskKind, QualityReport
from tasks.quality.collect import geometry_metrics, judge, mesh_metrics, pose_metrics, view_metrics
from tasks.quality.masks import points_above_support, region_mask, silhouette_mask, true_camera
from tasks.quality.mesh_checks import check_mesh
from tasks.quality.methods.standard import Options
from tasks.quality.published import read_published
from tasks.quality.truth import Measured, Truth, measure, read_truth
from tasks.quality.views import MISSED, BoolArray, View, compare, load_mask, spread

Float32Array = npt.NDArray[np.float32]


def evaluate(options: Options, context: Context) -> QualityReport:
    """Measure everything, judge, and write `quality.json`, `report.html` and `preview.jpg`."""
    from tasks.quality.report import Evidence, write_report

    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_bytes())
    photos = PhotoIndex.read(context.fetch("ingest", INDEX_FILE))
    mesh = read_published(context.fetch("surface", "asset.glb"), poses.up)
    surface_facts = _facts(context, "surface", "surface.json")
    context.progress(0.05, "mesh read back", {"faces": len(mesh.faces)})
    truth, measured = None, None
    if "truth" in context.request.inputs:
        truth = read_truth(Path(context.input("truth").uri))
        measured = measure(
            mesh,
            poses,
            truth,
            options.samples,
            options.hull_resolution,
            options.hull_edge_px,
            context.request.seed,
            context.threads,
            context.check,
        )
        context.progress(0.4, "geometry scored", {"fscore_1pct": measured.report.mesh.fscore(0.01)})
    views = _views(options, context, poses, photos, mesh, surface_facts, truth, measured)
    rows = tuple(row for view in views if (row := view.row) is not None)
    checks = check_mesh(mesh, poses.world_from_field, poses.up)
    geometry = measured.report if measured else None
    metrics = (
        *view_metrics(rows, options.max_edge_px, options.field_edge_px),
        *geometry_metrics(geometry),
        *mesh_metrics(checks),
        *pose_metrics(_facts(context, "pose", "pose.json")),
    )
    verdict, reasons, gates = judge(options.gates, metrics, checks)
    report = QualityReport(
        asset=context.request.asset,
        verdict=verdict,
        reasons=reasons,
        metrics=metrics,
        gates=gates,
        views=rows,
        mesh=checks,
        geometry=geometry,
    )
    (context.output / "quality.json").write_bytes(canonical_json(report) + b"\n")
    context.progress(0.8, "judged", {"verdict": str(verdict)})
    evidence = Evidence(
        report=report,
        poses=poses,
        photos=photos,
        mesh=mesh,
        views=views,
        measured=measured,
        points=_points(context),
        training=_facts(context, "train", "train.json"),
        surface=surface_facts,
        settings=_settings(context),
    )
    write_report(evidence, options, context)
    context.progress(1.0, "report written", {})
    return report


def _views(
    options: Options,
    context: Context,
    poses: PoseSet,
    photos: PhotoIndex,
    mesh: Mesh,
    surface_facts: dict[str, Any],
    truth: Truth | None,
    measured: Measured | None,
) -> list[View]:
    """The held-out photos with the pictures that the field and the mesh make of them."""
    heldout = spread(poses.of_split("heldout"), options.max_views)
    if not heldout:
        return []
    from models.fields import load_field
    from models.fields.render import render_image

    field = load_field(context.fetch_all("train") / "field", context.device)
    masks = _Masks(context, poses, photos, bool(surface_facts.get("support_cut")), truth, measured)
    surface = (mesh, RayCaster(mesh, context.threads))

    # of masked photos a field learns the object alone: what it lacks is shown as what the mesh lacks is
    alone = not field.surrounded and any(image.mask for image in poses.images)
    backdrop = MISSED[0] if alone else None

    def render_field(camera: Camera, c2w: npt.ArrayLike) -> Float32Array:
        rgb = render_image(field, camera, c2w, poses.world_from_field, check=context.check, backdrop=backdrop).rgb
        return np.asarray(rgb, dtype=np.float32)

    views = []
    for k, image in enumerate(heldout):
        context.check()
        photo = context.fetch("pose", image.image or f"images/{image.name}.jpg")
        views.append(compare(image, photo, options.max_edge_px, options.field_edge_px, render_field, surface, masks.of))
        context.progress(0.4 + 0.4 * (k + 1) / len(heldout), f"held-out {image.name}", {})
    return views


class _Masks:
    """Chooses each held-out photo's mask (see `tasks.quality.masks`)."""

    def __init__(
        self,
        context: Context,
        poses: PoseSet,
        photos: PhotoIndex,
        support_cut: bool,
        truth: Truth | None,
        measured: Measured | None,
    ) -> None:
        self._context = context
        self._poses = poses
        self._stored = {photo.name: (photo.width, photo.height) for photo in photos.photos}
        self._true = {image.name: image for image in truth.cameras.images} if truth else {}
        self._true_caster = measured.surface.caster if measured else None
        above = None
        if support_cut and poses.support is not None:
            points = _points(context)
            above = points_above_support(points["xyz"], poses.world_from_field, poses.support) if points else None
        self._above = RayCaster(above, context.threads) if above else None

    def of(self, image: PosedImage, camera: Camera) -> tuple[BoolArray, MaskKind]:
        """The mask [H, W] of a held-out photo at the size of the comparison, and its kind."""
        true = self._true.get(image.name)
        if true is not None and self._true_caster is not None:
            stored = self._stored.get(image.name, (image.camera.width, image.camera.height))
            at_size = true_camera(true, stored, image.camera).resized(camera.width, camera.height)
            return silhouette_mask(self._true_caster, at_size, true.c2w), "true_silhouette"
        region = region_mask(camera, image.c2w, self._poses.world_from_field)
        if image.mask is not None:
            return region & load_mask(self._context.fetch("pose", image.mask), camera), "given_mask"
        if self._above is not None:
            return silhouette_mask(self._above, camera, image.c2w), "region_above_support"
        return region, "region"


def _facts(context: Context, name: str, path: str) -> dict[str, Any]:
    """A stage's facts, from its JSON file."""
    found: dict[str, Any] = json.loads(context.fetch(name, path).read_bytes())
    return found


def _points(context: Context) -> dict[str, FloatArray] | None:
    """The sparse points' xyz and rgb; None when the pose stage has none (given poses)."""
    if not context.input("pose").has("points.npz"):
        return None
    with np.load(context.fetch("pose", "points.npz")) as data:
        return {"xyz": data["xyz"], "rgb": data["rgb"]}


def _settings(context: Context) -> list[dict[str, Any]]:
    """Method, version and effective options of each stage so far, from its commit; this one's from the request."""
    settings = []
    for name, ref in context.request.inputs.items():
        folder, found, _ = ref.uri.removeprefix("store:").partition("/attempts/")
        data = context.store.get_bytes(f"{folder}/DONE.json") if found else None
        if data is not None:
            done = json.loads(data)
            settings.append({"stage": name} | {key: done[key] for key in ("method", "version", "options", "seed")})
    request = context.request
    settings.append(
        {
            "stage": str(request.stage),
            "method": request.method,
            "version": request.version,
            "options": request.options,
            "seed": request.seed,
        }
    )
    order = ("ingest", "pose", "train", "surface", "quality")
    return sorted(settings, key=lambda row: order.index(row["stage"]))
