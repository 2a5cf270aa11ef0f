"""The options of the export stage. Light."""

from __future__ import annotations

import importlib.util
from typing import Literal

from pydantic import Field, field_validator

from models.record import Record
from tasks.export import exporters

PointFormat = Literal["ply", "e57"]


class ExportOptions(Record):
    """Which files are written."""

    formats: tuple[str, ...] = Field(default=("glb", "obj", "ply"), min_length=1)
    """Files of each tier but `full`: `glb`, `glb_draco` (compressed), `usdz`, `obj`, `ply`, `stl`, and what installed
    packages add."""
    points: tuple[PointFormat, ...] = ("ply",)
    """Files of the points of dense stereo, where it ran: `ply`, and `e57` for surveying programs, which needs
    `asset-digitizer[e57]`. Empty for none."""

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in formats if name not in exporters.names()]:
            raise ValueError(f"expected formats among {', '.join(exporters.names())}, found {', '.join(unknown)}")
        if "glb" not in formats:
            raise ValueError("expected `glb` among the formats: it is what is shown")
        return formats

    @field_validator("points")
    @classmethod
    def _writable(cls, points: tuple[PointFormat, ...]) -> tuple[PointFormat, ...]:
        if "e57" in points and importlib.util.find_spec("pye57") is None:
            raise ValueError(
                "format e57: expected the package pye57, found none; install it: pip install 'asset-digitizer[e57]'"
            )
        return points
