"""The whole measurement of one asset, from the stage's inputs to its files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifacts import (
    ASSET_FILE,
    DENSE_FACTS_FILE,
    MASK_FACTS_FILE,
    QUALITY_FILE,
    SURFACE_FILE,
    TRAIN_FILE,
)
from models.camera import Camera, PosedImage, PoseSet
from models.digest import canonical_json
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.photos import PhotoIndex
from models.representation import Representation
from models.stage import Stage
from tasks.context import Context
from tasks.external import fetch_external
from tasks.quality.base import MaskKind, QualityReport
from tasks.quality.collect import geometry_metrics, mesh_metrics, stereo_metrics, view_metrics
from tasks.quality.installed import Seen, measure_installed
from tasks.quality.masks import region_mask, silhouette_mask, true_camera
from tasks.quality.mesh_checks import check_mesh
from tasks.quality.options import QualityOptions
from tasks.quality.published import read_published
from tasks.quality.stereo_check import check_by_stereo
from tasks.quality.truth import Measured, Truth, measure, read_truth
from tasks.quality.views import MISSED, BoolArray, Draw, View, compare, load_mask, spread
from tasks.silhouettes.outlines import points_above_support
from tasks.stage_files import (
    fetch,
    fetch_picture,
    has_model,
    load_model,
    read_facts,
    read_photos,
    read_points,
    read_poses,
)

Float32Array = npt.NDArray[np.float32]


def evaluate(options: QualityOptions, context: Context) -> QualityReport:
    """Measure everything, and write `quality.json`, `figures.html` and `preview.jpg`."""
    from tasks.quality.page import Evidence, write_page

    poses = read_poses(context)
    photos = read_photos(context)
    mesh = read_published(fetch(context, Stage.SURFACE, ASSET_FILE), poses.up)
    surface_facts = read_facts(context, Stage.SURFACE, SURFACE_FILE)
    context.progress(0.05, "mesh read back", {"faces": len(mesh.faces)})
    truth, measured = None, None
    if "truth" in context.request.inputs:
        truth = read_truth(fetch_external(context, "truth"))
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
    stereo = check_by_stereo(mesh, poses, bool(surface_facts.get("support_cut")), options, context)
    checks = check_mesh(mesh, poses.world_from_field, poses.up)
    geometry = measured.report if measured else None
    metrics = (
        *view_metrics(rows, options.max_edge_px, options.model_edge_px),
        *geometry_metrics(geometry),
        *stereo_metrics(stereo),
        *mesh_metrics(checks),
    )
    seen = Seen(mesh=mesh, poses=poses, views=tuple(views), measured=measured, context=context)
    report = QualityReport(
        asset=context.request.asset,
        metrics=(*metrics, *measure_installed(options.metrics, seen)),
        views=rows,
        mesh=checks,
        geometry=geometry,
    )
    (context.output / QUALITY_FILE).write_bytes(canonical_json(report) + b"\n")
    context.progress(0.9, "measured", {})
    evidence = Evidence(
        report=report,
        poses=poses,
        photos=photos,
        mesh=mesh,
        views=views,
        measured=measured,
        points=read_points(context),
        training=read_facts(context, Stage.TRAIN, TRAIN_FILE),
        surface=surface_facts,
        masks=_mask_facts(context),
        mask_options=_mask_options(context),
    )
    write_page(evidence, options, context)
    context.progress(1.0, "figures written", {})
    return report


def _views(
    options: QualityOptions,
    context: Context,
    poses: PoseSet,
    photos: PhotoIndex,
    mesh: Mesh,
    surface_facts: dict[str, Any],
    truth: Truth | None,
    measured: Measured | None,
) -> list[View]:
    """The held-out photos with the pictures that the model and the mesh make of them."""
    heldout = spread(poses.of_split("heldout"), options.max_views)
    if not heldout:
        return []
    model = load_model(context) if has_model(context) else None
    masks = _Masks(context, poses, photos, bool(surface_facts.get("support_cut")), truth, measured)
    surface = (mesh, RayCaster(mesh, context.threads))
    masked = any(image.mask for image in poses.images)
    draw = _drawing(model, poses, masked, context)
    views = []
    for k, image in enumerate(heldout):
        context.check()
        photo = fetch_picture(context, image.image or f"images/{image.name}.jpg")
        own = None if image.mask is None else fetch_picture(context, image.mask)
        view = compare(image, photo, options.max_edge_px, options.model_edge_px, draw, surface, masks.of, own)
        views.append(replace(view, full=view.full and _explains_all(model, masked)))
        context.progress(0.4 + 0.4 * (k + 1) / len(heldout), f"held-out {image.name}", {})
    return views


def _drawing(model: Representation | None, poses: PoseSet, masked: bool, context: Context) -> Draw | None:
    """How the trained model draws a picture; None where there is no model, or one without colours."""
    if model is None or not model.has_colours:
        return None
    # what a model of the object alone lacks is shown as what the mesh lacks is
    backdrop = None if _explains_all(model, masked) else MISSED[0]

    def draw(camera: Camera, c2w: npt.ArrayLike) -> Float32Array:
        return model.render(camera, c2w, poses.world_from_field, check=context.check, backdrop=backdrop).rgb

    return draw


def _explains_all(model: Representation | None, masked: bool) -> bool:
    """Whether a model means to show all of a photo: it knows the background, or is a field of photos before black."""
    return model is not None and (model.has_background or (model.kind == "field" and not masked))


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
            points = read_points(context)
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
            return region & load_mask(fetch_picture(self._context, image.mask), camera), "given_mask"
        if self._above is not None:
            return silhouette_mask(self._above, camera, image.c2w), "region_above_support"
        return region, "region"


def _mask_facts(context: Context) -> dict[str, Any]:
    """What the mask stage says, and what the dense stage changed; empty where no masks were looked for."""
    facts, dense = (read_facts(context, Stage.POSE, path) for path in (MASK_FACTS_FILE, DENSE_FACTS_FILE))
    return facts | {key: dense[key] for key in ("masks_refined", "masks_alike") if facts and key in dense}


def _mask_options(context: Context) -> dict[str, Any]:
    """What was asked of the mask stage; empty where it did not run."""
    done = context.find_done(Stage.MASK) if str(Stage.MASK) in context.request.inputs else None
    return {} if done is None else done.options
