"""Mirrors and glass against numbers worked out by hand: reflected and refracted directions, Fresnel's shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.camera import Camera
from models.mesh.mesh import Mesh
from tasks.sample.lens import Lens
from tasks.sample.material import Material
from tasks.sample.optics import GLASS_INDEX, REFLECTANCE, ClearBody, fresnel, reflect, refract
from tasks.sample.path import look_at
from tasks.sample.phone_capture import write_phone_sample
from tasks.sample.phone_render import PhoneStudio
from tasks.sample.sheets import plane
from tasks.sample.subject import Subject

RADIUS_M = 0.07


def ball(subdivisions: int = 6) -> tuple[Mesh, np.ndarray]:
    """A ball around the origin, and the exact normals at its faces' corners."""
    body = trimesh.creation.icosphere(subdivisions=subdivisions, radius=RADIUS_M)
    vertices, faces = np.asarray(body.vertices), np.asarray(body.faces, np.int64)
    return Mesh(vertices, faces), (vertices / RADIUS_M)[faces]


def direction_as_light(rays_o: np.ndarray, rays_d: np.ndarray) -> np.ndarray:
    """A background whose light is the direction in which it is seen."""
    return rays_d.astype(np.float32)


def body_of(material: Material) -> ClearBody:
    return ClearBody(*ball(), material, direction_as_light, threads=1)


def parallel_rays(heights_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rays along +y that pass the origin at heights x = h."""
    rays_o = np.stack([heights_m, np.full(len(heights_m), -1.0), np.zeros(len(heights_m))], 1)
    return rays_o, np.tile([0.0, 1.0, 0.0], (len(heights_m), 1))


def test_a_mirror_ball_shows_the_direction_that_its_normal_asks_for() -> None:
    """At height h the normal leans by asin(h / r) from the ray, so that the ray turns back by twice that angle."""
    heights = RADIUS_M * np.array([0.0, 0.25, np.sin(np.pi / 4), -0.5, 0.9])
    seen = body_of(Material.MIRROR).seen(*parallel_rays(heights)) / REFLECTANCE
    lean = np.arcsin(heights / RADIUS_M)
    expected = np.stack([np.sin(2 * lean), -np.cos(2 * lean), np.zeros(len(lean))], 1)
    np.testing.assert_allclose(seen, expected, atol=4e-3)
    # at 45 degrees a camera that looks along y sees what lies to the side, along x
    np.testing.assert_allclose(seen[2], (1.0, 0.0, 0.0), atol=4e-3)


def test_a_glass_ball_bends_rays_across_its_middle() -> None:
    """Two refractions turn a ray by 2 (i - r) towards the axis, with sin i = h / r and sin r = sin i / n."""
    heights = RADIUS_M * np.array([0.1, 0.3, -0.3, 0.6])
    seen = body_of(Material.GLASS).seen(*parallel_rays(heights))
    i = np.arcsin(np.abs(heights) / RADIUS_M)
    r = np.arcsin(np.sin(i) / GLASS_INDEX)
    turn = -np.sign(heights) * 2 * (i - r)
    share = fresnel(np.cos(i), np.full(len(i), 1 / GLASS_INDEX))
    lean = 2 * np.arcsin(heights / RADIUS_M)
    through = np.stack([np.sin(turn), np.cos(turn), np.zeros(len(i))], 1)
    mirrored = np.stack([np.sin(lean), -np.cos(lean), np.zeros(len(i))], 1)
    expected = ((1 - share) ** 2)[:, None] * through + share[:, None] * mirrored
    np.testing.assert_allclose(seen, expected, atol=4e-3)
    assert (np.sign(through[:, 0]) == -np.sign(heights)).all()


def test_rays_beside_the_object_see_what_is_behind() -> None:
    rays = parallel_rays(np.array([1.1 * RADIUS_M]))
    for material in (Material.MIRROR, Material.GLASS):
        np.testing.assert_allclose(body_of(material).seen(*rays), [[0.0, 1.0, 0.0]], atol=1e-6)


def test_fresnel_at_known_angles() -> None:
    """4 % straight on, no loss of the light polarized along the plane at Brewster's angle, all at grazing."""
    ratio = np.full(3, 1 / GLASS_INDEX)
    brewster = np.arctan(GLASS_INDEX)
    shares = fresnel(np.cos([0.0, brewster, np.pi / 2]), ratio)
    across = np.sin(2 * brewster - np.pi / 2) ** 2
    np.testing.assert_allclose(shares, [0.04, across / 2, 1.0], atol=1e-9)
    inside = fresnel(np.cos([np.arcsin(1 / GLASS_INDEX) + 1e-6]), np.array([GLASS_INDEX]))
    np.testing.assert_allclose(inside, 1.0)


@given(
    st.floats(0.0, np.pi / 2 - 1e-3), st.floats(0.0, 2 * np.pi), st.sampled_from([1 / GLASS_INDEX, GLASS_INDEX, 1.33])
)
def test_refraction_is_snells_and_can_be_walked_back(angle: float, turn: float, ratio: float) -> None:
    normal = np.array([[0.0, 0.0, 1.0]])
    ray = np.array([[np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), -np.cos(angle)]])
    through, total = refract(ray, normal, np.array([ratio]))
    assert total[0] == (ratio * np.sin(angle) >= 1.0)
    np.testing.assert_allclose(reflect(reflect(ray, normal), normal), ray, atol=1e-12)
    if total[0]:
        return
    np.testing.assert_allclose(np.hypot(*through[0, :2]), ratio * np.sin(angle), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(through), 1.0, atol=1e-9)
    back, lost = refract(-through, -normal, np.array([1 / ratio]))
    if not lost[0]:
        np.testing.assert_allclose(back, -ray, atol=1e-6)


def half_red(h: int, w: int, texel_m: float, rng: np.random.Generator) -> np.ndarray:
    """A wall that is red on its left half and green on its right one."""
    wall = np.zeros((h, w, 3), np.float32)
    wall[:, : w // 2, 0], wall[:, w // 2 :, 1] = 1.0, 1.0
    return wall


def test_photos_show_the_wall_behind_a_glass_ball_the_other_way_round() -> None:
    mesh, normals = ball(5)
    lifted = Mesh(mesh.vertices + np.array([0.0, 0.0, RADIUS_M]), mesh.faces)
    places = normals.reshape(-1, 3)
    subject = Subject(
        lifted,
        lifted.vertices[mesh.faces.ravel()],
        places,
        np.arange(len(places)).reshape(-1, 3),
        lambda face, bary: np.full((len(face), 3), 0.5, np.float32),
    )
    wall = replace(plane((-0.6, 0.6, 0.8), (1.2, 0, 0), (0, 0, -1.6), half_red, 0.01), glow=1.0)
    camera = Camera(width=80, height=60, fx=90.0, fy=90.0, cx=40.0, cy=30.0)
    pose = look_at(np.array([0.0, -0.4, RADIUS_M]), np.array([0.0, 0.0, RADIUS_M]), roll=0.0)
    shown = PhoneStudio(subject, [wall], camera, Lens(k1=0, k2=0, p1=0, p2=0), material=Material.GLASS).expose(pose)
    row = shown.linear[30]
    inside = np.flatnonzero(shown.mask[30])
    left, right = row[inside[len(inside) // 2] - 6], row[inside[len(inside) // 2] + 6]
    assert row[2, 0] > row[2, 1] and row[-3, 1] > row[-3, 0]
    assert left[1] > 5 * left[0] and right[0] > 5 * right[1]


def photo(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / "photos" / name) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255.0


SMALL = {"views": 9, "width": 120, "height": 90, "cell_m": 0.006}


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    write_phone_sample(folder, **SMALL)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("material", [Material.MIRROR, Material.GLASS])
def test_a_capture_of_another_material_differs_on_the_object_and_keeps_its_truth(
    tmp_path: Path, painted: Path, material: Material
) -> None:
    write_phone_sample(tmp_path, **SMALL, material=material)  # type: ignore[arg-type]
    for path in sorted((painted / "truth").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(painted)).read_bytes(), path.name
    for path in sorted((painted / "photos").iterdir()):
        with Image.open(painted / "truth" / "masks" / f"{path.stem}.png") as picture:
            mask = np.asarray(picture) > 127
        change = np.abs(photo(tmp_path, path.name) - photo(painted, path.name)).max(2)
        assert np.median(change[mask]) > 0.05 > np.median(change[~mask])


@pytest.mark.slow
def test_equal_arguments_give_equal_photos_of_glass(tmp_path: Path) -> None:
    for name, threads in (("one", 1), ("two", 2)):
        write_phone_sample(tmp_path / name, **SMALL, material=Material.GLASS, threads=threads)  # type: ignore[arg-type]
    for path in sorted((tmp_path / "one" / "photos").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "photos" / path.name).read_bytes()


def test_gloss_belongs_to_paint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paint"):
        write_phone_sample(tmp_path, glossy=True, material=Material.MIRROR)
