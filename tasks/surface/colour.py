"""Colours of the field at points of the surface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from models.camera import FloatArray, Matrix4, similarity_scale, transform_points
from models.fields.base import Field
from models.mesh.mesh import ByteArray

_BATCH = 1 << 17


@torch.no_grad()
def field_colours(
    field: Field,
    points: FloatArray,
    normals: FloatArray,
    world_from_field: Matrix4,
    check: Callable[[], None] = lambda: None,
) -> ByteArray:
    """[N, 3] sRGB of points [N, 3] in the world, seen straight from outside along normals [N, 3]."""
    device = next((p.device for p in (*field.parameters(), *field.buffers())), torch.device("cpu"))
    field_from_world = np.linalg.inv(np.array(world_from_field))
    turn = field_from_world[:3, :3] / similarity_scale(field_from_world)
    result = np.zeros((len(points), 3), np.uint8)
    for start in range(0, len(points), _BATCH):
        check()
        part = slice(start, start + _BATCH)
        x = np.clip(transform_points(field_from_world, points[part]), -1.0, 1.0)
        d = -(normals[part] @ turn.T)
        local = torch.from_numpy(x.astype(np.float32)).to(device)
        rgb = field.color(local, torch.from_numpy(d.astype(np.float32)).to(device), field.query(local)[1])
        result[part] = (np.nan_to_num(rgb.float().cpu().numpy()).clip(0, 1) * 255.0 + 0.5).astype(np.uint8)
    return result
