"""Region, support, up, look-at and split on arrays with known truth, under random similarities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import frame
from models.camera import FloatArray, apply_similarity_to_c2w, transform_points
from tasks.pose import region, split, support
from tasks.sample.scenes import look_at


@dataclass(frozen=True)
class World:
    """A bumpy ball of radius 0.5 on the plane z = 0 (a table of 4 x 4), seen from rings; a wall far behind."""

    points: FloatArray
    c2w: FloatArray

    def moved(self, m: FloatArray) -> World:
        return World(transform_points(m, self.points), np.array([apply_similarity_to_c2w(m, c) for c in self.c2w]))


def world(seed: int = 0, table: bool = True, outliers: int = 60) -> World:
    rng = np.random.default_rng(seed)
    ball = rng.normal(size=(900, 3))
    ball = 0.5 * ball / np.linalg.norm(ball, axis=1, keepdims=True) * rng.uniform(0.97, 1.03, (900, 1)) + [0, 0, 0.5]
    flat = np.c_[rng.uniform(-2, 2, (900, 2)), rng.normal(0, 0.004, 900)]
    wall = np.c_[np.full(200, 9.0), rng.uniform(-4, 4, 200), rng.uniform(0, 5, 200)]
    lost = rng.uniform(-3, 3, (outliers, 3)) * [1, 1, 0.5] + [0, 0, 1.6]
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    height = np.where(np.arange(24) % 2, 1.2, 2.4)
    eyes = np.c_[3 * np.cos(angle), 3 * np.sin(angle), height]
    c2w = np.array([look_at(eye, (0.0, 0.0, 0.4)) for eye in eyes])
    parts = [ball, flat, wall, lost] if table else [ball, wall, lost]
    return World(np.concatenate(parts), c2w)


def solve(w: World) -> tuple[FloatArray, support.SupportPlane | None, region.Cube]:
    weights = np.ones(len(w.points))
    up = frame.camera_up(w.c2w)
    centres, axes = w.c2w[:, :3, 3], w.c2w[:, :3, 2]
    target = frame.look_at(centres, axes, region.weighted_median(w.points, weights))
    plane = support.find_support(w.points, weights, centres, target, up)
    up = up if plane is None else plane.normal
    level = frame.level_axes(w.c2w[0][:3, 0], up)
    cube = region.find_region(w.points, weights, centres, axes, level, target, plane, 0.1)
    assert cube is not None
    return up, plane, cube


def field_points(cube: region.Cube, points: FloatArray) -> FloatArray:
    return transform_points(np.linalg.inv(cube.world_from_field), points)


def test_the_ball_is_held_and_fills_the_cube() -> None:
    w = world()
    up, plane, cube = solve(w)
    assert plane is not None
    np.testing.assert_allclose(plane.normal, [0, 0, 1], atol=0.01)
    assert abs(plane.offset) < 0.01
    np.testing.assert_allclose(up, [0, 0, 1], atol=0.01)
    ball = field_points(cube, w.points[:900])
    assert np.abs(ball).max() < 1.0
    assert (ball.max(0) - ball.min(0)).max() > 1.3
    assert cube.half < 0.75


def test_a_facade_photographed_from_one_side_fills_the_cube_before_hills_far_off() -> None:
    rng = np.random.default_rng(5)
    facade = np.c_[rng.uniform(-1, 1, (900, 1)), rng.normal(3.0, 0.05, 900), rng.uniform(0, 1.5, (900, 1))]
    hills = np.c_[rng.uniform(-40, 40, (200, 1)), rng.uniform(20, 60, (200, 1)), rng.uniform(0, 6, (200, 1))]
    points = np.concatenate([facade, hills])
    c2w = np.array([look_at((x, 0.0, 0.7), (0.3 * x, 3.0, 0.7)) for x in np.linspace(-0.5, 0.5, 8)])
    level = frame.level_axes(c2w[0][:3, 0], np.array([0.0, 0.0, 1.0]))
    found = region.find_region(
        points, np.ones(len(points)), c2w[:, :3, 3], c2w[:, :3, 2], level, np.array([0.0, 3.0, 0.7]), None, 0.1
    )
    assert found is not None and found.half < 1.5
    assert (np.abs(field_points(found, facade)) < 1.0).all(1).mean() > 0.9


def test_without_a_table_there_is_no_support() -> None:
    w = world(table=False)
    _, plane, cube = solve(w)
    assert plane is None
    assert np.abs(field_points(cube, w.points[:900])).max() < 1.0
    assert cube.half < 0.8


def test_the_flat_top_of_a_box_is_no_support() -> None:
    rng = np.random.default_rng(1)
    w = world()
    top = np.c_[rng.uniform(-0.4, 0.4, (2500, 2)), np.full(2500, 0.8)]
    sides = np.c_[rng.choice([-0.4, 0.4], 500), rng.uniform(-0.4, 0.4, 500), rng.uniform(0, 0.8, 500)]
    _, plane, _ = solve(World(np.concatenate([top, sides, w.points[900:]]), w.c2w))
    assert plane is not None
    assert abs(plane.offset) < 0.02


unit = st.floats(-1.0, 1.0)


@settings(max_examples=12, deadline=None)
@given(turn=st.tuples(unit, unit, unit, unit), shift=st.tuples(unit, unit, unit), size=st.floats(0.05, 20.0))
def test_region_and_support_move_with_the_world(turn: tuple[float, ...], shift: tuple[float, ...], size: float) -> None:
    q = np.add(turn, (0, 0, 0, 1e-3))
    w, x, y, z = q / np.linalg.norm(q)
    m = np.eye(4)
    m[:3, :3] = size * np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    m[:3, 3] = 10.0 * size * np.array(shift)
    still, moved = solve(world()), solve(world().moved(m))
    rotation = m[:3, :3] / size
    np.testing.assert_allclose(moved[0], rotation @ still[0], atol=0.02)
    assert still[1] is not None and moved[1] is not None
    foot = -still[1].normal * still[1].offset
    assert abs(moved[1].height(transform_points(m, foot[None]))[0]) < 0.02 * size
    # cells of the density are aligned with the world, so that the cube may differ by a fraction of a cell
    np.testing.assert_allclose(moved[2].centre, transform_points(m, still[2].centre[None])[0], atol=0.12 * size)
    assert moved[2].half == pytest.approx(still[2].half * size, rel=0.12)
    ball = field_points(moved[2], transform_points(m, world().points[:900]))
    assert np.abs(ball).max() < 1.0


def test_a_facade_is_bounded_by_its_points() -> None:
    rng = np.random.default_rng(3)
    wall = np.c_[rng.uniform(-4, 4, 2000), rng.normal(10, 0.1, 2000), rng.uniform(0, 5, 2000)]
    eyes = np.c_[np.linspace(-2, 2, 9), np.zeros(9), np.full(9, 1.7)]
    c2w = np.array([look_at(eye, (eye[0] * 0.8, 10.0, 2.5)) for eye in eyes])
    up, plane, cube = solve(World(wall, c2w))
    assert plane is None
    np.testing.assert_allclose(up, [0, 0, 1], atol=0.1)
    assert (np.abs(field_points(cube, wall)).max(1) < 1.0).mean() > 0.95
    assert cube.half < 6.0


def test_up_forgives_a_photo_upside_down() -> None:
    c2w = world().c2w.copy()
    c2w[3, :3, :2] *= -1.0
    np.testing.assert_allclose(frame.camera_up(c2w), [0, 0, 1], atol=0.03)


def test_look_at_forgives_a_camera_that_looks_away() -> None:
    c2w = world().c2w.copy()
    c2w[5] = look_at(c2w[5][:3, 3], (20.0, 30.0, 4.0))
    np.testing.assert_allclose(frame.look_at(c2w[:, :3, 3], c2w[:, :3, 2], None), [0, 0, 0.4], atol=0.05)


def test_masks_carve_what_points_cannot_show() -> None:
    from tasks.sample.scenes import pinhole
    from tasks.silhouettes.hull import hull_bounds, inside_masks, outlines_object

    camera = pinhole(96, 96)
    c2w = world().c2w
    masks = []
    v, u = np.mgrid[0:96, 0:96] + 0.5
    for matrix in c2w:
        rays = np.stack([(u - 48) / camera.fx, (v - 48) / camera.fy, np.ones_like(u)], -1) @ matrix[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        to_ball = np.array([0, 0, 0.5]) - matrix[:3, 3]
        along = rays @ to_ball
        masks.append(to_ball @ to_ball - along**2 < 0.5**2)
    assert outlines_object(masks)
    assert not outlines_object([~mask for mask in masks])
    cameras = [camera] * len(masks)
    found = hull_bounds(masks, cameras, c2w, np.array([0, 0, 0.4]), 2.0, np.eye(3), lambda: None)
    assert found is not None
    np.testing.assert_allclose(found[0], [-0.5, -0.5, 0.0], atol=0.15)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 1.0], atol=0.15)
    assert found[0].max() < 0.05 and (found[1] > [0.45, 0.45, 0.95]).all()
    np.testing.assert_array_equal(
        inside_masks(masks, cameras, c2w, np.array([[0, 0, 0.5], [0.9, 0, 0.1]])), [True, False]
    )


@settings(max_examples=40, deadline=None)
@given(count=st.integers(3, 80), every=st.integers(2, 12), seed=st.integers(0, 5))
def test_heldout_views_are_spread_and_repeatable(count: int, every: int, seed: int) -> None:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centres = np.c_[3 * np.cos(angle), 3 * np.sin(angle), np.ones(count)]
    taken = split.split_heldout(centres, np.zeros(3), every, seed)
    assert taken == split.split_heldout(centres, np.zeros(3), every, seed)
    assert len(set(taken)) == len(taken) == split.heldout_count(count, every)
    assert len(taken) >= (2 if count >= 8 else 1)
    assert len(taken) <= max(2, round(count / 2))


def test_no_side_loses_its_only_photo() -> None:
    angle = np.linspace(0, 1.0, 15)
    centres = np.r_[np.c_[3 * np.cos(angle), 3 * np.sin(angle), np.ones(15)], [[-3.0, 0.0, 1.0]]]
    for seed in range(20):
        taken = split.split_heldout(centres, np.zeros(3), 8, seed)
        assert 15 not in taken
        assert len(taken) == 2
