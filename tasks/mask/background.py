"""Whether a pixel shows what depth says it shows: the other photos that see that place must have its colour there.

Stereo compares windows: a thin plain bar before a printed mat gets the mat's depth. One pixel alone cannot be mistaken
so: its colour is the bar's, and the others' there is the mat's. The same question is put for the support itself where
stereo found nothing, in the shadow of the object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import FloatArray, Plane, project
from tasks.context import Context
from tasks.gains import solve_gains
from tasks.mask.edges import log_colours
from tasks.mask.photos import MaskPhotos
from tasks.mask.views import BLOCKED, View
from tasks.silhouettes.hull import Mask

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Usable = Callable[[int, Ints, Ints, Floats], npt.NDArray[np.bool_]]

ASKED = 12
"""Photos that are asked, near and far."""
ALIKE = np.float32(0.08)
"""Difference of the logarithms of two colours up to which they are one, beyond the 3 x 3 pixels around."""
SAME_DEPTH = 0.02
"""Difference of two depths as a share up to which they are one place."""
MOST_ALIKE, MANY_ALIKE, FEW_ALIKE = 0.75, 0.6, 0.3
"""Share of the photos that must have the colour: of stereo's place, of the support's; and below which it is refuted."""
LEAST_ASKED = 3
MOST_POINTS = 20_000
"""Sparse points that tell the photos' gains."""
CLEAR_PX, AROUND_PX = 3, 8
"""Pixels beside an outline from which on a photo sees past the object, and up to which the support is asked for."""


class Background:
    """The colours of some photos as if all had one exposure, and where each photo's rays may end."""

    def __init__(self, photos: MaskPhotos, chosen: Sequence[int], views: Sequence[View]) -> None:
        """Args: chosen: the photo of each view, as an index into `photos.images`."""
        from scipy.ndimage import maximum_filter, minimum_filter

        self._centres = photos.c2w[list(chosen), :3, 3]
        self._turns = photos.c2w[list(chosen), :3, :3]
        self._colours = _evened(photos, chosen, views)
        self._low = [minimum_filter(each, (3, 3, 1)) - ALIKE for each in self._colours]
        self._high = [maximum_filter(each, (3, 3, 1)) + ALIKE for each in self._colours]

    def checked(self, views: Sequence[View], context: Context) -> list[View]:
        """The views with `BLOCKED` where other photos that see the same place have another colour there."""
        found = []
        for k, view in enumerate(views):
            context.check()
            row, column = np.nonzero(view.depth > 0)

            def usable(j: int, row: Ints, column: Ints, z: Floats) -> npt.NDArray[np.bool_]:
                return np.asarray(np.abs(views[j].depth[row, column] / z - 1.0) < SAME_DEPTH)

            places = self._places(k, view, row, column, view.depth[row, column])
            asked, alike = self._ask(k, views, places, self._colours[k][row, column], usable)
            depth = view.depth.copy()
            wrong = alike < MOST_ALIKE * asked
            depth[row[wrong], column[wrong]] = BLOCKED
            found.append(view.with_depth(depth))
        return found

    def with_support(
        self, views: Sequence[View], outlines: Sequence[Mask], support: Plane, context: Context
    ) -> list[View]:
        """The views with the support's depth where they have none and photos that see past the object have the same
        colour there, and without it where those have another.

        Args:
            outlines: of the object in each view [H, W], at the view's size.
        """
        from scipy.ndimage import binary_dilation

        normal = np.array(support.normal)
        hidden = [binary_dilation(outline, iterations=CLEAR_PX) for outline in outlines]
        found = []
        for k, view in enumerate(views):
            context.check()
            row, column = np.nonzero(binary_dilation(outlines[k], iterations=AROUND_PX))
            falls = self._rays(k, view, row, column) @ normal
            z = -(self._centres[k] @ normal + support.offset) / np.where(np.abs(falls) < 1e-9, 1e-9, falls)
            row, column, z = row[z > 0], column[z > 0], z[z > 0].astype(np.float32)

            def usable(j: int, row: Ints, column: Ints, z: Floats) -> npt.NDArray[np.bool_]:
                past = views[j].depth[row, column] > z * (1.0 - SAME_DEPTH)
                return np.asarray(past & ~hidden[j][row, column])

            places = self._places(k, view, row, column, z)
            asked, alike = self._ask(k, views, places, self._colours[k][row, column], usable)
            depth, enough = view.depth.copy(), asked >= LEAST_ASKED
            now = depth[row, column]
            new = enough & (alike >= MANY_ALIKE * asked) & (now <= 0)
            refuted = enough & (alike < FEW_ALIKE * asked) & (np.abs(now / z - 1.0) < SAME_DEPTH)
            depth[row[new], column[new]] = z[new]
            depth[row[refuted], column[refuted]] = BLOCKED
            found.append(view.with_depth(depth))
        return found

    def _rays(self, k: int, view: View, row: Ints, column: Ints) -> FloatArray:
        """[N, 3] directions of pixels in the world, with z = 1 in the camera."""
        camera = view.camera
        across = np.stack([(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy], 1)
        return np.asarray(across @ self._turns[k][:, :2].T + self._turns[k][:, 2])

    def _places(self, k: int, view: View, row: Ints, column: Ints, z: Floats) -> Floats:
        """[N, 3] where the rays of pixels are at depth z [N], in the world."""
        places = self._centres[k] + self._rays(k, view, row, column) * z[:, None]
        return np.asarray(places, np.float32)

    def _ask(
        self, k: int, views: Sequence[View], places: Floats, own: Floats, usable: Usable
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """How many other photos can be asked about each place [N, 3], and how many of those have its colour [N, 3]."""
        asked, alike = np.zeros(len(places), np.int32), np.zeros(len(places), np.int32)
        order = np.argsort(np.linalg.norm(self._centres - self._centres[k], axis=1), kind="stable")[1:]
        for j in order[np.unique(np.linspace(0, len(order) - 1, min(ASKED, len(order))).astype(int))]:
            index, row, column, z = visible_pixels(views[j], places)
            use = usable(j, row, column, z)
            index, row, column = index[use], row[use], column[use]
            asked[index] += 1
            colour = own[index]
            same = (colour >= self._low[j][row, column]) & (colour <= self._high[j][row, column])
            alike[index] += same.all(1)
        return asked, alike


def visible_pixels(view: View, places: Floats) -> tuple[Ints, Ints, Ints, Floats]:
    """Of the places [N, 3] in the view's frame: which, row and column of their pixels, and their depths."""
    camera, w2c = view.camera, view.w2c.astype(np.float32)
    local = places @ w2c[:3, :3].T + w2c[:3, 3]
    z = np.maximum(local[:, 2], np.float32(1e-9))
    u, v = local[:, 0] / z * np.float32(camera.fx), local[:, 1] / z * np.float32(camera.fy)
    u, v = u + np.float32(camera.cx), v + np.float32(camera.cy)
    index = np.flatnonzero((local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height))
    return index, v[index].astype(np.int64), u[index].astype(np.int64), z[index]


def _evened(photos: MaskPhotos, chosen: Sequence[int], views: Sequence[View]) -> list[Floats]:
    """[H, W, 3] logarithms of colours at the views' sizes, less each photo's gain by the sparse points it shows."""
    from scipy.ndimage import gaussian_filter

    colours, xyz = [], photos.points.xyz
    step = max(1, -(-len(xyz) // MOST_POINTS))
    logs = np.zeros((-(-len(xyz) // step), len(views), 3))
    weight = np.zeros(logs.shape[:2])
    for k, (index, view) in enumerate(zip(chosen, views, strict=True)):
        size = (view.camera.width, view.camera.height)
        picture = Image.fromarray(photos.picture(index)).resize(size, Image.Resampling.BOX)
        colours.append(log_colours(np.asarray(picture)))
        points = photos.seen_by[index]
        points = points[points % step == 0]
        uv, _ = project(view.camera, photos.images[index].c2w, xyz[points])
        pixel = np.clip(uv, 0, [size[0] - 1, size[1] - 1]).astype(np.int64)
        smooth = gaussian_filter(colours[k], (1.5, 1.5, 0.0))
        logs[points // step, k], weight[points // step, k] = smooth[pixel[:, 1], pixel[:, 0]], 1.0
    gains = np.stack([solve_gains(logs[..., channel], weight) for channel in range(3)], 1)
    return [each - gain.astype(np.float32) for each, gain in zip(colours, gains, strict=True)]
