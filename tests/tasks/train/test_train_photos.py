"""Pixels, rays and cells that nobody sees."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from models.camera import Camera, PosedImage, PoseSet, apply_similarity_to_c2w, matrix4
from models.errors import DigitizeError, ReasonCode
from models.fields.occupancy import cell_centres
from models.fields.render import field_rays
from tasks.sample.scenes import look_at
from tasks.train.inputs import open_photos, settle_masks
from tasks.train.pixel_bank import Photo, PixelBank, cameras_in_field, load_bank, read_photo
from tasks.train.stream import TURN_EVERY, StreamBank
from tasks.train.visibility import hidden_cells
from tests.models.fields.analytic import SphereField
from tests.tasks.train.train_capture import train_context, write_capture

WORLD_FROM_FIELD = np.array([[0.0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]])


def write_photos(folder: Path, sizes: list[tuple[int, int]], masks: bool = False) -> tuple[PosedImage, ...]:
    rng = np.random.default_rng(0)
    images = []
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(rng.choice([0, 255], (height, width)).astype(np.uint8)).save(folder / f"{number}m.png")
        camera = Camera(width=width, height=height, fx=30.0, fy=32.0, cx=width / 2 + 1, cy=height / 2 - 1)
        pose = matrix4(look_at(np.array([4.0 + number, 1.0, 0.5])))
        mask = f"{number}m.png" if masks else None
        images.append(PosedImage(name=str(number), camera=camera, c2w=pose, image=f"{number}.png", mask=mask))
    return tuple(images)


@pytest.mark.parametrize("masks", [False, True])
def test_every_pixel_has_its_colour_mask_and_ray(tmp_path: Path, masks: bool) -> None:
    images = write_photos(tmp_path, [(7, 5), (4, 9)], masks)
    bank = load_bank(images, tmp_path.joinpath, WORLD_FROM_FIELD, 1.0, "cpu", lambda: None)
    assert (bank.photos, bank.pixels, bank.masked) == (2, 35 + 36, masks)
    pixels = bank.take(torch.arange(bank.pixels))
    start = 0
    for number, image in enumerate(images):
        part = slice(start, start + image.camera.width * image.camera.height)
        start = part.stop
        with Image.open(tmp_path / str(image.image)) as photo:
            assert np.array_equal(np.round(pixels.rgb[part].numpy() * 255), np.asarray(photo).reshape(-1, 3))
        if masks:
            with Image.open(tmp_path / str(image.mask)) as mask:
                assert np.array_equal(pixels.used[part].numpy(), np.asarray(mask).ravel() == 255)
        origins, directions = field_rays(image.camera, image.c2w, WORLD_FROM_FIELD)
        assert np.allclose(pixels.rays_o[part], origins, atol=1e-5)
        assert np.allclose(pixels.rays_d[part], directions, atol=1e-5)
        assert bool((pixels.photo[part] == number).all())


def test_photos_are_halved_to_fit(tmp_path: Path) -> None:
    images = write_photos(tmp_path, [(64, 48)])
    bank = load_bank(images, tmp_path.joinpath, np.eye(4), 4e-9 * 32 * 24, "cpu", lambda: None)
    assert bank.pixels == 32 * 24


def streamed(folder: Path, images: tuple[PosedImage, ...], photos: float) -> StreamBank:
    memory_gb = photos * 4e-9 * images[0].camera.width * images[0].camera.height
    cameras, c2f = cameras_in_field(images, WORLD_FROM_FIELD)
    masked = images[0].mask is not None

    def read(number: int) -> Photo:
        return read_photo(images[number], cameras[number], folder.joinpath)

    return StreamBank(cameras, c2f, read, masked, memory_gb, 3, "cpu")


@pytest.mark.parametrize("masks", [False, True])
def test_a_stream_shows_the_same_pixels_as_memory(tmp_path: Path, masks: bool) -> None:
    images = write_photos(tmp_path, [(16, 12)] * 7, masks)
    whole = load_bank(images, tmp_path.joinpath, WORLD_FROM_FIELD, 1.0, "cpu", lambda: None)
    bank = streamed(tmp_path, images, 3)
    assert (bank.window, bank.pixels, bank.masked) == (3, whole.pixels, masks)
    seen = set()
    for step in range(0, 9 * TURN_EVERY, 5):
        bank.turn_to(step)
        assert int(bank.resident.sum()) == 3
        index = bank.draw(200, torch.Generator().manual_seed(step))
        for ours, theirs in zip(bank.take(index), whole.take(index), strict=True):
            assert torch.equal(ours, theirs)
        seen |= set(bank.take(index).photo.tolist())
    assert seen == set(range(7))
    sample = bank.survey(100, torch.Generator().manual_seed(0))
    for ours, theirs in zip(sample, whole.take(sample.number), strict=True):
        assert torch.equal(ours, theirs)
    bank.close()


def test_the_window_is_a_matter_of_the_step_alone(tmp_path: Path) -> None:
    images = write_photos(tmp_path, [(8, 6), (6, 8), (8, 6), (5, 5), (8, 6)])
    walked, jumped = streamed(tmp_path, images, 2), streamed(tmp_path, images, 2)
    for step in range(12 * TURN_EVERY):
        walked.turn_to(step)
    for step in (200, 7 * TURN_EVERY, 0, 12 * TURN_EVERY - 1):
        jumped.turn_to(step)
    draws = [bank.draw(500, torch.Generator().manual_seed(1)) for bank in (walked, jumped)]
    assert torch.equal(*draws)
    assert torch.equal(walked.take(draws[0]).rgb, jumped.take(draws[0]).rgb)
    walked.close()
    jumped.close()


def test_photos_that_fit_are_not_streamed(tmp_path: Path) -> None:
    store = write_capture(tmp_path, 5, 16)
    context = train_context(store, tmp_path)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    small = 1e-9 * 16 * 16
    cases: list[tuple[Literal["auto", "memory", "stream"], float, type]] = [
        ("auto", 1.0, PixelBank),
        ("auto", small, StreamBank),
        ("memory", small, PixelBank),
        ("stream", 1.0, StreamBank),
    ]
    for where, memory_gb, kind in cases:
        assert type(open_photos(poses, "train", where, memory_gb, context)) is kind


def test_wrong_pictures_are_refused(tmp_path: Path) -> None:
    images = write_photos(tmp_path, [(8, 8)])
    Image.new("RGB", (9, 8)).save(tmp_path / "0.png")
    with pytest.raises(DigitizeError) as wrong:
        load_bank(images, tmp_path.joinpath, np.eye(4), 1.0, "cpu", lambda: None)
    assert wrong.value.code is ReasonCode.WRONG_SIZE
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(DigitizeError) as damaged:
        load_bank(images, tmp_path.joinpath, np.eye(4), 1.0, "cpu", lambda: None)
    assert damaged.value.code is ReasonCode.UNDECODABLE


def test_cells_near_cameras_and_out_of_sight_stay_empty() -> None:
    camera = Camera(width=64, height=64, fx=200.0, fy=200.0, cx=32.0, cy=32.0)
    poses = [apply_similarity_to_c2w(np.eye(4), look_at(np.array([x, 0.0, 0.0]))) for x in (3.0, -3.0, 0.9)]
    centres = cell_centres(16).double().numpy()
    hidden = hidden_cells(centres, [camera] * 3, poses, minimum_views=2, near=0.3)
    distance = np.linalg.norm(centres - [0.9, 0, 0], axis=1)
    assert hidden[distance < 0.3].all()
    assert not hidden[np.linalg.norm(centres, axis=1) < 0.3].any()
    assert hidden[np.abs(centres[:, 1]) > 0.99 - 1 / 16].all()


def test_a_rendered_sphere_is_where_it_should_be() -> None:
    from models.fields.render import render_image

    camera = Camera(width=41, height=31, fx=60.0, fy=60.0, cx=20.5, cy=15.5)
    world_from_field = np.diag([2.0, 2.0, 2.0, 1.0])
    world_from_field[:3, 3] = [1.0, 2.0, 3.0]
    c2w = look_at(np.array([7.0, 2.0, 3.0]), (1.0, 2.0, 3.0))
    for kind in ("density", "sdf"):
        picture = render_image(SphereField(0.5, quantity=kind), camera, c2w, world_from_field)
        assert picture.depth[15, 20] == pytest.approx(5.0, abs=0.05)
        assert picture.opacity[15, 20] == pytest.approx(1.0, abs=0.01)
        assert not np.isfinite(picture.depth[0, 0])
        share = float((picture.opacity > 0.5).mean())
        radius = 60.0 * np.tan(np.arcsin(1.0 / 6.0))
        assert share == pytest.approx(np.pi * radius**2 / (41 * 31), rel=0.08)


def test_the_method_imports_without_torch() -> None:
    importlib.import_module("tasks.train.methods.hash_density")
    code = "import sys, tasks.train.methods.hash_density; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_presets_and_estimates() -> None:
    method = importlib.import_module("tasks.train.methods.hash_density")
    options = {name: method.Options.model_validate(values) for name, values in method.PRESETS.items()}
    expected = [method.estimate(options[name], 48, 0.3) for name in ("preview", "standard", "high")]
    assert expected[0].seconds < 400
    assert expected[0].seconds < expected[1].seconds < expected[2].seconds
    for name, each in zip(options, expected, strict=True):
        assert method.resources(options[name]).memory_gb >= each.memory_gb
        assert method.resources(options[name]).timeout_s > each.seconds


@pytest.mark.parametrize("bad", [{"ray_steps": 100}, {"base_resolution": 600}, {"steps": 0}, {"no_such": 1}])
def test_options_that_cannot_work_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        importlib.import_module("tasks.train.methods.hash_density").Options.model_validate(bad)


def test_automatic_masks_are_taken_as_outlines_or_not_at_all(tmp_path: Path) -> None:
    """Drawn masks leave pixels out; automatic ones err, so that photos are learned whole unless they mean emptiness."""
    store = write_capture(tmp_path, views=8, size=24, masks=True)
    drawn = PoseSet.model_validate_json((store.root / "pose" / "poses.json").read_bytes())
    automatic = drawn.model_copy(update={"mask_tolerance_px": 2.0})
    assert all(image.mask for image in drawn.images)
    for asked, settled in (("auto", "ignore"), ("ignore", "ignore"), ("empty", "empty")):
        assert settle_masks(drawn, asked) == (drawn, settled)
    assert settle_masks(automatic, "auto") == settle_masks(automatic, "empty") == (automatic, "empty")
    loose = drawn.model_copy(update={"mask_tolerance_px": 4.0})
    assert settle_masks(loose, "auto") == settle_masks(loose, "ignore") and settle_masks(loose, "auto")[1] == "ignore"
    images = (drawn.images[0].model_copy(update={"mask": None}), *drawn.images[1:])
    fewer, _ = settle_masks(automatic.model_copy(update={"images": images}), "auto")
    assert fewer.images == automatic.images[1:]  # its background would be taken for the object
    whole, settled = settle_masks(automatic, "ignore")
    assert settled == "ignore" and not any(image.mask for image in whole.images)
    assert [image.image for image in whole.images] == [image.image for image in drawn.images]
