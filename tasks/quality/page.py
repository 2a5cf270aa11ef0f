"""The page of figures: one HTML file that holds everything it shows, and the preview picture.

Verdict, gates and settings are known only when the asset is judged: the page has slots for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from models.artifacts import FIGURES_FILE, PREVIEW_FILE
from models.camera import FloatArray, PoseSet, gltf_from_world, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.photos import PhotoIndex
from tasks.context import Context
from tasks.quality.base import QualityReport
from tasks.quality.charts import camera_plot, line_chart
from tasks.quality.collect import MASK_TEXT
from tasks.quality.geometry import is_support, seen_by
from tasks.quality.mask_section import MaskSection, mask_section
from tasks.quality.options import QualityOptions
from tasks.quality.pictures import data_uri, distance_picture, error_map, masked, orbit, studio, to_jpeg
from tasks.quality.truth import Measured
from tasks.quality.viewer import pack_mesh
from tasks.quality.views import View, spread
from tasks.report_page import SLOTS, flat, slot

STILLS = 6
HEAT_VIEWS = 3
HEAT_FULL_SCALE = 0.01
"""Distance that is yellow in the geometry's pictures, as a share of the true diagonal."""
ERROR_FULL_SCALE = 0.3
"""Mean colour difference that is yellow in error maps."""
ELEVATION_DEG = 20.0
_PREVIEW_TURN_DEG = 25.0

Heat = list[tuple[str, list[tuple[str, int]]]]


@dataclass(frozen=True)
class Evidence:
    """Everything the report shows."""

    report: QualityReport
    poses: PoseSet
    photos: PhotoIndex
    mesh: Mesh
    """The published mesh in the capture's frame."""
    views: list[View]
    measured: Measured | None
    points: dict[str, npt.NDArray[Any]] | None
    """Sparse points: xyz [P, 3] and rgb [P, 3]; None when there are none."""
    training: dict[str, Any]
    surface: dict[str, Any]
    masks: dict[str, Any]
    """The mask stage's facts; empty where it did not run."""
    mask_options: dict[str, Any]
    """Its options."""


def write_page(evidence: Evidence, options: QualityOptions, context: Context) -> None:
    """Write `preview.jpg` and `figures.html` to the stage's output."""
    caster = RayCaster(evidence.mesh, context.threads)
    front = _front(evidence)
    drawable = np.unique(evidence.mesh.faces)
    vertices = evidence.mesh.vertices[drawable]
    camera, c2w = orbit(vertices, evidence.poses.up, front, _PREVIEW_TURN_DEG, ELEVATION_DEG, options.preview_px)
    preview = to_jpeg(studio(evidence.mesh, caster, evidence.poses.up, camera, c2w), quality=90)
    (context.output / PREVIEW_FILE).write_bytes(preview)
    context.check()
    stills = []
    for k in range(STILLS):
        context.check()
        azimuth = _PREVIEW_TURN_DEG + k * 360.0 / STILLS
        camera, c2w = orbit(vertices, evidence.poses.up, front, azimuth, ELEVATION_DEG, options.still_px)
        picture = studio(evidence.mesh, caster, evidence.poses.up, camera, c2w, supersample=1)
        stills.append((data_uri(to_jpeg(picture, quality=80)), round(azimuth - _PREVIEW_TURN_DEG)))
    viewer = pack_mesh(
        evidence.mesh, evidence.poses.up, options.viewer_faces, options.viewer_texture_px, context.threads
    )
    ahead = transform_points(gltf_from_world(evidence.poses.up), front[None])[0]
    viewer["yaw"] = float(np.arctan2(ahead[0], ahead[2]) + np.radians(_PREVIEW_TURN_DEG))
    heat = _heat(evidence, front, options.still_px, context)
    masks = mask_section(evidence.masks, evidence.mask_options, evidence.poses, options.report_edge_px, context)
    page = render(evidence, options, stills, viewer, heat, masks)
    (context.output / FIGURES_FILE).write_text(page, encoding="utf-8")


def render(
    evidence: Evidence,
    options: QualityOptions,
    stills: list[tuple[str, int]],
    viewer: dict[str, Any],
    heat: Heat,
    masks: MaskSection | None = None,
) -> str:
    """The page as text.

    Args:
        stills: (data URI, azimuth in degrees) of the turntable.
        viewer: from `pack_mesh`, with `yaw`.
        heat: (title, (data URI, azimuth in degrees) of each picture) of the geometry's error pictures.
        masks: where the masks come from and how they lie on the photos; None where there never were any.
    """
    from jinja2 import Environment, StrictUndefined

    report, folder = evidence.report, resources.files("tasks.quality")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "figures.html.j2").read_text(encoding="utf-8"))
    xyz = evidence.points["xyz"] if evidence.points else None
    return template.render(
        report=report,
        slots={name: Markup(slot(name)) for name in SLOTS},
        key_figures=key_figures(evidence),
        css=Markup((folder / "report.css").read_text(encoding="utf-8")),
        script=Markup((folder / "viewer.js").read_text(encoding="utf-8")),
        viewer=viewer,
        stills=stills,
        still_px=options.still_px,
        comparisons=_comparisons(evidence.views, options),
        mask_text=MASK_TEXT,
        heat=heat,
        masks=masks,
        heat_full_scale=HEAT_FULL_SCALE,
        error_full_scale=ERROR_FULL_SCALE,
        plots=[camera_plot(evidence.poses, xyz, side) for side in (False, True)],
        poses=evidence.poses,
        photos=evidence.photos,
        registered={image.name: image.split for image in evidence.poses.images},
        curve=_curve(evidence.training),
        tiers=tier_rows(evidence.surface),
        surface=flat({name: value for name, value in evidence.surface.items() if name != "tiers"}),
    )


def tier_rows(surface: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes in which the asset is made, for the report's table; none where the surface stage names none."""
    rows = []
    for name, tier in surface.get("tiers", {}).items():
        sealed, size = tier.get("watertight"), tier.get("texture_size")
        rows.append(
            {
                "name": name,
                "faces": tier["faces"],
                "maps": f"{size} px" if size else "none",
                "watertight": "not checked" if sealed is None else ("yes" if sealed else "no"),
                "crossing": tier.get("self_intersections", "not checked"),
            }
        )
    return sorted(rows, key=lambda row: -int(row["faces"]))


def key_figures(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(label, figure, remark) of what a curator asks first and no metric tells."""
    return [*_mask_row(evidence), ("Mesh", f"{evidence.report.mesh.faces:,}", "triangles")]


def _mask_row(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Where the photos' masks come from, as a key figure; none where the mask stage did not run."""
    facts, masked = evidence.masks, sum(image.mask is not None for image in evidence.poses.images)
    if facts.get("scene_mode"):
        return [
            ("Masks", "none", "a scene: " + "; ".join(str(each).split(":")[0] for each in facts.get("reasons", ())))
        ]
    if not facts or not masked:
        return []
    how = "came with the photos" if facts.get("given") else "found by the line"
    if facts.get("carved"):
        how = "outlines by depth"
    return [("Masks", f"{masked} of {len(evidence.poses.images)} photos", how)]


def _front(evidence: Evidence) -> FloatArray:
    """[3] direction from the object towards the first camera: where the photographer began."""
    middle = (evidence.mesh.vertices.min(0) + evidence.mesh.vertices.max(0)) / 2
    direction = evidence.poses.images[0].centre - middle
    length = float(np.linalg.norm(direction))
    return direction / length if length > 0 else np.array([1.0, 0.0, 0.0])


def _comparisons(views: list[View], options: QualityOptions) -> list[dict[str, Any]]:
    """Photo, trained model, mesh and error map of a few held-out photos."""
    rows = []
    for view in spread([view for view in views if view.row is not None], options.report_views):
        edge = options.report_edge_px
        pictures = [
            ("Photo", view.photo),
            *([] if view.object_mask is None else [("What its mask keeps", masked(view.photo, view.object_mask))]),
            *([("Trained model", view.model)] if view.model is not None else []),
            ("Published mesh", view.mesh),
            ("Error of the mesh", error_map(view.mesh, view.photo, view.mask, ERROR_FULL_SCALE)),
        ]
        rows.append({"row": view.row, "pictures": [(n, data_uri(to_jpeg(p, edge, quality=82))) for n, p in pictures]})
    return rows


def _heat(evidence: Evidence, front: FloatArray, size_px: int, context: Context) -> Heat:
    """Pictures of the mesh coloured by distance to the truth, and of the truth by distance to the mesh."""
    measured = evidence.measured
    if measured is None:
        return []
    matrix = np.array(measured.alignment.truth_from_capture)
    surface = measured.surface
    moved = RayCaster(Mesh(transform_points(matrix, evidence.mesh.vertices), evidence.mesh.faces), context.threads)
    up_vector = matrix[:3, :3] @ np.array(evidence.poses.up)
    up_vector /= np.linalg.norm(up_vector)
    up = (float(up_vector[0]), float(up_vector[1]), float(up_vector[2]))
    cameras = measured.true_cameras
    full_scale = HEAT_FULL_SCALE * surface.diagonal
    tolerance = 1e-3 * surface.diagonal

    def seen(points: FloatArray) -> npt.NDArray[np.bool_]:
        return seen_by(surface.caster, points, cameras, tolerance, check=context.check)

    def not_support(points: FloatArray) -> npt.NDArray[np.bool_]:
        return ~is_support(points, surface.support, surface.diagonal)

    groups = []
    for shown, other, judged, what in (
        (moved, surface.caster, not_support, "Mesh, by its distance to the true surface"),
        (surface.caster, moved, seen, "True surface, by its distance to the mesh"),
    ):
        pictures = []
        for k in range(HEAT_VIEWS):
            context.check()
            azimuth = _PREVIEW_TURN_DEG + k * 360.0 / HEAT_VIEWS
            camera, c2w = orbit(surface.mesh.vertices, up, matrix[:3, :3] @ front, azimuth, ELEVATION_DEG, size_px)
            picture = distance_picture(shown, other, camera, c2w, full_scale, judged)
            pictures.append((data_uri(to_jpeg(picture)), k * 360 // HEAT_VIEWS))
        groups.append((what, pictures))
    return groups


def _curve(training: dict[str, Any]) -> Markup | None:
    """The training's PSNR over its steps, from the history in `train.json`."""
    rows = [row for row in training.get("history", ()) if "step" in row and row.get("psnr") is not None]
    return line_chart([float(row["step"]) for row in rows], [float(row["psnr"]) for row in rows], "step", "PSNR, dB")
