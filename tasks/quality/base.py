"""Records of the quality stage: what `quality.json` holds."""

from __future__ import annotations

from typing import Literal

from models.camera import Matrix4
from models.quality import Metric
from models.record import Record

MaskKind = Literal["true_silhouette", "given_mask", "region", "region_above_support"]


class SurfaceAtShare(Record):
    """Precision, recall and F-score at one distance."""

    share: float
    """The distance as a share of the true bounding box's diagonal."""
    precision: float
    recall: float
    fscore: float


class GeometryScore(Record):
    """A surface against the true one, by `tasks/quality/geometry.py`."""

    chamfer: float | None
    """Mean of the two mean distances over the diagonal; None when the prediction has no surface to measure."""
    accuracy: float | None
    """Mean distance from the prediction to the true surface, over the diagonal."""
    completeness: float | None
    """Mean distance from the seen part of the true surface to the prediction, over the diagonal."""
    at: tuple[SurfaceAtShare, ...]
    normal_consistency: float | None
    """Mean of both sides' |n . m|."""
    diagonal: float
    """Of the true bounding box, in the truth's unit."""
    prediction_samples: int
    truth_samples: int
    support_share: float
    """Share of the prediction's area that was left out as support."""
    seen_share: float
    """Share of the true area that at least two cameras see."""

    def fscore(self, share: float) -> float:
        """The F-score at one of the shares. Raises KeyError for others."""
        for row in self.at:
            if abs(row.share - share) < 1e-9:
                return row.fscore
        raise KeyError(share)


class AlignmentFacts(Record):
    """How the capture's frame lies in the truth's: Umeyama on the camera centres."""

    truth_from_capture: Matrix4
    scale: float
    cameras: int
    centre_rms: float
    """In the truth's unit."""
    rotation_mean_deg: float


class GeometryReport(Record):
    """Geometry, where the truth is known."""

    alignment: AlignmentFacts
    mesh: GeometryScore
    hull: GeometryScore | None
    """The visual hull of the true silhouettes, measured alike: the baseline."""
    support_known: bool


class StereoCheck(Record):
    """What stereo of the held-out photos says about the mesh (`tasks.quality.stereo_check`)."""

    completeness: float
    """Share of its points within 0.5 % of the mesh."""
    precision: float | None
    """Share of the mesh's seen samples with a depth beside them that are at that depth; None where none has any."""
    points: int
    photos: int


class ViewRow(Record):
    """One held-out photo."""

    name: str
    mask: MaskKind
    mask_share: float
    """Share of the picture inside the mask."""
    covered: float
    """Share of the mask that the mesh covers."""
    psnr_model: float | None
    """Of the trained model; None, like the next two, where there is none with colours."""
    psnr_model_full: float | None
    """Over the whole photo, where the model means to explain it."""
    psnr_model_corrected: float | None
    """After one affine colour correction of the picture (`metrics/colour.py`)."""
    psnr_mesh: float
    psnr_mesh_corrected: float
    gap: float | None = None
    """What the mesh lost against the model, in dB (`View._gap`); None without a model that has colours."""
    ssim_model: float | None
    ssim_mesh: float


class MeshChecks(Record):
    """The published mesh as read back from its file, corners at one position joined."""

    vertices: int
    faces: int
    components: int
    boundary_edges: int
    non_manifold_edges: int
    non_manifold_share: float
    degenerate_faces: int
    degenerate_share: float
    watertight: bool
    finite: bool
    outside_share: float
    """Share of vertices outside the region of interest (its cube, 1 % wider)."""
    area: float
    extent: tuple[float, float, float]
    """Sides of the bounding box in glTF's axes (x, y up, z), in the capture's unit."""


class QualityReport(Record):
    """`quality.json`: what was measured. What gates make of it is in the manifest."""

    schema_version: Literal[1] = 1
    asset: str
    metrics: tuple[Metric, ...]
    views: tuple[ViewRow, ...]
    mesh: MeshChecks
    geometry: GeometryReport | None

    @property
    def values(self) -> dict[str, float]:
        """Metric values by name."""
        return {metric.name: metric.value for metric in self.metrics}
