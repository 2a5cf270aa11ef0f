"""The options of the quality stage. Light."""

from __future__ import annotations

from pydantic import Field

from models.record import Record


class QualityOptions(Record):
    """What is measured, and how closely."""

    metrics: dict[str, str] = Field(default_factory=dict)
    """Metrics of installed packages with their versions; filled in, so that a new one is measured anew."""
    max_views: int = Field(default=8, ge=1)
    """Held-out photos that are measured, evenly spread; more make the means steadier and take longer."""
    max_edge_px: int = Field(default=800, ge=64)
    """Longer side of the comparison with the mesh; raise it when detail at full size matters."""
    model_edge_px: int = Field(default=480, ge=64)
    """Longer side of the comparison with the trained model; lower it where there is no GPU and time is short."""
    samples: int = Field(default=200_000, ge=1_000)
    """Samples a side of the geometry score; lower it only to try things out."""
    hull_resolution: int = Field(default=256, ge=0, le=1024)
    """Cells along the visual hull that is scored beside the mesh; 0 leaves the hull out."""
    hull_edge_px: int = Field(default=1000, ge=64)
    """Longer side of the silhouettes that carve the hull."""
    stereo_views: int = Field(default=5, ge=0)
    """Held-out photos whose depth is estimated, to tell without a truth what the mesh lacks and what is wrong with it
    (`completeness_dense`, `precision_dense`); 0 leaves that out."""
    stereo_edge_px: int = Field(default=640, ge=64)
    """Longer side of those depth maps where the object spans 0.6 of a photo; where it spans less they are larger, up to
    the photos' own size. Time grows with its square."""
    report_views: int = Field(default=4, ge=0)
    """Held-out photos shown in the report."""
    report_edge_px: int = Field(default=440, ge=64)
    """Longer side of the pictures in the report; its file grows with the square."""
    preview_px: int = Field(default=800, ge=64)
    """Side of `preview.jpg`."""
    still_px: int = Field(default=320, ge=32)
    """Side of the report's turntable pictures and of its pictures of the geometry's error."""
    viewer_faces: int = Field(default=80_000, ge=100)
    """Faces of the report's 3D view; a larger mesh is thinned out for it (never the published one)."""
    viewer_texture_px: int = Field(default=2048, ge=64)
    """Longer side of the texture in the report's 3D view."""
