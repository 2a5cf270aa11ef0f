"""Free space under a table: what photos see through opens again, and what was measured stays where it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.camera import Plane, matrix4, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, cast_mask
from models.mesh.topology import boundary_loops, signed_volume
from tasks.sample import scenes
from tasks.stereo.free_space import without_free_space
from tasks.stereo.sights import Sight, Surface, make_sight, vote
from tasks.stereo.signed_grid import signed_grid
from tasks.stereo.tsdf import TRUNCATION, Grid, zero_level

CELLS, REACH = 64, 1.5
VOXEL = 2.0 * REACH / CELLS
REGION = matrix4(np.diag([REACH, REACH, REACH, 1.0]))
SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=0.8)
CENTRES = transform_points(REGION, (np.indices((CELLS,) * 3).reshape(3, -1).T + 0.5) * (2.0 / CELLS) - 1.0)
UNDER = (np.abs(CENTRES[:, 0]) < 0.45) & (CENTRES[:, 2] < 0.4)
CAMERAS = scenes.ring_cameras(24, 128, 96, 5.0, (5.0, 35.0))


def block(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    """Distances of all voxels to a box, positive outside."""
    middle, half = (np.array(low) + high) / 2.0, (np.array(high) - low) / 2.0
    away = np.abs(CENTRES - middle) - half
    return np.linalg.norm(np.maximum(away, 0.0), axis=1) + np.minimum(away.max(1), 0.0)


def grid(distances: np.ndarray) -> Grid:
    clipped = np.clip(distances / (TRUNCATION * VOXEL), -1.0, 1.0)
    return clipped.reshape((CELLS,) * 3).astype(np.float32)


TABLE = np.minimum.reduce(
    [
        block((-0.9, -0.4, 0.4), (0.9, 0.4, 0.8)),
        block((-0.9, -0.4, -0.8), (-0.5, 0.4, 0.6)),
        block((0.5, -0.4, -0.8), (0.9, 0.4, 0.6)),
    ]
)
SOLID = np.minimum(TABLE, block((-0.7, -0.4, -0.8), (0.7, 0.4, 0.6)))
"""The table with the space between its legs filled."""
TRUTH, FILLED = zero_level(grid(TABLE), REGION), zero_level(grid(SOLID), REGION)


@pytest.fixture(scope="module")
def measured() -> Grid:
    """The outer faces up to their edges: nothing of the table's underside, of the legs' inner sides, or below them."""
    known = (np.abs(SOLID) < TRUNCATION * VOXEL) & (CENTRES[:, 2] > -0.75)
    known &= ~((np.abs(CENTRES[:, 0]) < 0.5) & (CENTRES[:, 2] < 0.4))
    return np.where(known.reshape((CELLS,) * 3), grid(TABLE), np.float32(np.nan))


def sights(measured: Grid, masked: Mesh | None, cameras: int = 24) -> Iterator[Sight]:
    """With the silhouettes of `masked` for masks."""
    surface = Surface(zero_level(measured, REGION), 1)
    outline = None if masked is None else RayCaster(masked, 1)
    for image in CAMERAS[:cameras]:
        mask = None if outline is None else cast_mask(outline, image.camera, image.c2w)
        yield make_sight(surface, mask, 1.0, image.camera, image.c2w)


def filled_below(mesh: Mesh) -> float:
    """Share of the space under the table that a mesh fills."""
    return float((signed_grid(mesh, REGION, CELLS).reshape(-1)[UNDER & (SOLID < 0)] < 0).mean())


@pytest.mark.parametrize("masked", [TRUTH, FILLED], ids=["exact masks", "masks that hold the gap"])
def test_the_space_under_a_table_opens_again(measured: Grid, masked: Mesh) -> None:
    assert filled_below(FILLED) > 0.99
    found = without_free_space(measured, FILLED, sights(measured, masked), SUPPORT, REGION)
    assert filled_below(found) < 0.05
    assert len(boundary_loops(found.faces)) == 0
    there, back = RayCaster(TRUTH, 1).distance(found.vertices), RayCaster(found, 1).distance(TRUTH.vertices)
    assert there.mean() < 0.7 * VOXEL and back.mean() < 0.7 * VOXEL
    assert signed_volume(found) == pytest.approx(signed_volume(TRUTH), rel=0.1)
    outer = zero_level(measured, REGION)
    assert np.quantile(RayCaster(found, 1).distance(outer.vertices), 0.99) < 1e-5


def test_without_masks_or_with_few_photos_the_gap_stays_closed(measured: Grid) -> None:
    found = without_free_space(measured, FILLED, sights(measured, None), SUPPORT, REGION)
    assert filled_below(found) > 0.9 and len(boundary_loops(found.faces)) == 0
    few = without_free_space(measured, FILLED, sights(measured, TRUTH, 1), SUPPORT, REGION)
    assert filled_below(few) > 0.9


def test_below_the_support_and_beyond_the_region_nothing_is_left(measured: Grid) -> None:
    deep = zero_level(grid(np.minimum(TABLE, block((-0.9, -0.4, -2.0), (0.9, 0.4, 0.0)))), REGION)
    assert len(boundary_loops(deep.faces)) > 0 and deep.vertices[:, 2].min() < -1.4
    cut = without_free_space(measured, deep, [], SUPPORT, REGION)
    assert len(boundary_loops(cut.faces)) == 0 and cut.vertices[:, 2].min() > -0.8 - 2 * VOXEL
    whole = without_free_space(measured, deep, [], None, REGION)
    assert len(boundary_loops(whole.faces)) == 0 and whole.vertices[:, 2].min() < -1.4


def test_masks_that_lack_what_was_measured_take_nothing() -> None:
    inside = CENTRES[TABLE < -2 * VOXEL].astype(np.float32)
    surface, nothing = Surface(TRUTH, 1), np.zeros((96, 128), bool)
    rows = [make_sight(surface, nothing, 1.0, image.camera, image.c2w) for image in CAMERAS]
    assert not vote(inside, rows, VOXEL).free.any()
    assert vote(CENTRES[UNDER & (CENTRES[:, 2] > -0.7)].astype(np.float32), rows, VOXEL).free.mean() > 0.9


def test_distances_have_the_sign_of_their_side_far_from_the_mesh() -> None:
    ball = scenes.sphere(1.0, 1)  # faces of many voxels
    values = signed_grid(ball, REGION, CELLS).reshape(-1)
    radius = np.linalg.norm(CENTRES, axis=1)
    assert (values[radius < 0.75] == -1).all() and (values[radius > 1.2] == 1).all()
    near = np.abs(values) < 1
    assert np.allclose(np.abs(values[near]) * TRUNCATION * VOXEL, RayCaster(ball, 1).distance(CENTRES[near]), atol=1e-5)
