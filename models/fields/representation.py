"""A neural field as a representation: drawn by marching rays, asked for colours straight from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from models.camera import Camera, Matrix4, similarity_scale, transform_points
from models.fields.base import Field, load_field
from models.fields.render import render_image
from models.representation import Render, Representation

_BATCH = 1 << 17


class FieldRepresentation(Representation):
    """A trained `Field`."""

    kind = "field"

    def __init__(self, field: Field) -> None:
        self.field = field

    @property
    def has_background(self) -> bool:
        return self.field.surrounded

    def render(
        self,
        camera: Camera,
        c2w: npt.ArrayLike,
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
        normals: bool = False,
        backdrop: float | None = None,
    ) -> Render:
        return render_image(self.field, camera, c2w, world_from_field, check, normals, backdrop)

    @torch.no_grad()
    def colours(
        self,
        points: npt.NDArray[np.float64],
        normals: npt.NDArray[np.float64],
        world_from_field: Matrix4,
        check: Callable[[], None] = lambda: None,
    ) -> npt.NDArray[np.uint8]:
        field = self.field
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

    def write(self, folder: Path) -> None:
        self.field.save(folder)

    @classmethod
    def read(cls, folder: Path, device: str) -> FieldRepresentation:
        return cls(load_field(folder, device))
