"""Known poses of other programs: the same cameras within 0.1 px, and faults that cost no more than their photo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.camera import Camera, CameraSet, PosedImage, matrix4, project
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from tasks.pose.base import Photo
from tasks.pose.given.lens import GivenLens
from tasks.pose.given.metashape import read_metashape
from tasks.pose.given.read import GivenCamera, join, read_file
from tasks.sample.scenes import look_at, ring_cameras
from tests.tasks.pose import camera_writers as write

import pycolmap  # isort: skip

SIZE = (640, 480)
POINTS = np.random.default_rng(3).uniform(-0.5, 0.5, (60, 3))


def cameras(count: int = 12, distance: float = 3.0, focal: float = 700.0) -> tuple[PosedImage, ...]:
    """Cameras around the origin whose principal point is not in the middle."""
    ring = ring_cameras(count, *SIZE, distance, (20.0, 50.0), (0.0, 0.0, 0.0))
    lens = Camera(width=640, height=480, fx=focal, fy=focal, cx=331.0, cy=236.0)
    return tuple(image.model_copy(update={"camera": lens, "name": f"IMG_{n:04d}.jpg"}) for n, image in enumerate(ring))


def photos(images: tuple[PosedImage, ...], orientation: int = 1) -> tuple[Photo, ...]:
    """The photos as ingest stored them, at half their size."""
    return tuple(
        Photo(i.name, i.name, Path(i.name), None, SIZE[0] // 2, SIZE[1] // 2, *SIZE, None, "k", orientation)
        for i in images
    )


def pixels(camera: GivenCamera, points: np.ndarray) -> np.ndarray:
    """Where pycolmap sees points."""
    local = (points - camera.c2w[:3, 3]) @ camera.c2w[:3, :3]
    return np.asarray(camera.lens.camera(1).img_from_cam(local))


def compare(path: Path, truth: tuple[PosedImage, ...], form: str = "auto") -> list[str]:
    """Assert that a file gives the true cameras within 0.1 px of the photos' own pixels; the notes."""
    given = join(read_file(path, form), photos(truth))
    found, faults = given.cameras()
    assert set(found) == {image.name for image in truth} and faults == ()
    for image in truth:
        half = image.camera.resized(SIZE[0] // 2, SIZE[1] // 2)
        true, depth = project(half, image.c2w, POINTS)
        assert (depth > 0).all()
        assert np.abs(pixels(found[image.name], POINTS) - true).max() < 0.05
        np.testing.assert_allclose(found[image.name].c2w, image.c2w, atol=1e-5)
    return [*given.notes, *given.faults]


def plain(images: tuple[PosedImage, ...]) -> tuple[PosedImage, ...]:
    """The same with the principal point in the middle, for formats that know no other."""
    middle = images[0].camera.model_copy(update={"cx": 320.0, "cy": 240.0})
    return tuple(image.model_copy(update={"camera": middle}) for image in images)


def test_colmap_models_give_the_true_cameras(tmp_path: Path) -> None:
    for binary in (False, True):
        folder = tmp_path / f"{binary}"
        write.colmap(folder, cameras(), binary, "ring1/{}")
        compare(folder, cameras())
        compare(folder / ("images.bin" if binary else "images.txt"), cameras())


def test_of_several_models_the_largest_is_used(tmp_path: Path) -> None:
    write.colmap(tmp_path / "sparse/0", cameras()[:3], True)
    write.colmap(tmp_path / "sparse/1", cameras(), False)
    (note,) = compare(tmp_path, cameras())
    assert "sparse/1" in note and "sparse/0 has 3" in note
    (tmp_path / "sparse/1/images.txt").write_text("1 0.5 nonsense")
    assert len(read_file(tmp_path, "auto").frames) == 3


@pytest.mark.parametrize("variant", ["ngp", "nerfstudio", "nerfstudio_scaled", "blender", "blender_scaled"])
def test_transforms_in_all_variants_give_the_true_cameras(tmp_path: Path, variant: str) -> None:
    path, truth = tmp_path / "transforms.json", cameras()
    if variant == "ngp":
        write.ngp(path, truth)
    elif variant.startswith("nerfstudio"):
        write.nerfstudio(path, truth, 0.37 if variant.endswith("scaled") else 1.0)
    else:
        truth = plain(truth)
        write.blender(path, truth, 2.5 if variant.endswith("scaled") else 1.0)
    assert compare(path, truth) == []
    assert compare(tmp_path, truth) == []


def test_own_cameras_give_the_true_cameras(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(canonical_json(CameraSet(images=cameras())))
    assert compare(tmp_path / "mine.json", cameras()) == []
    assert compare(tmp_path / "mine.json", cameras(), "cameras") == []


@pytest.mark.parametrize("scale", [1.0, 0.21])
def test_metashape_gives_the_true_cameras(tmp_path: Path, scale: float) -> None:
    write.metashape(tmp_path / "cameras.xml", cameras(), scale)
    (note,) = compare(tmp_path / "cameras.xml", cameras())
    assert note.startswith("1 cameras without a transform")


def test_realitycapture_gives_the_true_cameras(tmp_path: Path) -> None:
    write.realitycapture(tmp_path / "cameras.csv", cameras())
    assert compare(tmp_path / "cameras.csv", cameras()) == []
    text = (tmp_path / "cameras.csv").read_text()
    (tmp_path / "semicolons.csv").write_text("\ufeff" + text.replace(",", ";"))
    assert compare(tmp_path / "semicolons.csv", cameras()) == []


def test_metashape_lenses_project_as_its_manual_says() -> None:
    """The manual's formulas, worked out here, against the COLMAP model that the reader chose."""
    rng = np.random.default_rng(0)
    values = {
        "f": 900.0,
        "cx": 5.0,
        "cy": -7.0,
        "b1": 2.0,
        "k1": -0.1,
        "k2": 0.03,
        "k3": -0.01,
        "p1": 2e-3,
        "p2": -1e-3,
    }
    cases: list[tuple[str, dict[str, float], str]] = [
        ("frame", {**values, "k3": 0.0}, "OPENCV"),
        ("frame", values, "FULL_OPENCV"),
        ("frame", {**values, "k4": 0.004}, "FULL_OPENCV"),
        ("fisheye", {**values, "p1": 0.0, "p2": 0.0}, "OPENCV_FISHEYE"),
        ("fisheye", values, "THIN_PRISM_FISHEYE"),
    ]
    for kind, given, model in cases:
        tags = "".join(f"<{key}>{value}</{key}>" for key, value in given.items())
        pose = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
        text = (
            f'<document><chunk><sensors><sensor id="0" type="{kind}"><resolution width="1200" height="800"/>'
            f'<calibration type="{kind}" class="adjusted">{tags}</calibration></sensor></sensors><cameras>'
            f'<camera id="0" sensor_id="0" label="a"><transform>{pose}</transform></camera>'
            "</cameras></chunk></document>"
        )
        lens = read_metashape(text).frames[0].lens(1, 1)
        assert lens.model == model
        points = np.concatenate([rng.uniform(-0.55, 0.55, (200, 2)), np.ones((200, 1))], 1)
        x, y = points[:, 0], points[:, 1]
        if kind == "fisheye":
            flat = np.hypot(x, y)
            x, y = x * np.arctan(flat) / flat, y * np.arctan(flat) / flat
        r2 = x * x + y * y
        d = 1 + given["k1"] * r2 + given["k2"] * r2**2 + given["k3"] * r2**3 + given.get("k4", 0.0) * r2**4
        xd = x * d + given["p1"] * (r2 + 2 * x * x) + 2 * given["p2"] * x * y
        yd = y * d + given["p2"] * (r2 + 2 * y * y) + 2 * given["p1"] * x * y
        u = 600 + given["cx"] + xd * given["f"] + xd * given["b1"]
        v = 400 + given["cy"] + yd * given["f"]
        assert np.abs(lens.camera(1).img_from_cam(points) - np.stack([u, v], 1)).max() < 0.06


LENSES = [
    ("SIMPLE_PINHOLE", (500.0, 310.0, 250.0)),
    ("PINHOLE", (500.0, 510.0, 310.0, 250.0)),
    ("SIMPLE_RADIAL", (500.0, 310.0, 250.0, 0.05)),
    ("RADIAL", (500.0, 310.0, 250.0, 0.05, -0.02)),
    ("OPENCV", (500.0, 510.0, 310.0, 250.0, 0.05, -0.02, 0.003, -0.004)),
    ("FULL_OPENCV", (500.0, 510.0, 310.0, 250.0, 0.05, -0.02, 0.003, -0.004, 0.01, 0.02, 0.0, 0.0)),
    ("OPENCV_FISHEYE", (500.0, 510.0, 310.0, 250.0, 0.05, -0.02, 0.0, 0.0)),
    ("FOV", (500.0, 510.0, 310.0, 250.0, 0.7)),
    ("SIMPLE_RADIAL_FISHEYE", (500.0, 310.0, 250.0, 0.05)),
    ("RADIAL_FISHEYE", (500.0, 310.0, 250.0, 0.05, 0.01)),
    ("THIN_PRISM_FISHEYE", (500.0, 510.0, 310.0, 250.0, 0.05, -0.02, 0.003, -0.004, 0.0, 0.0, 0.002, -0.001)),
    ("RAD_TAN_THIN_PRISM_FISHEYE", (500.0, 510.0, 310.0, 250.0, 0.05, 0, 0, 0, 0, 0, 0.003, -0.004, 0.1, 0.0, -0.2, 0)),
    ("SIMPLE_DIVISION", (500.0, 310.0, 250.0, -0.05)),
    ("DIVISION", (500.0, 510.0, 310.0, 250.0, -0.05)),
    ("SIMPLE_FISHEYE", (500.0, 310.0, 250.0)),
    ("FISHEYE", (500.0, 510.0, 310.0, 250.0)),
    ("EUCM", (500.0, 510.0, 310.0, 250.0, 0.5, 1.1)),
]


@pytest.mark.parametrize(("model", "params"), LENSES)
def test_every_lens_turns_and_scales_with_its_picture(model: str, params: tuple[float, ...]) -> None:
    lens = GivenLens(model, params, 640, 480)
    points = np.concatenate([np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2)), np.ones((50, 1))], 1)
    u, v = lens.camera(1).img_from_cam(points).T
    x, y, z = points.T
    turned = {1: ((480 - v, u), (-y, x)), 2: ((640 - u, 480 - v), (-x, -y)), 3: ((v, 640 - u), (y, -x))}
    for quarters, (where, ray) in turned.items():
        made = lens.turned(quarters)
        assert (made.width, made.height) == ((480, 640) if quarters % 2 else (640, 480))
        seen = made.camera(1).img_from_cam(np.stack([*ray, z], 1))
        np.testing.assert_allclose(seen, np.stack(where, 1), atol=1e-9)
    half = lens.resized(320, 240).camera(1).img_from_cam(points)
    np.testing.assert_allclose(half, np.stack([u, v], 1) / 2, atol=1e-9)


def test_every_model_of_pycolmap_that_it_undistorts_is_read() -> None:
    assert {model for model, _ in LENSES} == set(pycolmap.CameraModelId.__members__) - {"INVALID", "EQUIRECTANGULAR"}


@pytest.mark.parametrize("orientation", [1, 6, 3, 8])
def test_frames_of_photos_that_exif_turned_are_turned_too(tmp_path: Path, orientation: int) -> None:
    """The file describes the sensor's pictures; ingest turned them upright."""
    truth, quarters = cameras(), {1: 0, 6: 1, 3: 2, 8: 3}[orientation]
    sensor = []
    for image in truth:
        upright = GivenLens("PINHOLE", (700.0, 700.0, 331.0, 236.0), *SIZE)
        lens = upright.turned(-quarters)
        fx, fy, cx, cy = lens.params
        back = np.eye(4)
        angle = np.radians(90 * quarters)
        back[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        camera = Camera(width=round(lens.width), height=round(lens.height), fx=fx, fy=fy, cx=cx, cy=cy)
        sensor.append(image.model_copy(update={"camera": camera, "c2w": matrix4(np.array(image.c2w) @ back)}))
    write.ngp(tmp_path / "transforms.json", sensor)
    given = join(read_file(tmp_path / "transforms.json", "auto"), photos(truth, orientation))
    found, faults = given.cameras(sensor=True)
    assert faults == () and len(found) == len(truth)
    for image in truth:
        half = image.camera.resized(SIZE[0] // 2, SIZE[1] // 2)
        true, _ = project(half, image.c2w, POINTS)
        assert np.abs(pixels(found[image.name], POINTS) - true).max() < 1e-6


C2W = look_at(np.array([1.0, 2.0, 3.0]))


def transforms(**frame: Any) -> dict[str, Any]:
    one = {"file_path": "./train/a.b", "transform_matrix": (C2W @ write.UP_BACK).tolist(), **frame}
    return {"fl_x": 600.0, "w": 640, "h": 480, "k1": 0.1, "frames": [one]}


def placed(path: Path, text: str, name: str = "a.b.jpg") -> GivenCamera:
    path.write_text(text)
    one = Photo(name, name, Path(name), None, 320, 240, 640, 480, None, "k")
    cameras, faults = join(read_file(path, "auto"), (one,)).cameras()
    if faults:
        raise DigitizeError(ReasonCode.POSES_INVALID, faults[0])
    return cameras[name]


def test_transforms_are_scaled_to_the_stored_size(tmp_path: Path) -> None:
    found = placed(tmp_path / "t.json", json.dumps(transforms(fl_y=610.0, cx=330.0)))
    np.testing.assert_allclose(found.c2w, C2W, atol=1e-12)
    assert found.lens.params == pytest.approx((300.0, 305.0, 165.0, 120.0, 0.1, 0.0, 0.0, 0.0))


BAD_TRANSFORMS: list[tuple[Any, str]] = [
    ([], "frames"),
    (transforms(transform_matrix=[[1, 2], [3, 4]]), "4x4"),
    (transforms(transform_matrix=(np.diag([2.0, 1, 1, 1])).tolist()), "rigid"),
    (transforms(transform_matrix=(np.diag([-1.0, 1, 1, 1])).tolist()), "rigid"),
    (transforms(transform_matrix=(np.eye(4) * np.nan).tolist()), "finite"),
    (transforms(transform_matrix=None), "4x4"),
    (transforms(file_path="other.png"), r"none for a\.b\.jpg"),
    (transforms(file_path=7), "file_path"),
    (transforms(fl_x=None), "fl_x"),
    (transforms(k4=0.5), "k4"),
    (transforms(w=100), "shape"),
    (transforms(w=480, h=640), "EXIF rotation"),
    (transforms(cx="wide"), "cx"),
    (transforms(camera_model="EQUIRECTANGULAR"), "camera_model"),
    ({**transforms(), "applied_scale": 0}, "applied_scale"),
    ({**transforms(), "applied_transform": [[1]]}, "applied_transform"),
]


@pytest.mark.parametrize(("data", "message"), BAD_TRANSFORMS)
def test_bad_transforms_name_the_frame(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(DigitizeError, match=message) as caught:
        placed(tmp_path / "t.json", json.dumps(data))
    assert caught.value.code is ReasonCode.POSES_INVALID


BAD_FILES = [
    ("a.xml", "<document>", "XML"),
    ("a.xml", "<html></html>", "Metashape"),
    ("a.xml", '<!DOCTYPE d [<!ENTITY a "b">]><document><chunk/></document>', "document type"),
    ("a.xml", "<document><chunk/></document>", "aligned cameras"),
    ("a.csv", "name;x\n", "RealityCapture"),
    ("a.csv", "#name,x,y,alt,heading,pitch,roll,f\n", "a line for each camera"),
    ("a.csv", "#name,x,y,alt,heading,pitch,roll,f\na.b.jpg,0,0,0,0,0,0,wide\n", "`f`"),
    ("a.csv", "#name,x,y,alt,heading,pitch,roll,f\na.b.jpg,0,0\n", "8 values"),
    ("a.json", "{", "JSON"),
    ("a.json", "[" * 100000, "JSON"),
    ("images.txt", "1 2 3", "COLMAP"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_bad_files_say_what_was_expected(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DigitizeError, match=message) as caught:
        placed(tmp_path / name, text)
    assert caught.value.code is ReasonCode.POSES_INVALID


def test_the_frame_of_a_duplicate_is_that_of_the_photo_in_its_place(tmp_path: Path) -> None:
    truth = cameras()
    renamed = (truth[0].model_copy(update={"name": "copy of 0.jpg"}), *truth[1:])
    write.ngp(tmp_path / "t.json", renamed)
    first, *rest = photos(truth)
    given = join(read_file(tmp_path / "t.json", "auto"), (replace(first, twins=("copy of 0.jpg",)), *rest))
    found, _ = given.cameras()
    np.testing.assert_allclose(found[first.name].c2w, truth[0].c2w, atol=1e-9)


def test_a_bad_frame_costs_its_photo_alone(tmp_path: Path) -> None:
    write.ngp(tmp_path / "t.json", cameras())
    data = json.loads((tmp_path / "t.json").read_text())
    data["frames"][2]["transform_matrix"][0][0] = None
    data["frames"][5]["w"] = 100
    data["frames"].append({**data["frames"][0], "file_path": "images/dangling.jpg"})
    (tmp_path / "t.json").write_text(json.dumps(data))
    given = join(read_file(tmp_path / "t.json", "auto"), photos(cameras()))
    found, faults = given.cameras()
    assert {image.name for image in cameras()} - set(found) == {"IMG_0002.jpg", "IMG_0005.jpg"}
    assert "IMG_0002.jpg" in given.faults[0] and "IMG_0005.jpg" in faults[0]
    assert given.notes == ("1 of 12 frames belong to no photo",)


@pytest.mark.parametrize("cut", [4, 40, 200, 600])
def test_cut_binary_models_are_refused_by_name(tmp_path: Path, cut: int) -> None:
    write.colmap(tmp_path, cameras(), True)
    for name in ("cameras.bin", "images.bin"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(DigitizeError, match=name):
            read_file(tmp_path, "auto")
        (tmp_path / name).write_bytes(whole)


def test_mask_paths_are_told_of(tmp_path: Path) -> None:
    write.ngp(tmp_path / "t.json", cameras())
    data = json.loads((tmp_path / "t.json").read_text())
    for frame in data["frames"]:
        frame["mask_path"] = "masks/a.png"
    (tmp_path / "t.json").write_text(json.dumps(data))
    (note,) = read_file(tmp_path / "t.json", "auto").notes
    assert "mask_path" in note and "masks:" in note
