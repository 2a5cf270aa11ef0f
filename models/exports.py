"""What the export stage hands on: the files of an asset as they are published."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.record import Record


class ExportedFile(Record):
    """One file."""

    path: str
    """Below the stage's outputs, and below the published version."""
    role: Literal["model", "cameras", "points"]
    media_type: str
    tier: str | None = None
    """Which size of the model it is or belongs to."""
    bytes: int = Field(ge=0)


class ExportIndex(Record):
    """All files of the stage, the main tier's first. File: `export.json`."""

    units: Literal["metre", "arbitrary"]
    """The unit of all lengths in the files; STL alone is in thousandths of it."""
    files: tuple[ExportedFile, ...]
