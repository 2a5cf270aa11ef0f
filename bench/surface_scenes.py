"""Objects whose shape is known exactly, photographed from 60 known cameras, for `surface.py`.

Two come from `--data` (spot, avocado), three are made here: the sample's flask (a deep bowl, two holes, a thin handle,
painted all over), a chair (thin legs, flat faces of one colour each), and a knot (a tube that hides itself, striped).
All have a bounding box of diagonal 2 around the origin, and the pictures a lit, matt surface with exact alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.posed import View
from models.camera import Camera, pixel_rays
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, sample_texture
from tasks.sample import object as flask_shape
from tasks.sample.paint import solid_colour

FloatArray = npt.NDArray[np.float64]
VIEWS, EDGE_PX, SUPERSAMPLE = 60, 400, 3
HELDOUT = 8
"""Every so many-th view is held out."""
DISTANCE, FIELD_OF_VIEW = 3.2, math.radians(38.0)
LIGHTS: tuple[tuple[tuple[float, float, float], float], ...] = (
    ((0.5, 0.4, 0.77), 0.55),
    ((-0.7, 0.3, 0.3), 0.3),
    ((0.1, -0.8, -0.4), 0.2),
)
AMBIENT = 0.3
TEXTURED = ("spot", "avocado", "flask", "knot")
CONCAVE = ("flask", "chair", "knot")


@dataclass(frozen=True)
class Scene:
    """An object and its pictures."""

    name: str
    truth: Mesh
    """Without colours; in the field's cube."""
    views: dict[str, list[View]]
    """`train` and `test`."""


def scene(name: str, data: Path) -> Scene | None:
    """One of OBJECTS with its pictures; None where its data are not there."""
    painted = OBJECTS[name](data)
    if painted is None:
        return None
    mesh = _placed(painted)
    caster = RayCaster(mesh)
    views: dict[str, list[View]] = {"train": [], "test": []}
    for number in range(VIEWS):
        split = "test" if number % HELDOUT == HELDOUT // 2 else "train"
        views[split].append(_photograph(mesh, caster, number, split))
    return Scene(name, Mesh(mesh.vertices, mesh.faces), views)


def _placed(mesh: Mesh) -> Mesh:
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return replace(mesh, vertices=(mesh.vertices - (low + high) / 2) * (2.0 / float(np.linalg.norm(high - low))))


def camera_pose(number: int) -> FloatArray:
    """[4, 4] camera to world of one of VIEWS cameras spread evenly over a sphere, OpenCV axes."""
    z = 1.0 - 2.0 * (number + 0.5) / VIEWS
    turn = math.pi * (1 + 5**0.5) * number
    away = np.array([math.sqrt(1 - z * z) * math.cos(turn), math.sqrt(1 - z * z) * math.sin(turn), z])
    forward = -away
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = away * DISTANCE
    return pose


def _photograph(mesh: Mesh, caster: RayCaster, number: int, split: str) -> View:
    focal = EDGE_PX / 2 / math.tan(FIELD_OF_VIEW / 2)
    camera = Camera(width=EDGE_PX, height=EDGE_PX, fx=focal, fy=focal, cx=EDGE_PX / 2, cy=EDGE_PX / 2)
    fine, pose = camera.resized(EDGE_PX * SUPERSAMPLE, EDGE_PX * SUPERSAMPLE), camera_pose(number)
    hits = caster.cast(*pixel_rays(fine, pose))
    seen = hits.face >= 0
    rgba = np.zeros((len(seen), 4), np.float32)
    light = np.full(int(seen.sum()), AMBIENT)
    facing = hits.normal[seen].astype(np.float64)
    for direction, strength in LIGHTS:
        light += strength * np.clip(facing @ (np.array(direction) / np.linalg.norm(direction)), 0.0, None)
    rgba[seen, :3] = sample_texture(mesh, hits.face[seen], hits.bary[seen]) * np.minimum(light, 1.0)[:, None]
    rgba[seen, 3] = 1.0
    cells = rgba.reshape(EDGE_PX, SUPERSAMPLE, EDGE_PX, SUPERSAMPLE, 4).mean((1, 3))
    cells[..., :3] /= np.maximum(cells[..., 3:], 1e-6)
    return View(f"{split}/{number:03d}", camera, pose, cells)


# -- the objects -------------------------------------------------------------------------------------------------------


def _read_obj(path: Path, texture: Path) -> Mesh | None:
    """A triangle mesh with one texture; corners with different texture coordinates become vertices of their own."""
    if not path.is_file():
        return None
    rows = [line.split() for line in path.read_text().splitlines()]
    v = np.array([row[1:4] for row in rows if row[:1] == ["v"]], dtype=np.float64)
    vt = np.array([row[1:3] for row in rows if row[:1] == ["vt"]], dtype=np.float64)
    corners = [[part.split("/")[:2] for part in row[1:]] for row in rows if row[:1] == ["f"]]
    fans = [(face[0], face[k], face[k + 1]) for face in corners for k in range(1, len(face) - 1)]
    pairs = np.array(fans, dtype=np.int64).reshape(-1, 2) - 1
    unique, faces = np.unique(pairs, axis=0, return_inverse=True)
    with Image.open(texture) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return Mesh(v[unique[:, 0]], faces.reshape(-1, 3), vt[unique[:, 1]], pixels)


def spot(data: Path) -> Mesh | None:
    """Keenan Crane's cow: smooth, with large spots and little texture between."""
    return _read_obj(data / "mesh_spot" / "cow.obj", data / "mesh_spot" / "cow_texture.png")


def avocado(data: Path) -> Mesh | None:
    """Half an avocado: finely textured and nearly convex."""
    folder = data / "mesh_avocado"
    return _read_obj(folder / "avocado.obj", folder / "textures" / "Avocado_baseColor.png")


def flask(data: Path) -> Mesh:
    """The sample's object (tasks/sample/object.py), painted all over."""
    mesh = flask_shape.build_mesh(0.0009)
    return replace(mesh, colors=np.round(solid_colour(mesh.vertices) * 255).astype(np.uint8))


def chair(data: Path) -> Mesh:
    """A chair of boxes: legs 5 % of its height thick, a back with bars, every box of one colour."""
    boxes = [((-0.5, -0.5, 0.9), (0.5, 0.5, 1.0), (200, 170, 120))]
    for x in (-0.5, 0.4):
        for y in (-0.5, 0.4):
            boxes.append(((x, y, 0.0), (x + 0.1, y + 0.1, 0.9), (120, 80, 60)))
    boxes.extend(((x, 0.4, 1.0), (x + 0.1, 0.5, 2.0), (90, 110, 140)) for x in (-0.5, -0.2, 0.1, 0.4))
    boxes.append(((-0.5, 0.4, 2.0), (0.5, 0.5, 2.2), (170, 70, 70)))
    return _of_boxes(boxes)


def _of_boxes(boxes: list[tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]]) -> Mesh:
    """The outside of a union of boxes: on the grid of all their planes, the squares between inside and outside."""
    lows, highs = (np.array([box[k] for box in boxes], dtype=np.float64) for k in (0, 1))
    planes = [np.unique(np.round(np.concatenate([lows[:, k], highs[:, k]]), 9)) for k in range(3)]
    middles = np.stack(np.meshgrid(*[(p[1:] + p[:-1]) / 2 for p in planes], indexing="ij"), -1)
    owner = np.full(middles.shape[:3], -1)
    for number in range(len(boxes)):
        owner[((middles > lows[number]) & (middles < highs[number])).all(-1)] = number
    padded = np.pad(owner, 1, constant_values=-1)
    vertices, faces, colours = [], [], []
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            beyond = np.roll(padded, 1 if side == 0 else -1, axis)[1:-1, 1:-1, 1:-1]
            for cell in np.argwhere((owner >= 0) & (beyond < 0)):
                corner = np.array([[planes[k][cell[k]], planes[k][cell[k] + 1]] for k in range(3)])
                square = np.empty((4, 3))
                square[:, axis] = corner[axis, side]
                square[:, one], square[:, two] = corner[one, [0, 1, 1, 0]], corner[two, [0, 0, 1, 1]]
                faces.append(np.array([[0, 1, 2], [0, 2, 3]])[:, :: 1 if side else -1] + 4 * len(vertices))
                vertices.append(square)
                colours.append(np.tile(boxes[owner[tuple(cell)]][2], (4, 1)))
    return Mesh(np.concatenate(vertices), np.concatenate(faces), None, None, np.concatenate(colours).astype(np.uint8))


def knot(data: Path) -> Mesh:
    """A tube along a trefoil knot, with stripes and specks."""
    along, around, radius = 480, 64, 0.42
    s = np.linspace(0, 2 * math.pi, along, endpoint=False)
    centre = np.stack([np.sin(s) + 2 * np.sin(2 * s), np.cos(s) - 2 * np.cos(2 * s), -np.sin(3 * s)], 1)
    tangent = np.stack([np.cos(s) + 4 * np.cos(2 * s), -np.sin(s) + 4 * np.sin(2 * s), -3 * np.cos(3 * s)], 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    angle = np.linspace(0, 2 * math.pi, around, endpoint=False)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    vertices = (centre[:, None] + radius * ring).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    c, d = ((i + 1) % along) * around + (j + 1) % around, ((i + 1) % along) * around + j
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    stripe = (np.sin(24 * s)[:, None] * np.cos(3 * angle)[None] > 0).reshape(-1)
    grain = np.random.default_rng(5).random(len(vertices))
    colours = np.where(stripe[:, None], [205, 150, 60], [50, 90, 120]) * (0.75 + 0.35 * grain[:, None])
    mesh = Mesh(vertices, faces, None, None, np.clip(colours, 0, 255).astype(np.uint8))
    return mesh if _volume(mesh) > 0 else replace(mesh, faces=faces[:, ::-1])


def _volume(mesh: Mesh) -> float:
    a, b, c = (mesh.triangles[:, k] for k in range(3))
    return float(np.einsum("ij,ij->i", np.cross(a, b), c).sum() / 6)


OBJECTS: dict[str, Callable[[Path], Mesh | None]] = {
    "spot": spot,
    "avocado": avocado,
    "flask": flask,
    "chair": chair,
    "knot": knot,
}
