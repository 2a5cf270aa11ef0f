"""What photos show at places of the field: projection and interpolation in one, differentiable by the place."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.fields.kernels import cpu, reference
from models.fields.kernels.ops import backend_of


class Looked(NamedTuple):
    """What photos show at places."""

    value: Tensor
    """[N] in [0, 1], interpolated between the four pixels around; 0 where not `inside`."""
    depth: Tensor
    """[N] along the camera's axis; not followed by gradients."""
    inside: Tensor
    """[N] bool: in front of the camera, and all four pixels exist."""


class _Look(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, photo: Tensor, views: Tensor, starts: Tensor, picture: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        want_slope = bool(ctx.needs_input_grad[0])
        value, depth, inside, slope = cpu.look(x.contiguous(), photo.contiguous(), views, starts, picture, want_slope)
        if slope is not None:
            ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(depth, inside)
        return value, depth, inside

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_value: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * d_value[:, None], *[None] * 4


def look(x: Tensor, photo: Tensor, views: Tensor, starts: Tensor, picture: Tensor) -> Looked:
    """What pinhole photos of 8 bits show at places of the field. On a GPU in plain torch: few and large operations.

    Args:
        x: [N, 3].
        photo: [N] int64.
        views: [P, 18] width, height, fx, fy, cx, cy in pixels, and the camera-to-field pose's upper [3, 4].
        starts: [P + 1] int64 number of each photo's first pixel.
        picture: [pixels] uint8, photo by photo, row by row.
    """
    if backend_of(x) is not cpu:
        return Looked(*reference.look(x, photo, views, starts, picture))
    return Looked(*_Look.apply(x, photo, views, starts, picture))  # type: ignore[no-untyped-call]
