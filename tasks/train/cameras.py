"""Camera refinement: a small rotation and shift of each training photo, learned with the field.

A common movement of all cameras that the field can follow (rotation, shift and growth of the whole scene) is left out
of the corrections, so that the result stays in the frame of the poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.camera import CameraSet, PosedImage, matrix4, similarity_scale
from tasks.train.pixel_bank import Pixels


class CameraChange(NamedTuple):
    """How far the cameras were moved, over the photos."""

    mean_deg: float
    largest_deg: float
    mean_shift: float
    """In field units."""
    largest_shift: float


class CameraRefinement(nn.Module):
    """Corrections of P cameras: a rotation about the camera's centre and a shift, both along the field's axes.

    Args:
        centres: [P, 3] camera centres in field coordinates.
    """

    basis: Tensor
    """[6 P, 7] orthonormal: what all cameras do together when the scene turns, shifts and grows (to first order)."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(len(centres), 6, device=centres.device))
        self.register_buffer("basis", _common(centres.double().cpu()).float().to(centres.device))

    def deltas(self) -> Tensor:
        """[P, 6] rotation vector (axis times angle, radians) and shift (field units) of each camera."""
        flat = self.raw.view(-1)
        return (flat - self.basis @ (self.basis.t() @ flat)).view(-1, 6)

    def forward(self, pixels: Pixels) -> Pixels:
        """The pixels with corrected rays, differentiable by the corrections."""
        delta = self.deltas()
        turn = rotations(delta[:, :3]).index_select(0, pixels.photo)
        rays_d = (turn @ pixels.rays_d[:, :, None])[:, :, 0]
        return pixels._replace(rays_o=pixels.rays_o + delta[:, 3:].index_select(0, pixels.photo), rays_d=rays_d)

    def change(self) -> CameraChange:
        """How far the cameras are from where they were."""
        delta = self.deltas().detach().double().cpu()
        angle, shift = torch.rad2deg(delta[:, :3].norm(dim=1)), delta[:, 3:].norm(dim=1)
        return CameraChange(float(angle.mean()), float(angle.max()), float(shift.mean()), float(shift.max()))

    def refined(self, images: Sequence[PosedImage], world_from_field: npt.ArrayLike) -> CameraSet:
        """The cameras of the P photos in the world, corrected."""
        similarity = np.asarray(world_from_field, dtype=np.float64)
        rotation = similarity[:3, :3] / similarity_scale(similarity)
        delta = self.deltas().detach().double().cpu()
        moved = []
        for image, turn, shift in zip(images, rotations(delta[:, :3]).numpy(), delta[:, 3:].numpy(), strict=True):
            c2w = np.array(image.c2w)
            c2w[:3, :3] = rotation @ turn @ rotation.T @ c2w[:3, :3]
            c2w[:3, 3] += similarity[:3, :3] @ shift
            moved.append(image.model_copy(update={"c2w": matrix4(c2w)}))
        return CameraSet(images=tuple(moved))


def rotations(vectors: Tensor) -> Tensor:
    """[P, 3, 3] rotations by vectors [P, 3] (axis times angle in radians; Rodrigues), smooth at zero."""
    square = (vectors * vectors).sum(1)[:, None, None]
    angle = square.clamp(min=1e-12).sqrt()
    small = square < 1e-6
    first = torch.where(small, 1.0 - square / 6.0, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - square / 24.0, (1.0 - torch.cos(angle)) / (angle * angle))
    skew = _skew(vectors)
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + first * skew + second * (skew @ skew)


def _skew(vectors: Tensor) -> Tensor:
    """[P, 3, 3] matrices whose product with a vector is the cross product."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)


def _common(centres: Tensor) -> Tensor:
    """[6 P, 7] orthonormal basis of the corrections that a similarity of the whole scene amounts to."""
    axes = torch.eye(3, dtype=centres.dtype)
    moves = []
    for axis in axes:
        around = axis.expand_as(centres)
        moves.append(torch.cat([around, torch.linalg.cross(around, centres)], 1))
        moves.append(torch.cat([torch.zeros_like(centres), around], 1))
    moves.append(torch.cat([torch.zeros_like(centres), centres], 1))
    u: Tensor
    u, size, _ = torch.linalg.svd(torch.stack([move.reshape(-1) for move in moves], 1), full_matrices=False)
    return u[:, size > 1e-9 * size[0]]
