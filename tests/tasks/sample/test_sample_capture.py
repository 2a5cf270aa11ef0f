"""The sample's photographs, truth and specification agree with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.camera import CameraSet, Plane, project
from models.mesh.io import read_ply
from models.mesh.raycast import render_textured
from models.spec_yaml import load_spec
from tasks.ingest.exif import read_camera
from tasks.sample.capture import write_sample
from tasks.sample.mat import BAR_A, BAR_B, BAR_M
from tasks.scale.methods.known_distance import Options
from tests.synthetic.fixtures import tiny_capture  # noqa: F401


@pytest.fixture(scope="module")
def cameras(tiny_capture: Path) -> CameraSet:  # noqa: F811
    return CameraSet.model_validate_json((tiny_capture / "truth" / "cameras.json").read_bytes())


def photo(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / "photos" / name) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float64) / 255.0


def test_every_camera_has_its_photo_with_the_true_focal_length(tiny_capture: Path, cameras: CameraSet) -> None:  # noqa: F811
    assert {path.name for path in (tiny_capture / "photos").iterdir()} == {image.name for image in cameras.images}
    for image in cameras.images[:3]:
        with Image.open(tiny_capture / "photos" / image.name) as picture:
            assert picture.size == (image.camera.width, image.camera.height)
            assert read_camera(picture).focal_px == pytest.approx(image.camera.fx, rel=1e-6)


def test_photos_show_the_true_mesh_from_the_true_cameras(tiny_capture: Path, cameras: CameraSet) -> None:  # noqa: F811
    mesh = read_ply(tiny_capture / "truth" / "mesh.ply")
    for image in cameras.images[::7]:
        view = render_textured(mesh, image.camera, image.c2w)
        shown = photo(tiny_capture, image.name)
        expected = view.rgb.mean(2)
        agreement = np.corrcoef(expected[view.mask], shown[view.mask])[0, 1]
        shifted = np.corrcoef(expected[view.mask], np.roll(shown, 3, 1)[view.mask])[0, 1]
        assert agreement > 0.4 and agreement > shifted + 0.2
        v, u = np.nonzero(view.mask)
        assert 0.55 < np.ptp(v) / image.camera.height < 0.95
        assert min(v.min(), u.min(), image.camera.height - v.max(), image.camera.width - u.max()) > 5


def test_the_specification_loads_and_its_marks_are_on_the_bar(tiny_capture: Path, cameras: CameraSet) -> None:  # noqa: F811
    spec = load_spec(tiny_capture / "batch.yaml").spec
    (asset,) = spec.assets
    assert asset.scale.kind == "known_distance"
    scale = Options.model_validate(asset.scale.keys)
    assert scale.distance_m == BAR_M
    assert np.linalg.norm(BAR_B - BAR_A) == pytest.approx(BAR_M)
    by_name = {image.name: image for image in cameras.images}
    for mark, place in ((scale.a, BAR_A), (scale.b, BAR_B)):
        assert len(mark.pixels) >= 4
        for name, pixel in mark.pixels.items():
            image = by_name[name]
            np.testing.assert_allclose(project(image.camera, image.c2w, place[None])[0][0], pixel, atol=0.051)
            # the target's quadrants alternate: dark to the lower right and the upper left on the print
            corners = place + 0.0024 * np.array([[1.0, -1, 0], [-1, 1, 0], [1, 1, 0], [-1, -1, 0]])
            u, v = np.floor(project(image.camera, image.c2w, corners)[0]).astype(int).T
            dark1, dark2, bright1, bright2 = photo(tiny_capture, name)[v, u]
            assert dark1 + dark2 + 0.2 < bright1 + bright2


def test_the_support_is_the_mat_under_the_object(tiny_capture: Path) -> None:  # noqa: F811
    plane = Plane.model_validate_json((tiny_capture / "truth" / "support.json").read_bytes())
    heights = read_ply(tiny_capture / "truth" / "mesh.ply").vertices @ np.array(plane.normal) + plane.offset
    assert heights.min() == pytest.approx(0.0, abs=1e-6)


def test_equal_arguments_give_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_sample(tmp_path / folder, views=9, width=96, height=72, cell_m=0.004)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 9 + 3 + 1
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_too_few_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 9"):
        write_sample(tmp_path, views=5)
