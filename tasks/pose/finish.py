"""From a solved model to what the next stages read: frame, region, support, split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from models import frame
from models.camera import (
    Camera,
    FloatArray,
    Plane,
    PosedImage,
    PoseSet,
    Vector3,
    matrix4,
)
from models.scale import NONE, POSES
from tasks.context import Context
from tasks.pose import region, split, support
from tasks.pose.base import Model, Solution
from tasks.pose.model import move_model, shown_and_helping, similarity
from tasks.pose.options import PoseOptions
from tasks.pose.undistort import Pinhole, pinhole_of, undistorted_mask
from tasks.silhouettes import hull

_HULL_EDGE_PX = 200


@dataclass(frozen=True)
class Arranged:
    """A model with everything that was found around it, all in one world."""

    model: Model
    pinholes: tuple[Pinhole, ...]
    cube: region.Cube
    up: FloatArray
    support: support.SupportPlane | None
    helping: Model
    """The photos for alignment only, in this world."""
    helping_pinholes: tuple[Pinhole, ...]


def arrange(model: Model, solution: Solution, options: PoseOptions, context: Context) -> Arranged | None:
    """Find up, support and region, and choose the world where the method leaves it free.

    A free world is level (z up), its origin on the support below the middle of the region, and its unit half the edge
    of the region that was found. Metres are no concern of this stage (`tasks/scale/`).

    Returns:
        None when no region of interest can be found.
    """
    model, helping = shown_and_helping(model)
    pinholes, moved = _pinholes(model), np.eye(4)
    found = _find(model, pinholes, options, context)
    cube, up, plane = found
    if solution.free_gauge:
        if cube is None:
            return None
        moved = _level(cube, up, plane)
        model, (cube, up, plane) = _move(moved, model, cube, up, plane)
    if options.region is not None:
        centre, half = options.region.cube
        level = frame.level_axes(np.array([1.0, 0.0, 0.0]), up)
        cube = region.Cube(centre, half, level, "given")
    if cube is None:
        return None
    return Arranged(model, pinholes, cube, up, plane, move_model(moved, helping), _pinholes(helping))


def pose_set(arranged: Arranged, solution: Solution, options: PoseOptions, seed: int) -> PoseSet:
    """The record that goes to `poses.json`."""
    model, plane = arranged.model, arranged.support
    heldout = set(split.split_heldout(model.centres, arranged.cube.centre, options.heldout_every, seed))
    images = tuple(
        PosedImage(
            name=photo.name,
            camera=pinhole.camera,
            c2w=matrix4(c2w),
            image=f"images/{photo.path.stem}.jpg",
            mask=f"masks/{photo.path.stem}.png" if photo.mask else None,
            split="heldout" if index in heldout else "train",
        )
        for index, (photo, pinhole, c2w) in enumerate(zip(model.photos, arranged.pinholes, model.c2w, strict=True))
    )
    helping = zip(arranged.helping.photos, arranged.helping_pinholes, arranged.helping.c2w, strict=True)
    alignment = tuple(
        PosedImage(name=photo.name, camera=pinhole.camera, c2w=matrix4(c2w)) for photo, pinhole, c2w in helping
    )
    return PoseSet(
        images=images,
        alignment=alignment,
        world_from_field=matrix4(arranged.cube.world_from_field),
        units="metre" if solution.units_metre else "arbitrary",
        scale_source=POSES if solution.units_metre else NONE,
        up=_vector(arranged.up),
        support=Plane(normal=_vector(plane.normal), offset=plane.offset) if plane else None,
    )


def arrangement_facts(arranged: Arranged) -> dict[str, Any]:
    """JSON facts about region and support."""
    facts: dict[str, Any] = {
        "region_source": arranged.cube.source,
        "region_half": round(arranged.cube.half, 6),
        "support_found": arranged.support is not None,
    }
    if arranged.support:
        facts["support_share"] = round(arranged.support.share, 4)
    return facts


_Found = tuple[region.Cube | None, FloatArray, support.SupportPlane | None]


def _pinholes(model: Model) -> tuple[Pinhole, ...]:
    made: dict[int, Pinhole] = {}
    for camera in model.cameras:
        if camera.camera_id not in made:
            made[camera.camera_id] = pinhole_of(camera)
    return tuple(made[camera.camera_id] for camera in model.cameras)


def _find(model: Model, pinholes: tuple[Pinhole, ...], options: PoseOptions, context: Context) -> _Found:
    points, cameras = model.points, [pinhole.camera for pinhole in pinholes]
    up = frame.camera_up(model.c2w)
    weights = region.point_weights(points, cameras, model.c2w)
    has_points = bool((weights > 0).sum() >= 3)
    middle = region.weighted_median(points.xyz[weights > 0], weights[weights > 0]) if has_points else None
    target = frame.look_at(model.centres, model.axes, middle)
    plane = None
    if has_points:
        plane = support.find_support(points.xyz, weights, model.centres, target, up, context.request.seed)
    if plane is not None:
        up = plane.normal
    level = frame.level_axes(model.c2w[0][:3, 0], up)
    masks = _object_masks(model, pinholes)
    if masks:
        small = [_shrunk(camera, mask.shape) for camera, mask in zip(cameras, masks, strict=True)]
        reach = 0.9 * float(np.median(np.linalg.norm(model.centres - target, axis=1)))
        bounds = hull.hull_bounds(masks, small, model.c2w, target, reach, level, context.check)
        if bounds is not None:
            return region.enclose(*bounds, level, None, 0.5 * options.region_margin, "silhouettes"), up, plane
        weights = weights * hull.inside_masks(masks, small, model.c2w, points.xyz)
    cube = region.find_region(
        points.xyz, weights, model.centres, model.axes, level, target, plane, options.region_margin
    )
    return cube or region.camera_region(cameras, model.centres, target, level, model.axes), up, plane


def _object_masks(model: Model, pinholes: tuple[Pinhole, ...]) -> list[hull.Mask]:
    """The undistorted masks, made small, where all photos have one and they outline an object; else none."""
    if any(photo.mask is None for photo in model.photos):
        return []
    masks = []
    for photo, pinhole in zip(model.photos, pinholes, strict=True):
        if photo.mask is not None:
            straight = Image.fromarray(undistorted_mask(pinhole, photo.mask).astype(np.uint8) * 255)
            straight.thumbnail((_HULL_EDGE_PX, _HULL_EDGE_PX), Image.Resampling.BOX)
            masks.append(np.asarray(straight) > 0)
    return masks if hull.outlines_object(masks) else []


def _shrunk(camera: Camera, shape: tuple[int, ...]) -> Camera:
    return camera.resized(shape[1], shape[0])


def _level(cube: region.Cube, up: FloatArray, plane: support.SupportPlane | None) -> FloatArray:
    """[4, 4] similarity to a level world with its origin on the support, and half the region's edge as its unit."""
    drop = plane.height(cube.centre[None])[0] if plane is not None else cube.half
    return similarity(cube.axes, 1.0 / cube.half, cube.centre - drop * up)


def _move(
    m: FloatArray, model: Model, cube: region.Cube, up: FloatArray, plane: support.SupportPlane | None
) -> tuple[Model, tuple[region.Cube, FloatArray, support.SupportPlane | None]]:
    """Everything after the world moves by the similarity `m`."""
    size = float(np.cbrt(np.linalg.det(m[:3, :3])))
    turn, shift = m[:3, :3] / size, m[:3, 3]
    moved_cube = replace(cube, centre=m[:3, :3] @ cube.centre + shift, half=cube.half * size, axes=cube.axes @ turn.T)
    moved_plane = None
    if plane is not None:
        normal = turn @ plane.normal
        moved_plane = replace(
            plane,
            normal=normal,
            offset=float(size * plane.offset - normal @ shift),
            tolerance=plane.tolerance * size,
        )
    return move_model(m, model), (moved_cube, turn @ up, moved_plane)


def _vector(values: FloatArray) -> Vector3:
    return float(values[0]), float(values[1]), float(values[2])
