"""All measured figures as metrics with one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.errors import ReasonCode
from models.quality import Metric
from models.results import Reason
from tasks.quality.base import GeometryReport, MaskKind, MeshChecks, StereoCheck, ViewRow
from tasks.quality.views import TEXTURE_DB

MASK_TEXT: dict[MaskKind, str] = {
    "true_silhouette": "the true silhouette (true mesh, true camera) dilated by 2 % of its size",
    "given_mask": "the given mask inside the projected region of interest",
    "region": "the projected region of interest (all pixels whose ray meets its cube)",
    "region_above_support": (
        "the projected convex hull of the sparse points above the support plane, dilated by 2 % of its size: "
        "the support was cut off on request and would count as missing"
    ),
}


def share_name(share: float) -> str:
    """A distance as part of a metric's name.

    >>> share_name(0.0025), share_name(0.01)
    ('0_25pct', '1pct')
    """
    return f"{share * 100:g}pct".replace(".", "_")


def view_metrics(rows: Sequence[ViewRow], max_edge_px: int, model_edge_px: int) -> list[Metric]:
    """Means over the held-out photos; nothing without any.

    Args:
        max_edge_px, model_edge_px: longer side of the pictures compared with the mesh and with the trained model.
    """
    if not rows:
        return []
    kinds = sorted({row.mask for row in rows})
    where = f"mean over {len(rows)} held-out photos inside " + " or ".join(MASK_TEXT[kind] for kind in kinds)
    missing = f"a pixel that the mesh misses counts as mid-grey (0.5); pictures of at most {max_edge_px} px"
    small = f"pictures of at most {model_edge_px} px"

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    metrics = [
        Metric(
            name="psnr_mesh",
            value=mean([row.psnr_mesh for row in rows]),
            unit="dB",
            about=f"PSNR of the published textured mesh, unlit, {where}; {missing}.",
        ),
        Metric(
            name="psnr_mesh_corrected",
            value=mean([row.psnr_mesh_corrected for row in rows]),
            unit="dB",
            about="psnr_mesh after one affine colour correction of each photo, fitted where the mesh covers it.",
        ),
        Metric(
            name="ssim_mesh",
            value=mean([row.ssim_mesh for row in rows]),
            about=f"SSIM of the published textured mesh, {where}; {missing}.",
        ),
        Metric(
            name="coverage_mesh",
            value=mean([row.covered for row in rows]),
            about="Share of the mask's pixels that the published mesh covers.",
        ),
        Metric(name="heldout_views", value=len(rows), unit="photos", about="Held-out photos measured."),
    ]
    drawn = [row.psnr_model for row in rows if row.psnr_model is not None]
    if drawn:
        about = f"PSNR of the trained model, {where}; {small}."
        metrics.insert(0, Metric(name="psnr_model", value=mean(drawn), unit="dB", about=about))
    corrected = [row.psnr_model_corrected for row in rows if row.psnr_model_corrected is not None]
    if corrected:
        about = "psnr_model after one affine colour correction of each photo."
        metrics.append(Metric(name="psnr_model_corrected", value=mean(corrected), unit="dB", about=about))
    gaps = [row.gap for row in rows if row.gap is not None]
    if gaps:
        about = (
            f"PSNR of the trained model, at most {TEXTURE_DB:g} dB, less that of the mesh, both colour-corrected, "
            "where the mesh covers the mask: what the surface lost."
        )
        metrics.append(Metric(name="mesh_gap", value=mean(gaps), unit="dB", better="lower", about=about))
    alike = [row.ssim_model for row in rows if row.ssim_model is not None]
    if alike:
        about = f"SSIM of the trained model, {where}; {small}."
        metrics.append(Metric(name="ssim_model", value=mean(alike), about=about))
    full = [row.psnr_model_full for row in rows if row.psnr_model_full is not None]
    if full:
        about = f"PSNR of the trained model, mean over {len(full)} whole held-out photos, background included; {small}."
        metrics.append(Metric(name="psnr_model_full", value=mean(full), unit="dB", about=about))
    return metrics


def geometry_metrics(report: GeometryReport | None) -> list[Metric]:
    """F-scores, Chamfer distance and camera errors; nothing without a known truth."""
    if report is None:
        return []
    metrics = []
    for prefix, what, score in (("", "published mesh", report.mesh), ("hull_", "visual hull", report.hull)):
        if score is None:
            continue
        for row in score.at:
            about = f"F-score of the {what} at {row.share * 100:g} % of the true diagonal."
            metrics.append(Metric(name=f"fscore_{prefix}{share_name(row.share)}", value=row.fscore, about=about))
        name = "chamfer_hull" if prefix else "chamfer"
        if score.chamfer is not None:
            about = f"Mean of both mean distances of the {what}, as a share of the true diagonal."
            metrics.append(Metric(name=name, value=score.chamfer, better="lower", about=about))
    if report.hull is not None:
        about = "F-score at 1 % of the visual hull of all true silhouettes: the baseline, scored in the same run."
        metrics.append(Metric(name="fscore_hull", value=report.hull.fscore(0.01), about=about))
    one = next(row for row in report.mesh.at if abs(row.share - 0.01) < 1e-9)
    metrics += [
        Metric(name="precision_1pct", value=one.precision, about="Share of the mesh within 1 % of the true surface."),
        Metric(name="recall_1pct", value=one.recall, about="Share of the seen true surface within 1 % of the mesh."),
    ]
    if report.mesh.normal_consistency is not None:
        about = "Mean |cosine| between normals of the mesh and of the true surface, both ways."
        metrics.append(Metric(name="normal_consistency", value=report.mesh.normal_consistency, about=about))
    centre = report.alignment.centre_rms / report.mesh.diagonal
    turn = report.alignment.rotation_mean_deg
    return [
        *metrics,
        Metric(
            name="camera_centre_error",
            value=centre,
            better="lower",
            about="RMS distance of the aligned camera centres to the true ones, as a share of the true diagonal.",
        ),
        Metric(
            name="camera_rotation_error_deg",
            value=turn,
            unit="deg",
            better="lower",
            about="Mean angle between the aligned and the true camera orientations.",
        ),
    ]


def mesh_metrics(checks: MeshChecks) -> list[Metric]:
    """Defects of the published mesh."""

    def lower(name: str, value: float, about: str) -> Metric:
        return Metric(name=name, value=value, better="lower", about=about)

    return [
        lower("components", checks.components, "Connected pieces of the published mesh."),
        lower("boundary_edges", checks.boundary_edges, "Edges with one face: the rims of holes."),
        lower("non_manifold_share", checks.non_manifold_share, "Share of edges with more than two faces."),
        lower("degenerate_share", checks.degenerate_share, "Share of faces without area."),
        lower("outside_share", checks.outside_share, "Share of vertices outside the region of interest."),
        Metric(name="watertight", value=float(checks.watertight), about="1 when every edge has exactly two faces."),
    ]


def stereo_metrics(check: StereoCheck | None) -> list[Metric]:
    """What stereo of the held-out photos says; nothing where it was not asked."""
    if check is None:
        return []
    of = f"from stereo of {check.photos} held-out photos and those around them, made for this figure alone"
    metrics = [
        Metric(
            name="completeness_dense",
            value=check.completeness,
            about=f"Share of {check.points} points within 0.5 % of the mesh's diagonal of the mesh, {of}.",
        )
    ]
    if check.precision is not None:
        about = f"Share of the mesh that lies where the photos have the surface, of what they tell about it, {of}."
        metrics.append(Metric(name="precision_dense", value=check.precision, about=about))
    return metrics


def unfit(checks: MeshChecks) -> tuple[Reason, ...]:
    """Why the mesh cannot be used whatever the gates say: it is not finite, or has no faces."""
    reasons = []
    if not checks.finite:
        reasons.append(Reason.of(ReasonCode.NOT_FINITE, "expected finite vertex positions in the published mesh"))
    if checks.faces == 0:
        reasons.append(Reason.of(ReasonCode.EMPTY_SURFACE, "expected faces in the published mesh, found none"))
    return tuple(reasons)
