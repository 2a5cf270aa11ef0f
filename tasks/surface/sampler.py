"""A field as the extraction sees it: inside-ness at points of a regular grid, whatever kind the field is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from models.errors import DigitizeError, ReasonCode
from models.fields.base import Field
from models.mesh.mesh import IntArray

Grid = npt.NDArray[np.float32]
"""Inside-ness: positive inside, in cells for distances, in logarithms of density / level for densities."""
BoolGrid = npt.NDArray[np.bool_]

LIMIT = 3.0
"""Values are clipped to [-LIMIT, LIMIT]: what lies far from the level does not pull vertices."""
_BATCH = 1 << 18


class Sampler:
    """Inside-ness of a field at points of the fine grid of `resolution` cells a side.

    Args:
        solid: [n, n, n] points at linspace(-1, 1, n) along x, y, z that are inside whatever the field says.
        broken_share: share of the values that may be not finite; these count as outside.
        flip: take the field's outside as inside.
    """

    def __init__(
        self,
        field: Field,
        resolution: int,
        level: float,
        check: Callable[[], None] = lambda: None,
        solid: BoolGrid | None = None,
        broken_share: float = 0.0,
        flip: bool = False,
    ) -> None:
        self._field, self._cells, self._level, self._check = field, resolution, level, check
        self._solid, self._broken_share, self._sign = solid, broken_share, -1.0 if flip else 1.0
        self._asked = self._broken = 0
        self._device = next((p.device for p in (*field.parameters(), *field.buffers())), torch.device("cpu"))
        self._occupied: BoolGrid | None = None
        if field.occupancy is not None:
            from scipy.ndimage import binary_dilation

            grid = field.occupancy.cpu().numpy().astype(bool).transpose(2, 1, 0)
            # one ring more: the surface may not take the shape of the occupancy cells themselves
            self._occupied = binary_dilation(grid, np.ones((3, 3, 3), bool))

    @torch.no_grad()
    def __call__(self, index: IntArray, limit: float = LIMIT) -> Grid:
        """[N] inside-ness at grid points `index` [N, 3] (x, y, z), clipped to [-limit, limit].

        Raises DigitizeError(not_finite) when more of the values asked for so far than allowed are not finite.
        """
        result = np.full(len(index), -limit, np.float32)
        for start in range(0, len(index), _BATCH):
            self._check()
            part = index[start : start + _BATCH]
            x = part.astype(np.float32) * np.float32(2.0 / self._cells) - np.float32(1.0)
            wanted = np.arange(len(part))
            if self._occupied is not None:
                size = np.array(self._occupied.shape)
                cell = np.minimum((part * size) // self._cells, size - 1)
                wanted = np.nonzero(self._occupied[cell[:, 0], cell[:, 1], cell[:, 2]])[0]
            values = result[start : start + len(part)]
            if len(wanted):
                points = torch.from_numpy(x[wanted]).to(self._device)
                value = self._field.query(points)[0].float().cpu().numpy()
                values[wanted] = self._inside(self._sound(value), limit)
            if self._solid is not None:
                steps = len(self._solid) - 1
                place = np.rint(part * (steps / self._cells)).astype(np.int64)
                values[self._solid[place[:, 0], place[:, 1], place[:, 2]] & (values <= 0)] = limit
        return result

    def _sound(self, value: Grid) -> Grid:
        """The values with NaN for every value that is not finite, when they are few enough."""
        broken = ~np.isfinite(value)
        self._asked += len(value)
        self._broken += int(broken.sum())
        if self._broken > self._broken_share * self._asked:
            message = f"expected finite values of the field, found {self._broken} of {self._asked} that are not"
            raise DigitizeError(ReasonCode.NOT_FINITE, message)
        return np.where(broken, np.float32(np.nan), value)

    def _inside(self, value: Grid, limit: float) -> Grid:
        if self._field.quantity == "sdf":
            inside = (self._level - value) * (self._sign * self._cells / 2.0)
        else:
            # densities rise exponentially: their logarithm is what varies linearly between samples
            inside = self._sign * np.log(np.maximum(value, 1e-12) / self._level)
        clipped: Grid = np.nan_to_num(np.clip(inside, -limit, limit), nan=-limit).astype(np.float32)
        return clipped
