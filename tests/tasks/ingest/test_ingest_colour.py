"""White balance and exposure from a surface of known colour: tinted pictures of a known scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from flows.plan.batch_plan import plan_batch
from flows.plan.validate import check_spec
from models.colour import GreyColour
from models.errors import DigitizeError, ReasonCode
from models.spec_yaml import load_spec
from models.stage import Stage
from tasks.ingest.colour import measure
from tasks.ingest.light import to_linear, to_srgb
from tasks.ingest.methods import photos
from tests.flows.test_inputs import batch
from tests.tasks.ingest.pictures import ingest, scene

LIGHT = (0.55, 0.9, 1.3)
"""What the lamp and the exposure make of each channel."""
CARD = (60, 40, 220, 160)
"""Left, top, right and bottom of the grey card."""


def shot(
    view: float = 0.0, light: tuple[float, ...] = LIGHT, card: float | None = 0.18, noise: float = 4.0
) -> Image.Image:
    """The wall with a grey card before it, under a lamp."""
    wall = to_linear(np.asarray(scene(view))) * 0.6
    if card is not None:
        wall[CARD[1] : CARD[3], CARD[0] : CARD[2]] = card
    picture = to_srgb(wall * light) + np.random.default_rng(int(view)).normal(0, noise, wall.shape)
    return Image.fromarray(picture.clip(0, 255).round().astype(np.uint8))


def grey(reflectance: float = 0.18, **patch: Any) -> GreyColour:
    marked = patch or {"box": (80, 60, 200, 140)}
    return GreyColour.model_validate({"grey": {"photo": "a.jpg", **marked}, "reflectance": reflectance})


@pytest.mark.parametrize(
    "marked", [{"box": (80, 60, 200, 140)}, {"pixels": ((90.5, 70.5), (150, 100), (210.2, 150.9))}]
)
@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), LIGHT, (1.6, 1.1, 0.5)])
def test_a_grey_patch_gives_balance_and_exposure(light: tuple[float, ...], marked: dict[str, Any]) -> None:
    found = measure(shot(light=light), grey(**marked), "a.jpg")
    wanted = 1 / np.array(light)
    assert found.white_balance == pytest.approx(wanted / wanted[1], rel=0.02)
    assert found.exposure == pytest.approx(wanted[1], rel=0.03)
    assert str(found).endswith("from grey patch in a.jpg")


def test_a_corrected_picture_has_the_true_colours() -> None:
    tinted, true = shot(noise=0.0), shot(light=(1.0, 1.0, 1.0), noise=0.0)
    found = np.asarray(measure(tinted, grey(), "a.jpg").apply(tinted)).astype(int)
    assert np.abs(found - np.asarray(true)).max() <= 4


def test_the_reflectance_of_the_card_counts() -> None:
    white = measure(shot(card=0.36), grey(0.36), "a.jpg")
    assert white.exposure == pytest.approx(1 / LIGHT[1], rel=0.03)


def test_values_beyond_white_are_clipped() -> None:
    found = measure(shot(light=(0.5, 0.5, 0.5)), grey(), "a.jpg")
    assert np.asarray(found.apply(Image.new("RGB", (2, 2), (230, 240, 250)))).tolist()[0][0] == [255, 255, 255]


REFUSED = {
    "over-exposed": (shot(card=0.9, light=(1.2, 1.2, 1.2)), grey(), "found it over-exposed"),
    "over-exposed in one channel": (shot(card=0.5, light=(0.5, 0.8, 2.2)), grey(), "found it over-exposed"),
    "too dark": (shot(card=0.002), grey(), "found it too dark"),
    "half beside the card": (shot(), grey(box=(150, 60, 330, 140)), "found it uneven"),
    "no grey surface": (shot(light=(9.0, 0.6, 0.6), card=0.05), grey(), "asks for the factors"),
    "beside the photo": (shot(), grey(box=(600, 60, 700, 140)), r"inside the photo \(640 x 480\), found \[700, 140\]"),
    "a pixel beside it": (shot(), grey(pixels=((20, 20), (20, -3))), r"found \[20, -3\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_patch_that_tells_nothing_is_refused(name: str) -> None:
    image, reference, words = REFUSED[name]
    with pytest.raises(DigitizeError, match=words) as caught:
        measure(image, reference, "a.jpg")
    assert caught.value.code is ReasonCode.COLOUR_UNSOLVED and caught.value.path == "a.jpg"


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({}, "either `pixels"),
        ({"pixels": [[1, 2]], "box": [0, 0, 5, 5]}, "either `pixels"),
        ({"box": [5, 0, 0, 5]}, r"expected \[left, top, right, bottom\], found"),
    ],
)
def test_a_patch_is_marked_in_one_way(patch: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GreyColour.model_validate({"grey": {"photo": "a.jpg", **patch}})


def save_shots(folder: Path, count: int = 4) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        shot(12.0 * k, card=0.18 if k == 1 else None, noise=0.0).save(
            folder / f"IMG_{k}.jpg", quality=97, subsampling=0
        )


def test_all_photos_of_a_capture_are_corrected(tmp_path: Path) -> None:
    save_shots(tmp_path / "in")
    marked = {"grey": {"photo": "IMG_1.jpg", "box": [80, 60, 200, 140]}}
    result, index, output = ingest(tmp_path / "in", tmp_path / "work", colour=marked)
    assert result.facts["colour"]["source"] == "grey patch in IMG_1.jpg"
    assert result.facts["colour"]["white_balance"] == pytest.approx((0.9 / 0.55, 1.0, 0.9 / 1.3), rel=0.04)
    assert result.facts["notes"][0].endswith("exposure 1.11 from grey patch in IMG_1.jpg")
    for k, photo in enumerate(index.photos):
        with Image.open(output / photo.file) as stored:
            true = shot(12.0 * k, (1.0, 1.0, 1.0), 0.18 if k == 1 else None, 0.0)
            assert np.abs(np.asarray(stored).astype(int) - np.asarray(true)).mean() < 3


def test_without_a_choice_nothing_changes(tmp_path: Path) -> None:
    save_shots(tmp_path / "in")
    result, index, output = ingest(tmp_path / "in", tmp_path / "work")
    assert "colour" not in result.facts and "notes" not in result.facts
    with Image.open(output / index.photos[0].file) as stored, Image.open(tmp_path / "in/IMG_0.jpg") as given:
        assert np.abs(np.asarray(stored).astype(int) - np.asarray(given)).mean() < 2


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        ("IMG_9.jpg", r"found 'IMG_9.jpg', which is none; the nearest are IMG_\d.jpg"),
        ("torn.jpg", "whole image file"),
        ("a.bmp", "type '.bmp'"),
    ],
)
def test_a_photo_that_cannot_tell_is_named(photo: str, words: str, tmp_path: Path) -> None:
    save_shots(tmp_path / "in")
    (tmp_path / "in/torn.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "in/a.bmp").write_bytes(b"x")
    with pytest.raises(DigitizeError, match=words) as caught:
        ingest(tmp_path / "in", tmp_path / "work", colour={"grey": {"photo": photo, "box": [1, 1, 9, 9]}})
    assert caught.value.code is ReasonCode.COLOUR_UNSOLVED and caught.value.path == photo


def test_the_choice_is_in_the_key_and_its_photo_is_checked(tmp_path: Path) -> None:
    save_shots(tmp_path / "pot")

    def options(**asset: Any) -> dict[str, Any]:
        (plan,) = plan_batch(load_spec(batch(tmp_path, asset=asset))).assets
        return plan.stages[Stage.INGEST].options

    marked = {"grey": {"photo": "IMG_1.jpg", "box": [80, 60, 200, 140]}}
    assert "colour" not in options() and photos.Options.model_validate(options()).colour is None
    assert options(colour=marked)["colour"]["grey"]["box"] == [80.0, 60.0, 200.0, 140.0]
    wrong = batch(tmp_path, asset={"colour": {"grey": {"photo": "IMG_1.JPEG", "box": [80, 60, 200, 140]}}})
    (mistake,) = check_spec(wrong).mistakes
    assert "IMG_1.jpg" in mistake.message and "assets[0].colour.grey.photo" in mistake.message
    assert plan_batch(load_spec(wrong)).unusable["pot"].code is ReasonCode.SPEC_INVALID
