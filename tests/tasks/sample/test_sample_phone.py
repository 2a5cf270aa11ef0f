"""The phone-style sample: its photographs, its truth and its specification agree with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.ndimage import binary_dilation

from models.camera import CameraSet, PosedImage, project
from models.errors import DigitizeError, ReasonCode
from models.mesh.io import read_ply
from models.mesh.raycast import RayCaster
from models.spec_yaml import load_spec
from tasks.ingest.exif import read_camera
from tasks.quality.truth import read_truth
from tasks.sample.lens import Lens
from tasks.sample.mat import BAR_A, BAR_B
from tasks.sample.phone_capture import write_phone_sample
from tasks.sample.phone_path import FOCAL_ERROR, phone_cameras
from tasks.sample.phone_render import PhoneStudio
from tasks.sample.prints import lacquer
from tasks.sample.sheets import plane
from tasks.sample.subject import LARGEST_M, sample_subject, user_subject
from tasks.scale.methods.known_distance import Options

VIEWS, WIDTH, HEIGHT = 9, 160, 120
CELL_M = 0.004


def write(folder: Path, **options: object) -> Path:
    small = {"views": VIEWS, "width": WIDTH, "height": HEIGHT, "cell_m": CELL_M} | options
    write_phone_sample(folder, **small)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("phone"))


@pytest.fixture(scope="module")
def cameras(capture: Path) -> tuple[PosedImage, ...]:
    return CameraSet.model_validate_json((capture / "truth" / "cameras.json").read_bytes()).images


@pytest.fixture(scope="module")
def lens(capture: Path) -> Lens:
    return Lens.model_validate_json((capture / "truth" / "lens.json").read_bytes())


def photo(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / "photos" / name) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255.0


def mask(folder: Path, image: PosedImage) -> np.ndarray:
    with Image.open(folder / "truth" / "masks" / f"{Path(image.name).stem}.png") as picture:
        assert picture.mode == "L"
        return np.asarray(picture) == 255


def depth(folder: Path, image: PosedImage) -> np.ndarray:
    return np.load(folder / "truth" / "depth" / f"{Path(image.name).stem}.npz")["depth"]


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_equal_seeds_give_equal_files_and_other_seeds_other_photos(capture: Path, tmp_path: Path) -> None:
    first, again = files(capture), files(write(tmp_path / "again", threads=1))
    assert first.keys() == again.keys() and len(first) == 3 * VIEWS + 4 + 1
    assert [name for name in first if first[name] != again[name]] == []
    other = files(write(tmp_path / "other", seed=1))
    assert all(first[name] != other[name] for name in first if name.startswith("photos"))


def test_photos_name_their_camera_and_its_nominal_focal_length(capture: Path, cameras: tuple[PosedImage, ...]) -> None:
    for image in cameras:
        with Image.open(capture / "photos" / image.name) as picture:
            assert picture.size == (WIDTH, HEIGHT) and picture.mode == "RGB"
            facts = read_camera(picture)
        assert facts.focal_px == pytest.approx(image.camera.fx / FOCAL_ERROR, rel=1e-6)
        assert facts.device.startswith("Digitize|Sample Phone|")


def test_the_lens_is_opencvs_and_its_inverse_is_exact() -> None:
    import pycolmap

    lens = Lens(k1=0.075, k2=-0.055, p1=0.0007, p2=-0.0005)
    places = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 2))
    reference = pycolmap.Camera(
        model="OPENCV", width=200, height=100, params=[1, 1, 0, 0, lens.k1, lens.k2, lens.p1, lens.p2]
    )
    expected = reference.img_from_cam(np.concatenate([places, np.ones((200, 1))], 1))
    np.testing.assert_allclose(lens.distort(places), expected, atol=1e-12)
    np.testing.assert_allclose(lens.undistort(lens.distort(places)), places, atol=1e-9)


def test_true_vertices_through_the_lens_fall_into_the_masks(
    capture: Path, cameras: tuple[PosedImage, ...], lens: Lens
) -> None:
    mesh = read_ply(capture / "truth" / "mesh.ply")
    for image in cameras:
        pixels = lens.distort_pixels(image.camera, project(image.camera, image.c2w, mesh.vertices)[0])
        inside = ((pixels > 1) & (pixels < [WIDTH - 1, HEIGHT - 1])).all(1)
        u, v = np.floor(pixels[inside]).astype(int).T
        assert binary_dilation(mask(capture, image))[v, u].mean() > 0.97


def test_masks_are_the_silhouette_in_the_distorted_photo(
    capture: Path, cameras: tuple[PosedImage, ...], lens: Lens
) -> None:
    """Each mask against the depth's silhouette, moved through the lens by looking pixels up: another way to draw it."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    centres = np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1)
    for image in cameras:
        camera = image.camera
        straight = np.isfinite(depth(capture, image))
        back = lens.undistort((centres - [camera.cx, camera.cy]) / camera.fx) * camera.fx + [camera.cx, camera.cy]
        column, row = np.floor(back).astype(int).T
        seen = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        drawn = np.zeros(HEIGHT * WIDTH, bool)
        drawn[seen] = straight[row[seen], column[seen]]
        shown = mask(capture, image).ravel()
        assert (drawn & shown)[seen].sum() / (drawn | shown)[seen].sum() > 0.95


def test_a_strong_lens_bends_the_silhouette_as_colmaps_does() -> None:
    """At the photos' size the sample's lens moves the object by less than a pixel; this one moves it by many."""
    import pycolmap

    lens = Lens(k1=0.4, k2=0.2, p1=0.03, p2=-0.02)
    subject = sample_subject(CELL_M, seed=0)
    image = phone_cameras(9, WIDTH, HEIGHT, subject.middle, subject.mesh.diagonal)[-1]
    camera, c2w = image.camera, np.array(image.c2w)
    table = plane((-0.5, 0.5, 0.0), (1.0, 0, 0), (0, -1.0, 0), lacquer((90, 90, 90)), 0.01)
    shown = PhoneStudio(subject, [table], camera, lens).expose(c2w).mask
    reference = pycolmap.Camera(
        model="OPENCV",
        width=WIDTH,
        height=HEIGHT,
        params=[camera.fx, camera.fy, camera.cx, camera.cy, lens.k1, lens.k2, lens.p1, lens.p2],
    )
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    straight = reference.cam_from_img(np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1))
    rays_d = np.concatenate([straight, np.ones((len(straight), 1))], 1) @ c2w[:3, :3].T
    hits = RayCaster(subject.mesh).cast(np.tile(c2w[:3, 3], (len(rays_d), 1)), rays_d)
    assert shown.sum() > 3000
    assert ((hits.face >= 0) != shown.ravel()).sum() <= 5


def test_depth_is_that_of_the_true_mesh_in_the_pinhole_camera(capture: Path, cameras: tuple[PosedImage, ...]) -> None:
    mesh = read_ply(capture / "truth" / "mesh.ply")
    body = RayCaster(mesh)
    for image in cameras:
        known = depth(capture, image)
        assert known.dtype == np.float32 and known.shape == (HEIGHT, WIDTH)
        w2c = np.linalg.inv(np.array(image.c2w))
        v, u = np.nonzero(np.isfinite(known))
        local = np.stack([(u + 0.5 - image.camera.cx), (v + 0.5 - image.camera.cy)], 1) / image.camera.fx
        places = np.concatenate([local, np.ones((len(local), 1))], 1) * known[v, u, None]
        world = (places - w2c[:3, 3]) @ w2c[:3, :3]
        assert len(world) > 500 and body.distance(world).max() < 1e-5
        assert body.visible(world, image.centre, 1e-5).mean() > 0.999


def test_the_bars_marks_are_given_where_the_distorted_photos_show_them(
    capture: Path, cameras: tuple[PosedImage, ...], lens: Lens
) -> None:
    (asset,) = load_spec(capture / "batch.yaml").spec.assets
    by_name = {image.name: image for image in cameras}
    scale = Options.model_validate(asset.scale.keys)
    for mark, place in ((scale.a, BAR_A), (scale.b, BAR_B)):
        assert len(mark.pixels) >= 2
        for name, pixel in mark.pixels.items():
            image = by_name[name]
            straight = project(image.camera, image.c2w, place[None])[0]
            np.testing.assert_allclose(lens.distort_pixels(image.camera, straight)[0], pixel, atol=0.051)


def test_the_object_is_brighter_or_darker_from_photo_to_photo_and_colours_drift(
    capture: Path, cameras: tuple[PosedImage, ...]
) -> None:
    means = np.array([photo(capture, image.name)[mask(capture, image)].mean(0) for image in cameras])
    assert means.mean(1).max() / means.mean(1).min() > 1.15
    assert means.min() > 0.15 and means.max() < 0.75
    assert np.ptp(means[:, 2] / means[:, 0]) > 0.01


def test_the_room_has_structure_behind_the_object(capture: Path, cameras: tuple[PosedImage, ...]) -> None:
    for image in cameras:
        grey = photo(capture, image.name).mean(2)
        tiles = grey.reshape(4, HEIGHT // 4, 4, WIDTH // 4).std((1, 3))
        assert (tiles > 0.02).mean() > 0.7


def test_the_lines_reader_accepts_the_truth(capture: Path) -> None:
    truth = read_truth(capture / "truth")
    assert len(truth.cameras.images) == VIEWS and truth.mesh.colors is not None
    assert truth.support is not None and truth.support.normal == (0.0, 0.0, 1.0)
    assert abs(truth.mesh.vertices[:, 2].min()) < 1e-6


def test_gloss_changes_the_object_and_nothing_else(
    tmp_path: Path, capture: Path, cameras: tuple[PosedImage, ...]
) -> None:
    shiny = write(tmp_path, glossy=True)
    sharp = 0
    for image in cameras:
        change = np.abs(photo(shiny, image.name) - photo(capture, image.name)).max(2)
        shown = mask(capture, image)
        sharp += int((change[shown] > 0.15).sum())
        # 4:2:0 and blur carry the highlight over the edge
        assert np.quantile(change[~binary_dilation(shown, iterations=12)], 0.99) < 0.03
    assert sharp > 20


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_a_users_mesh_stands_on_the_table(tmp_path: Path, suffix: str) -> None:
    body = trimesh.creation.box(extents=(2.0, 6.0, 3.0) if suffix == ".glb" else (2.0, 3.0, 6.0))
    body.apply_translation((70.0, 80.0, 90.0))
    if suffix == ".ply":
        body.visual.vertex_colors = np.tile([200, 40, 30, 255], (8, 1))
    path = tmp_path / f"block{suffix}"
    body.export(path)
    subject = user_subject(path, seed=0)
    low, high = subject.mesh.vertices.min(0), subject.mesh.vertices.max(0)
    np.testing.assert_allclose((high - low) / LARGEST_M, (1 / 3, 1 / 2, 1.0), atol=1e-6)
    np.testing.assert_allclose((*(low + high)[:2], low[2]), 0.0, atol=1e-9)
    # the light's normals stay those of the flat sides
    np.testing.assert_allclose(np.abs(subject.normals).max(1), 1.0, atol=1e-6)
    if suffix == ".ply":
        assert (subject.mesh.colors == [200, 40, 30]).all()


def test_a_users_texture_is_photographed(tmp_path: Path) -> None:
    body = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    uv = body.vertices[:, :2] / 2.0 + 0.5
    texture = Image.fromarray(np.full((8, 8, 3), (20, 180, 60), np.uint8))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture)
    body.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    body.export(tmp_path / "ball.glb")
    folder = write(tmp_path / "capture", mesh=tmp_path / "ball.glb")
    truth = read_truth(folder / "truth")
    np.testing.assert_allclose(np.ptp(truth.mesh.vertices, axis=0), LARGEST_M, rtol=1e-3)
    image = truth.cameras.images[0]
    seen = photo(folder, image.name)[mask(folder, image)].mean(0)
    assert seen[1] > 1.5 * seen[0] and seen[1] > 1.5 * seen[2]


def test_a_file_without_triangles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.ply"
    trimesh.PointCloud(np.eye(3)).export(path)
    with pytest.raises(DigitizeError) as caught:
        user_subject(path, seed=0)
    assert caught.value.code is ReasonCode.UNDECODABLE
    with pytest.raises(DigitizeError) as caught:
        user_subject(tmp_path / "none.ply", seed=0)
    assert caught.value.code is ReasonCode.SOURCE_NOT_FOUND


def test_too_few_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 9"):
        write_phone_sample(tmp_path, views=5)
