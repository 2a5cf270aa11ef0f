"""The surface that all depth maps share, and what it adds to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.camera import PosedImage, PoseSet
from models.mesh.mesh import Mesh
from tasks.context import Context
from tasks.dense_surface import bridged, guiding_surface
from tasks.stereo.fusion import Points
from tasks.stereo.maps import depth_path, read_depth_map, write_depth_map
from tasks.stereo.sights import Surface, depth_along


class CommonShape(NamedTuple):
    """A surface from the depth maps of all training photos."""

    measured: Mesh
    """Open where no map looks; without small parts."""
    closed: Surface
    """The same with its gaps closed, but for what photos see through; as it is where no photo has a mask."""


def common_shape(points: Points, poses: PoseSet, context: Context) -> CommonShape | None:
    """The surface of the depth maps that this attempt wrote; None where they hold none."""
    found = guiding_surface(points, poses, context, lambda path: context.output / path)
    if found is None:
        return None
    masked = any(image.mask for image in poses.images)
    closed = bridged(found, poses, context) if masked else found.mesh
    return CommonShape(found.mesh, Surface(closed, context.threads))


def fill_gaps(shape: CommonShape, images: Sequence[PosedImage], context: Context) -> float:
    """Write the depth maps again with what the others know of their gaps; the share of all pixels that have depth."""
    covered = []
    for image in images:
        context.check()
        path = context.output / depth_path(image)
        found = read_depth_map(path)
        height, width = found.depth.shape
        depth = depth_along(shape.closed, image.camera.resized(width, height), image.c2w)
        filled = np.where(found.depth > 0, np.float32(0), depth)
        write_depth_map(path, found, filled)
        covered.append(float(((found.depth > 0) | (filled > 0)).mean()))
    return round(float(np.mean(covered)), 4) if covered else 0.0
