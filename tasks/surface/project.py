"""Vertices moved onto the field's level: what marching cubes interpolates along an edge, Newton's method solves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from models.fields.base import Field
from models.mesh.mesh import FloatArray, Mesh

STEPS = 3
REACH = 0.5
"""Cells that a vertex may move in all; it stays within the cells that it was found in."""
_BATCH = 1 << 17


def project(
    field: Field, mesh: Mesh, level: float, resolution: int, check: Callable[[], None] = lambda: None
) -> tuple[Mesh, float]:
    """A mesh of a distance field, in field coordinates, with its vertices on the level.

    A step is taken only where it brings the value nearer to the level. Vertices whose value is off by more than a
    cell are not the field's (walls of the cube, filled voids) and stay.

    Returns:
        the mesh, and the mean |value - level| of the vertices that may move, in field units.
    """
    device = next((p.device for p in (*field.parameters(), *field.buffers())), torch.device("cpu"))
    cell = 2.0 / resolution
    moved = mesh.vertices.copy()
    total, count = 0.0, 0
    for start in range(0, len(moved), _BATCH):
        check()
        part = slice(start, start + _BATCH)
        points = torch.from_numpy(moved[part].astype(np.float32)).to(device)
        best, off, before = _descend(field, points, level, cell)
        ours = before < cell
        total, count = total + float(off[ours].sum()), count + int(ours.sum())
        moved[part][ours] = best[ours]
    return Mesh(moved, mesh.faces), total / max(count, 1)


@torch.no_grad()
def _descend(
    field: Field, start: torch.Tensor, level: float, cell: float
) -> tuple[FloatArray, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Places [N, 3] after the steps, and how far values [N] are from the level after and before them."""
    best = start
    before = off = field.query(start)[0].float() - level
    for _ in range(STEPS):
        slope = field.gradient(best).float()
        step = (off / (slope * slope).sum(1).clamp(min=1e-4))[:, None] * slope
        shift = best - step - start
        length = shift.norm(dim=1, keepdim=True)
        trial = (start + shift * (REACH * cell / length.clamp(min=REACH * cell))).clamp(-1.0, 1.0)
        found = field.query(trial)[0].float() - level
        nearer = found.abs() < off.abs()
        best = torch.where(nearer[:, None], trial, best)
        off = torch.where(nearer, found, off)
    return best.double().cpu().numpy(), off.abs().cpu().numpy(), before.abs().cpu().numpy()
