"""What the train stage hands on: something that can be drawn and asked for colours, of a kind.

Stored as a folder with `representation.json`, which names the kind; `load_representation` finds the kind's class in
`BUILT_IN`, or among the entry points of the group `digitize.representations`.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from models.camera import Camera, Matrix4
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.installed import entry_points

REPRESENTATION_FILE = "representation.json"
FORMAT = 1
ENTRY_POINTS = "digitize.representations"
BUILT_IN = {
    "field": "models.fields.representation:FieldRepresentation",
    "mesh": "models.mesh.representation:MeshRepresentation",
}
SOLID = 0.5
"""Opacity from which on a pixel shows something solid and has a depth."""


class Render(NamedTuple):
    """A picture of a representation."""

    rgb: npt.NDArray[np.float32]
    """[H, W, 3] sRGB in [0, 1]."""
    depth: npt.NDArray[np.float32]
    """[H, W] along the camera's z axis in world units; infinite where nothing solid is seen."""
    opacity: npt.NDArray[np.float32]
    """[H, W] in [0, 1], of what is inside the region of interest."""
    normals: npt.NDArray[np.float32] | None = None
    """[H, W, 3] unit vectors in the world that point out of the surface, zero where nothing solid is seen; None if not
    asked for."""


class Representation(ABC):
    """One asset as a training method left it. A subclass names its `kind`."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def has_background(self) -> bool:
        """Whether it knows what lies outside the region of interest."""

    @property
    def has_colours(self) -> bool:
        """Whether its pictures show the object's colours; without, they tell nothing about likeness."""
        return True

    @abstractmethod
    def render(
        self,
        camera: Camera,
        c2w: npt.ArrayLike,
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
        normals: bool = False,
        backdrop: float | None = None,
    ) -> Render:
        """The picture that a camera takes.

        Args:
            c2w: [4, 4] camera to world, OpenCV axes.
            world_from_field: [4, 4] similarity from the cube [-1, 1]^3 to the region of interest.
            check: called from time to time; may raise to stop.
            normals: also the normals.
            backdrop: sRGB grey to show instead of what is outside the region; without one, what is known of it, or
                black.
        """

    @abstractmethod
    def colours(
        self,
        points: npt.NDArray[np.float64],
        normals: npt.NDArray[np.float64],
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
    ) -> npt.NDArray[np.uint8]:
        """[N, 3] sRGB of points [N, 3] of the surface in the world with outward unit normals [N, 3]: for texels that no
        photo shows."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the content beside `representation.json`. Equal content gives equal bytes."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, device: str) -> Representation:
        """What `write` wrote. Raises DigitizeError(source_not_found or unsupported_format)."""

    def save(self, folder: Path) -> None:
        """Write the folder that `load_representation` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        (folder / REPRESENTATION_FILE).write_bytes(canonical_json({"format": FORMAT, "kind": self.kind}) + b"\n")


def load_representation(folder: Path, device: str = "cpu") -> Representation:
    """The representation in a folder.

    Raises:
        DigitizeError(source_not_found): no representation there.
        DigitizeError(unsupported_format): of an unknown kind or format, or damaged.
    """
    path = folder / REPRESENTATION_FILE
    if not path.is_file():
        message = f"expected {REPRESENTATION_FILE}, found none"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, path=str(folder))
    try:
        header = json.loads(path.read_text())
        if header["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {header['format']}")
        kind = _class_of(header["kind"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"not a readable representation: {error}"
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, message, path=str(path)) from error
    return kind.read(folder, device)


def kinds() -> tuple[str, ...]:
    """The kinds that are built in or installed, sorted."""
    return tuple(sorted({*BUILT_IN, *(entry.name for entry in entry_points(ENTRY_POINTS))}))


def _class_of(kind: str) -> type[Representation]:
    for entry in entry_points(ENTRY_POINTS, kind):
        found: type[Representation] = entry.load()
        return found
    if kind not in BUILT_IN:
        raise ValueError(f"expected one of the kinds {', '.join(kinds())}, found '{kind}'")
    module, _, name = BUILT_IN[kind].partition(":")
    built_in: type[Representation] = getattr(importlib.import_module(module), name)
    return built_in
