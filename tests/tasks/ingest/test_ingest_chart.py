"""A colour chart that is found in a photo, or refused: rendered charts in perspective before clutter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from flows.plan.validate import check_spec
from models.colour import ChartColour, ColourReference
from models.errors import DigitizeError, ReasonCode
from tasks.ingest.chart import _PATCH, NAMES, find_chart, project, reference_light
from tasks.ingest.colour import measure
from tasks.ingest.light import to_srgb
from tests.flows.test_inputs import batch
from tests.tasks.ingest.charts import clutter, draw, photograph, placed
from tests.tasks.ingest.pictures import ingest

SIZE = (800, 600)
TINTED = (0.6, 0.85, 1.1)
CELLS = np.array([(column, row) for row in range(4) for column in range(6)], float)
SRGB = {
    # As the chart's maker and BabelColor publish them for sRGB, of the charts made before 2014
    **{"dark skin": (115, 82, 68), "light skin": (194, 150, 130), "foliage": (87, 108, 67), "orange": (214, 126, 44)},
    **{"moderate red": (193, 90, 99), "red": (175, 54, 60), "yellow": (231, 199, 31), "white 9.5": (243, 243, 242)},
    **{"neutral 8": (200, 200, 200), "neutral 6.5": (160, 160, 160), "neutral 5": (122, 122, 121)},
    **{"neutral 3.5": (85, 85, 85), "black 2": (52, 52, 52), "blue": (56, 61, 150), "green": (70, 148, 73)},
}


def chart(**more: Any) -> ChartColour:
    return ChartColour.model_validate({"chart": {"photo": "a.jpg", **more}})


def test_the_chart_has_its_published_colours() -> None:
    found = to_srgb(reference_light())
    for name, wanted in SRGB.items():
        number = NAMES.index(name)
        assert found[number] == pytest.approx(wanted, abs=18 if number < 18 else 8), name


PLACED = {
    "upright": placed((400, 300), 300),
    "small, 120 pixels wide": placed((380, 320), 120, 10),
    "turned": placed((400, 300), 250, 137),
    "on its head": placed((300, 250), 200, 180),
    "tilted": placed((420, 300), 260, -35, (0.4, -0.3)),
    "small and tilted": placed((250, 350), 135, 72, (-0.3, 0.3)),
    "large": placed((400, 300), 560, 4, (0.1, 0.1)),
}
LIGHTS: dict[str, dict[str, Any]] = {
    "white": {},
    "tinted": {"lamp": TINTED, "noise": 4.0},
    "warm and dark": {"lamp": (0.5, 0.38, 0.22), "noise": 2.0},
    "a contrasty camera": {"lamp": TINTED, "curve": 1.06},
}


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("name", PLACED)
def test_a_chart_is_found_and_tells_balance_and_exposure(name: str, light: str) -> None:
    image = photograph(draw(clutter(SIZE, 3), PLACED[name]), **LIGHTS[light])
    laid = find_chart(np.asarray(image), "a.jpg").homography
    step = np.linalg.norm(project(PLACED[name], CELLS[1:2]) - project(PLACED[name], CELLS[:1]))
    assert np.abs(project(laid, CELLS) - project(PLACED[name], CELLS)).max() < 0.1 * step
    found = measure(image, chart(), "a.jpg")
    lamp = np.array(LIGHTS[light].get("lamp", (1.0, 1.0, 1.0)))
    assert found.source == "chart in a.jpg"
    if light != "a contrasty camera":
        assert found.white_balance == pytest.approx(lamp[1] / lamp, rel=0.02)
        assert found.exposure == pytest.approx(1 / lamp[1], rel=0.03)


def test_a_photo_in_full_size(tmp_path: Path) -> None:
    laid = placed((1500, 1000), 140, 20, (0.2, 0.1))
    image = photograph(draw(clutter((2400, 1600), 5), laid), TINTED)
    found = find_chart(np.asarray(image), "a.jpg")
    assert np.abs(project(found.homography, CELLS) - project(laid, CELLS)).max() < 3


NO_CHART = {
    "clutter alone": lambda: clutter(SIZE, 8),
    "nothing at all": lambda: np.full((300, 400, 3), 0.3),
    "squares of other colours": lambda: draw(
        clutter(SIZE, 3), placed((400, 300), 300), np.random.default_rng(1).uniform(0.02, 0.9, (24, 3))
    ),
    "squares of one colour": lambda: draw(clutter(SIZE, 3), placed((400, 300), 300), np.full((24, 3), 0.4)),
    "the chart's colours in another order": lambda: draw(
        clutter(SIZE, 3), placed((400, 300), 300), np.random.default_rng(2).permutation(reference_light())
    ),
    "a mirrored chart": lambda: draw(clutter(SIZE, 3), placed((400, 300), 300))[:, ::-1],
    "a chart that leaves the photo": lambda: draw(clutter(SIZE, 3), placed((690, 300), 300, 20)),
}


@pytest.mark.parametrize("name", NO_CHART)
def test_what_is_no_chart_is_refused(name: str) -> None:
    with pytest.raises(DigitizeError, match="expected a colour chart of 24 patches") as caught:
        measure(photograph(NO_CHART[name]()), chart(), "a.jpg")
    assert caught.value.code is ReasonCode.COLOUR_UNSOLVED and caught.value.path == "a.jpg"
    assert "corners" in caught.value.hint


@pytest.mark.parametrize("seed", range(6))
def test_other_colours_are_never_taken_for_the_chart(seed: int) -> None:
    colours = np.random.default_rng(seed).uniform(0.0, 1.0, (24, 3)) ** (1.0 + seed / 3)
    with pytest.raises(DigitizeError, match="expected a colour chart of 24 patches"):
        measure(photograph(draw(clutter(SIZE, seed), placed((400, 300), 320), colours)), chart(), "a.jpg")


def corners_of(laid: np.ndarray) -> list[list[float]]:
    low, right, down = -_PATCH / 2, 5 + _PATCH / 2, 3 + _PATCH / 2
    return project(laid, np.array([(low, low), (right, low), (right, down), (low, down)])).round(1).tolist()


def test_marked_corners_do_where_it_is_not_found() -> None:
    laid = placed((400, 300), 60, 25, (0.2, 0.0))
    image = photograph(draw(clutter(SIZE, 3), laid), TINTED, noise=1.0, blur=0.4)
    with pytest.raises(DigitizeError):
        measure(image.resize((400, 300)), chart(), "a.jpg")
    found = measure(image, chart(corners=corners_of(laid)), "a.jpg")
    assert found.white_balance == pytest.approx(TINTED[1] / np.array(TINTED), rel=0.04)
    assert found.exposure == pytest.approx(1 / TINTED[1], rel=0.04)


def test_wrong_corners_are_refused() -> None:
    laid = placed((400, 300), 300)
    image = photograph(draw(clutter(SIZE, 3), laid))
    corners = corners_of(laid)
    with pytest.raises(DigitizeError, match="expected the colours of the chart between these corners"):
        measure(image, chart(corners=corners[2:] + corners[:2]), "a.jpg")
    with pytest.raises(DigitizeError, match="expected corners inside the photo"):
        measure(image, chart(corners=[[1, 1], [900, 1], [900, 500], [1, 500]]), "a.jpg")
    with pytest.raises(ValidationError, match="which is clockwise"):
        chart(corners=corners[::-1])


def test_an_over_exposed_or_dark_patch_is_named() -> None:
    scene = draw(clutter(SIZE, 3), placed((400, 300), 300))
    with pytest.raises(DigitizeError, match=r"patch neutral 6.5 of the chart .* over-exposed"):
        measure(photograph(scene, (2.6, 2.6, 2.6)), chart(corners=corners_of(placed((400, 300), 300))), "a.jpg")
    with pytest.raises(DigitizeError, match=r"patch neutral 5 of the chart .* too dark"):
        measure(
            photograph(scene, (0.015, 0.015, 0.015), 0.3), chart(corners=corners_of(placed((400, 300), 300))), "a.jpg"
        )


def test_an_over_exposed_white_patch_does_not_count() -> None:
    image = photograph(draw(clutter(SIZE, 3), placed((400, 300), 300)), (1.3, 1.2, 1.4))
    found = measure(image, chart(), "a.jpg")
    assert found.white_balance == pytest.approx((1.2 / 1.3, 1.0, 1.2 / 1.4), rel=0.02)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "grey"),
        ({"grey": {"photo": "a.jpg", "box": [0, 0, 9, 9]}, "chart": {"photo": "a.jpg"}}, "Extra inputs"),
        ({"chart": {"photo": "a.jpg", "kind": "passport"}}, "classic24"),
        ({"chart": {"photo": "a.jpg"}, "reflectance": 0.5}, "Extra inputs"),
    ],
)
def test_a_choice_is_a_patch_or_a_chart(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(ColourReference).validate_python(given)


def test_a_chart_in_one_photo_corrects_all(tmp_path: Path) -> None:
    (tmp_path / "pot").mkdir()
    for k in range(4):
        scene = clutter(SIZE, 20 + k, rectangles=60)
        scene = draw(scene, placed((400, 300), 300, 10)) if k == 2 else scene
        photograph(scene, TINTED).save(tmp_path / f"pot/IMG_{k}.jpg", quality=97, subsampling=0)
    result, index, _ = ingest(tmp_path / "pot", tmp_path / "work", colour={"chart": {"photo": "IMG_2.jpg"}})
    assert len(index.photos) == 4
    assert result.facts["notes"][0].endswith("from chart in IMG_2.jpg")
    assert result.facts["colour"]["exposure"] == pytest.approx(1 / TINTED[1], rel=0.03)
    (mistake,) = check_spec(batch(tmp_path, asset={"colour": {"chart": {"photo": "IMG_22.jpg"}}})).mistakes
    assert "assets[0].colour.chart.photo" in mistake.message and "IMG_2.jpg" in mistake.message
