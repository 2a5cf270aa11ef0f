"""The rules over a set, on planted defects."""

from __future__ import annotations

import io
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tasks.ingest.measure import grey, same_picture, sharpness, thumbnail
from tasks.ingest.select import Candidate, Rules, blurred, equal_pictures, odd_sizes, select
from tests.tasks.ingest.pictures import scene


def candidate(name: str, width: int = 4000, height: int = 3000, sharpness: float = 0.5, seed: int = 0) -> Candidate:
    """A photo with noise of its own as its thumbnail."""
    noise = np.random.default_rng(seed or crc32(name.encode())).integers(0, 256, (256, 256))
    return Candidate(
        name=name,
        stem=name,
        staged=Path(name),
        staged_mask=None,
        width=width // 4,
        height=height // 4,
        source_width=width,
        source_height=height,
        focal_px=None,
        device="||",
        sharpness=sharpness,
        thumb=noise.astype(np.uint8),
        sha256=name,
    )


def names(rejected: list) -> list[str]:
    return [photo.name for photo in rejected]


# Sizes


def test_orphan_thumbnails_and_crops_are_odd() -> None:
    photos = [candidate(f"p{i}") for i in range(6)] + [candidate(f"up{i}", 3000, 4000) for i in range(3)]
    photos += [candidate("thumb", 800, 600), candidate("crop", 2500, 2500), candidate("same", 4010, 2990)]
    assert names(odd_sizes(photos)) == ["thumb", "crop"]
    assert all("4000 x 3000" in photo.message for photo in odd_sizes(photos))


def test_two_cameras_are_fine() -> None:
    photos = [candidate(f"a{i}") for i in range(7)] + [candidate(f"b{i}", 6000, 4000) for i in range(3)]
    assert odd_sizes(photos) == []


def test_without_a_dominant_size_nobody_is_odd() -> None:
    assert odd_sizes([candidate(f"p{i}", 1000 + 100 * i, 900 + 50 * i) for i in range(9)]) == []
    assert odd_sizes([candidate("a"), candidate("b"), candidate("c"), candidate("d", 800, 600)]) == []
    assert odd_sizes([]) == []


# Duplicates


def encoded(image: Image.Image, quality: int = 95, scale: float = 1.0, **options: object) -> Image.Image:
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("quality", [40, 60, 90])
def test_encoding_anew_is_the_same_picture(quality: int) -> None:
    original = scene()
    assert same_picture(thumbnail(original), thumbnail(encoded(original, quality)), resized=False)


@pytest.mark.parametrize("scale", [0.6, 0.8, 1.5])
def test_scaling_is_the_same_picture(scale: float) -> None:
    original = scene(size=(1280, 960)).filter(ImageFilter.GaussianBlur(1.5))
    assert same_picture(thumbnail(original), thumbnail(encoded(original, 80, scale)), resized=True)


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("shift", [3, 6, 12, 40])
def test_neighbouring_views_are_other_pictures(shift: float, resized: bool) -> None:
    assert not same_picture(thumbnail(scene(0)), thumbnail(scene(shift)), resized)


def ball(degrees: float, radius: float) -> Image.Image:
    """A textured ball on a turntable before a plain backdrop, with the sensor's noise."""
    width, height = 800, 600
    texture = np.random.default_rng(1).integers(70, 190, (18, 72)).astype(np.uint8)
    surface = np.asarray(Image.fromarray(texture).resize((720, 180), Image.Resampling.BICUBIC)).astype(float)
    y, x = np.mgrid[:height, :width]
    u, v = (x - width / 2) / radius, (y - height / 2) / radius
    inside = u * u + v * v < 1
    longitude = np.degrees(np.arctan2(u, np.sqrt(np.clip(1 - u * u - v * v, 0, 1)))) + degrees
    latitude = np.degrees(np.arcsin(np.clip(v, -1, 1))) + 90
    colours = surface[np.clip(latitude.astype(int), 0, 179), (longitude % 360 * 2).astype(int) % 720]
    noise = np.random.default_rng(round(10 * degrees) + 2).normal(0, 2, (height, width))
    return Image.fromarray(np.clip(np.where(inside, colours, 200) + noise, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(("radius", "degrees"), [(60, 5), (60, 10), (150, 2), (150, 5)])
def test_turntable_before_a_plain_backdrop_gives_other_pictures(radius: float, degrees: float) -> None:
    """Nearly all pixels stay as they are; the object's few must count."""
    assert not same_picture(thumbnail(ball(0, radius)), thumbnail(ball(degrees, radius)), resized=False)
    assert same_picture(thumbnail(ball(0, radius)), thumbnail(encoded(ball(0, radius), 70)), resized=False)


def test_a_small_object_that_turns_before_a_textured_wall_gives_other_pictures() -> None:
    """The wall's gradients outweigh the object in the whole picture; the tiles see it."""
    views = []
    for degrees in (0, 10):
        wall = scene(size=(800, 600)).filter(ImageFilter.GaussianBlur(2))
        wall.paste(ball(degrees, 40).crop((365, 265, 435, 335)), (100, 100))
        views.append(encoded(wall, 90))
    assert not same_picture(thumbnail(views[0]), thumbnail(views[1]), resized=False)
    assert same_picture(thumbnail(views[0]), thumbnail(encoded(views[0], 60)), resized=False)


def test_of_equal_pictures_the_largest_stays() -> None:
    photos = [candidate("small", 2000, 1500, seed=5), candidate("large", seed=5), candidate("other", seed=6)]
    found = equal_pictures(photos)
    assert names(found) == ["small"]
    assert "large" in found[0].message
    assert names(equal_pictures([candidate("soft", sharpness=0.2, seed=5), candidate("sharp", seed=5)])) == ["soft"]
    assert names(equal_pictures([candidate("first", seed=5), candidate("second", seed=5)])) == ["second"]


# Sharpness


def smeared(image: Image.Image, width: int, step: tuple[int, int]) -> Image.Image:
    array = np.asarray(image)
    rolled = [np.roll(array, (step[0] * i // 2, step[1] * i // 2), (0, 1)) for i in range(width)]
    return Image.fromarray(np.mean(rolled, 0).astype(np.uint8))


def natural(width: int = 1280, height: int = 960) -> Image.Image:
    """Random phases with amplitudes that fall as 1 / frequency, the spectrum of photographs."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, frequency.shape)
    picture = np.fft.irfft2(np.exp(1j * phase) / np.maximum(frequency, 1 / width), s=(height, width))
    return Image.fromarray(np.clip(128 + 50 * picture / picture.std(), 0, 255).astype(np.uint8))


def test_sharpness_sees_blur_in_any_direction() -> None:
    photo = natural()
    sharp = sharpness(grey(photo))
    assert 0.5 < sharp < 1.5
    for step in ((2, 0), (0, 2), (2, 2), (2, -2), (1, 2)):
        assert sharpness(grey(smeared(photo, 14, step))) < 0.25 * sharp
    assert sharpness(grey(photo.filter(ImageFilter.GaussianBlur(4)))) < 0.1 * sharp


def test_sharpness_does_not_depend_on_contrast_or_exposure() -> None:
    photo = scene(size=(1280, 960))
    sharp = sharpness(grey(photo))
    pale = photo.point([200 + value * 55 // 255 for value in range(256)] * 3)
    over = photo.point([min(255, round(1.8 * value)) for value in range(256)] * 3)
    for changed in (pale, over):
        assert 0.5 * sharp < sharpness(grey(changed)) < 2 * sharp


def test_sharpness_is_of_the_sharp_part_of_a_close_up() -> None:
    photo = scene(size=(1280, 960))
    close_up = photo.filter(ImageFilter.GaussianBlur(8))
    close_up.paste(photo.crop((400, 300, 800, 600)), (400, 300))
    assert sharpness(grey(close_up)) > 0.5 * sharpness(grey(photo))


def test_flat_and_tiny_pictures_have_none() -> None:
    assert sharpness(grey(Image.new("L", (640, 480), 128))) == 0.0
    assert sharpness(grey(Image.new("L", (9, 9), 128))) == 0.0


def test_gross_outliers_alone_are_blurred() -> None:
    values = [0.6, 0.5, 0.7, 0.55, 0.2, 0.16, 0.05, 0.6, 0.65, 0.5]
    photos = [candidate(f"p{i}", sharpness=value) for i, value in enumerate(values)]
    assert names(blurred(photos, 0.25)) == ["p6"]
    assert names(blurred(photos, 0.5)) == ["p6", "p5"]
    assert blurred(photos, 0.0) == []
    assert blurred([], 0.25) == []


def test_a_uniformly_soft_set_stays() -> None:
    assert blurred([candidate(f"p{i}", sharpness=0.04) for i in range(12)], 0.25) == []


def test_never_more_than_a_fifth_is_blurred_and_the_worst_go_first() -> None:
    values = [0.6] * 6 + [0.05, 0.01, 0.04, 0.02]
    photos = [candidate(f"p{i}", sharpness=value) for i, value in enumerate(values)]
    assert names(blurred(photos, 0.25)) == ["p7", "p9"]


def test_nothing_is_blurred_above_the_floor() -> None:
    photos = [candidate(f"p{i}", sharpness=4.0) for i in range(9)] + [candidate("fair", sharpness=0.35)]
    assert blurred(photos, 0.25) == []


# All together


def test_select_keeps_the_order_and_can_be_switched_off() -> None:
    photos = [candidate(f"p{i}") for i in range(8)] + [candidate("thumb", 800, 600), candidate("p0 again", seed=3)]
    photos += [candidate("p0 once more", seed=3)]
    kept, rejected = select(photos, Rules(odd_sizes=True, duplicates=True, blur_ratio=0.25))
    assert [photo.name for photo in kept] == [*(f"p{i}" for i in range(8)), "p0 again"]
    assert names(list(rejected)) == ["thumb", "p0 once more"]
    kept, rejected = select(photos, Rules(odd_sizes=False, duplicates=False, blur_ratio=0.0))
    assert len(kept) == len(photos)
    assert rejected == ()
