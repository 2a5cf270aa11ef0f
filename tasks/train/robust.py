"""Weights of rays whose light differs between photos: highlights, moving shadows, blur.

Residuals are cut off as in RobustNeRF (Sabour et al. 2023, section 4): what lies far above the usual residual is an
outlier. Its patches are left out, since rays are drawn one by one; weights fall softly instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.fields.march import cube_interval
from tasks.train.pixel_bank import PixelBank

ROBUST_FROM = 0.3
"""Share of a learner's steps from which weights differ: before it, everything is far from its photo."""
USUAL, LEAST_USUAL = 3.0, 0.1
"""Residuals up to that many times the median keep their weight, and those up to a tenth of the range: below it, shading
differs from photo to photo and outlines are still on their way."""
LOWEST = 0.1
"""Least weight of a ray on account of its residual."""
FORGET = 0.05
"""Weight of a step's median in the running one."""
MET = 0.5
"""Transmittance below which a ray meets the object. A residual of other rays may tell of parts that are missing."""
SHARP, BLURRED = 0.5, 0.3
"""Sharpness, as a share of the median photo's, below which a photo loses weight; least weight of a photo. Of four real
captures sharp photos have 0.57 or more, photos blurred by a Gaussian of 2 pixels 0.2 to 0.4."""
COARSE = 4
"""Pixels along the edge of the blocks that fine gradients are compared with."""
REGION_STEP = 8
"""Pixels between the rays that tell where a photo shows the region."""


class ResidualWeights:
    """Weights in [LOWEST, 1] of rays, from their residuals against the running median."""

    def __init__(self, device: str) -> None:
        self.median = torch.zeros((), device=device)
        """Of residuals of rays that meet the object; 0 before the first."""

    @torch.no_grad()
    def update(self, residual: Tensor, through: Tensor) -> None:
        """Take a step's residuals [R] (mean absolute colour differences) and transmittances [R] into the median."""
        met = residual[through < MET]
        if len(met):
            now = met.median()
            self.median = torch.where(self.median > 0, self.median.lerp(now, FORGET), now)

    @torch.no_grad()
    def of(self, residual: Tensor, through: Tensor) -> Tensor:
        """[R] weights: 1 up to `USUAL` medians, falling with the square beyond; 1 for rays that meet nothing."""
        cut = (USUAL * self.median).clamp(min=LEAST_USUAL)
        weight = (cut / residual.clamp(min=1e-6)).square().clamp(LOWEST, 1.0)
        return torch.where(through < MET, weight, torch.ones_like(weight))


def photo_weights(bank: PixelBank, near: float) -> Tensor:
    """[P] weights in [BLURRED, 1] of photos: lower for those that are blurred in comparison to the others.

    Args:
        near: nothing is closer to a camera than this, in field units.
    """
    grey, sharp = bank.grey(), np.ones(bank.photos)
    for photo in range(bank.photos):
        begin, end = int(bank.starts[photo]), int(bank.starts[photo + 1])
        width, height = bank.sizes[photo]
        used = region(bank, photo, near)
        if bank.masks is not None:
            used &= bank.masks[begin:end].view(height, width).cpu().numpy() >= 128
        sharp[photo] = sharpness(grey[begin:end].view(height, width).cpu().numpy(), used)
    known = np.isfinite(sharp)
    share = sharp / np.median(sharp[known]) if known.any() else sharp
    weights = np.where(known, np.clip((share / SHARP) ** 2, BLURRED, 1.0), 1.0)
    return torch.from_numpy(weights.astype(np.float32)).to(grey.device)


def region(bank: PixelBank, photo: int, near: float) -> npt.NDArray[np.bool_]:
    """[H, W] bool, where a photo shows the region's cube, to REGION_STEP pixels."""
    width, height = bank.sizes[photo]
    rows, columns = (torch.arange(0, size, REGION_STEP, device=bank.starts.device) for size in (height, width))
    local = (rows[:, None] * width + columns).view(-1)
    t_in, t_out = cube_interval(*bank.rays(torch.full_like(local, photo), local), near)
    coarse = (t_out > t_in).view(len(rows), len(columns)).cpu().numpy()
    shown: npt.NDArray[np.bool_] = coarse.repeat(REGION_STEP, 0).repeat(REGION_STEP, 1)[:height, :width]
    return shown


def sharpness(grey: npt.NDArray[np.uint8], used: np.ndarray) -> float:
    """Of a photo [H, W] uint8 in the blocks where it is used [H, W] bool: the root of its gradients' energy beyond that
    of a ramp between the means of the blocks, over the energy of these. A ratio, because photos of plain sides are no
    less sharp; NaN where nothing can be compared."""
    height, width = (size - size % COARSE for size in grey.shape)
    blocks = (height // COARSE, COARSE, width // COARSE, COARSE)
    fine = grey[:height, :width].astype(np.float32)
    coarse = fine.reshape(blocks).mean((1, 3))
    seen = np.asarray(used[:height, :width].reshape(blocks).any((1, 3)))
    energy = _gradient_energy(fine, seen.repeat(COARSE, 0).repeat(COARSE, 1))
    below = _gradient_energy(coarse, seen)
    return float(np.sqrt(max(energy / below - COARSE**-2, 0.0))) if below > 0 else float("nan")


def _gradient_energy(grey: npt.NDArray[np.float32], used: np.ndarray) -> float:
    """Mean square difference of neighbours that are both used; 0 where there are none."""
    right, down = np.diff(grey, axis=1)[used[:, 1:] & used[:, :-1]], np.diff(grey, axis=0)[used[1:] & used[:-1]]
    count = len(right) + len(down)
    return float((np.square(right).sum() + np.square(down).sum()) / count) if count else 0.0
