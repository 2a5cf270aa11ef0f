"""A training method that breaks the contract in a chosen way: what the contract suite must find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.camera import PoseSet
from models.record import Record
from models.resources import Estimate, Resources
from models.stage import Inputs

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "1"
OUTPUTS = "mesh"
PRESETS: dict[str, dict[str, object]] = {}
EXTERNAL = ("truth",)


class Options(Record):
    """What can be chosen."""

    fault: Literal["none", "random", "large", "swallow", "resume", "litter", "memory"] = "none"
    """What it does wrong."""


def resources(options: Options) -> Resources:
    """Next to nothing; far too little for the fault `memory`."""
    return Resources(cpus=1, memory_gb=0.01 if options.fault == "memory" else 1.0, scratch_gb=0.1, timeout_s=300)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A second."""
    return Estimate(seconds=1.0, memory_gb=0.5)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The points alone."""
    return Inputs(required=("pose",))


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """The hull of the points, and one fault."""
    import tempfile

    import numpy as np
    import trimesh

    from models.errors import DigitizeError, ReasonCode
    from models.mesh.mesh import Mesh
    from models.mesh.representation import MeshRepresentation
    from tasks.stage_files import read_points
    from tasks.train.outcome import Trained

    points = read_points(context)
    if points is None:
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected points, found none", asset=context.request.asset)
    xyz = np.asarray(points["xyz"], dtype=np.float64)
    if options.fault == "random":
        xyz = xyz * (1.0 + 1e-6 * int.from_bytes(os.urandom(2)))
    if options.fault == "large":
        xyz = 1.3 * xyz
    if options.fault == "swallow":
        xyz = xyz * _size_of_truth(Path(context.input("truth").uri))
    if options.fault == "litter":
        (Path(tempfile.gettempdir()) / "digitize-contract-litter").write_text("x")
    scale = 1.0
    if options.fault == "resume" and context.load_checkpoint("seen") is not None:
        scale = 1.01
    (context.scratch / "seen").write_text("x")
    context.save_checkpoint("seen", context.scratch / "seen")
    body = trimesh.convex.convex_hull(xyz * scale)
    for _ in range(2):
        body = body.subdivide()
    mesh = Mesh(np.array(body.vertices, dtype=np.float64), np.array(body.faces, dtype=np.int64))
    return Trained(MeshRepresentation(mesh), {"faces": len(mesh.faces)})


def _size_of_truth(folder: Path) -> float:
    """The radius of the true mesh, or a guess where it cannot be read."""
    import numpy as np
    import trimesh

    try:
        return float(np.linalg.norm(trimesh.load(folder / "mesh.ply").vertices, axis=1).max())
    except Exception:
        return 1.1
