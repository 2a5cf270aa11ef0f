"""A finished mesh in files that keep all of it: `<name>.npz` and a PNG for each map. Nothing is rounded.

The surface stage writes one such set a tier; the export stage makes the published formats from them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import ByteArray, Mesh
from models.mesh.texture import NAMES, encode

_ARRAYS = {"uv": np.float64, "colors": np.uint8, "seen": np.bool_}
"""What a mesh may have at its vertices."""


def tier_files(name: str) -> tuple[str, ...]:
    """The names of the files of a mesh; the maps that it lacks have none."""
    return (f"{name}.npz", *(f"{name}_{suffix}.png" for suffix in NAMES))


def write_tier(folder: Path, name: str, mesh: Mesh) -> None:
    """Write a mesh with its maps. Equal meshes give equal bytes.

    Vertices and uv are kept as float64, faces as int32, and everything else as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"vertices": mesh.vertices.astype(np.float64), "faces": mesh.faces.astype(np.int32)}
    arrays |= {key: getattr(mesh, key).astype(kind) for key, kind in _ARRAYS.items() if getattr(mesh, key) is not None}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    for suffix, field in NAMES.items():
        picture: ByteArray | None = getattr(mesh, field)
        if picture is not None:
            (folder / f"{name}_{suffix}.png").write_bytes(encode(picture, "png"))


def read_tier(files: dict[str, Path], name: str) -> Mesh:
    """The mesh that `write_tier` wrote.

    Args:
        files: where the files lie, by their names; maps that the mesh lacks are left out.

    Raises DigitizeError(undecodable) where a file is damaged.
    """
    path = files[f"{name}.npz"]
    try:
        with np.load(path) as data:
            arrays: dict[str, npt.NDArray[Any]] = {key: data[key] for key in data.files}
        vertices, faces = arrays.pop("vertices"), arrays.pop("faces").astype(np.int64)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        message = f"expected the mesh of tier '{name}', found: {error}"
        raise DigitizeError(ReasonCode.UNDECODABLE, message, path=path.name) from error
    maps: dict[str, Any] = {}
    for suffix, field in NAMES.items():
        picture = files.get(f"{name}_{suffix}.png")
        if picture is not None:
            with Image.open(picture) as image:
                maps[field] = np.asarray(image)
    return Mesh(vertices, faces, **arrays, **maps)
