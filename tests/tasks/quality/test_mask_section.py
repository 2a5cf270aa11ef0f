"""The report shows masks: outlines on the photos, the gate's figures, and why there are none."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.camera import PoseSet
from tasks.quality.mask_section import MaskSection, mask_section
from tasks.quality.pictures import OUTLINE, outlined
from tests.tasks.quality.capture import Capture, textured_ball
from tests.tasks.quality.test_quality_stage import Page, judged

FACTS: dict[str, Any] = {
    "method": "saliency",
    "scene_mode": False,
    "reasons": [],
    "notes": ["by depth: <b>too little</b>"],
    "unanimous_share": 0.9912,
    "points_inside": 1500,
    "hull_closed": True,
    "hull_iou_median": 0.97,
    "mask_tolerance_px": 2.0,
    "carved": [],
    "dropped": ["p01.jpg"],
    "photos": [
        {"name": "p00.jpg", "state": "found", "undecided": 0.01, "covered": 0.25},
        {"name": "p01.jpg", "state": "dropped", "undecided": 0.4, "covered": 0.5},
    ],
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    ball = textured_ball()
    return Capture(tmp_path_factory.mktemp("masked"), ball, ball, with_masks=True).build()


def section(capture: Capture, facts: dict[str, Any], **options: Any) -> MaskSection | None:
    poses = PoseSet.model_validate_json((capture.folder("pose") / "poses.json").read_bytes())
    return mask_section(facts, options, poses, 96, capture.context())


def test_an_outline_runs_along_the_mask_and_nowhere_else() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    picture = np.full((60, 80, 3), 0.25, np.float32)
    drawn = (outlined(picture, mask) == OUTLINE).all(-1)
    assert drawn[19:21, 30:60].all() and drawn[20:40, 59:61].all()
    assert not drawn[22:38, 33:57].any() and not drawn[:18].any() and not drawn[:, 62:].any()
    whole = outlined(picture, np.ones_like(mask))
    assert np.array_equal(whole, picture)  # what goes on beyond the photo has no outline at its edge


def test_the_report_shows_outlines_figures_and_each_photo(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (capture.folder("pose") / "mask.json").write_text(json.dumps(FACTS))
    (capture.folder("pose") / "dense.json").write_text(json.dumps({"masks_refined": 12, "masks_alike": 0.9713}))
    page = judged(monkeypatch, capture, truth=False)[2]
    Page(page)
    (part,) = re.findall(r"<h2>Masks</h2>.*?</section>", page, re.S)
    text = html.unescape(part)
    assert "Dense stereo refined those of 12 photos; on average they overlap with those of before by 97.1%" in text
    assert "found by the network U²-Net-p" in text and "not believed" in text and "25.0%" in text
    assert "97 %" in text and "1,500" in text and "2 px" in text and "&lt;b&gt;too little" in part
    assert 'src="http' not in page and 'href="http' not in page
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', part)
    assert len(pictures) == 8
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        colours = np.asarray(picture.convert("RGB")).astype(int)
    orange = np.abs(colours - np.round(255 * OUTLINE)).max(-1) < 90
    assert 20 < orange.sum() < 0.2 * orange.size


def test_bounds_come_from_the_options_that_were_asked_for(capture: Capture) -> None:
    found = section(capture, FACTS, min_unanimous=0.98, min_points=50)
    assert found is not None
    rows = {name: (bound, value) for name, bound, value, _ in found.figures}
    assert rows["unanimous_share"] == ("≥ 98 %", "99.12 %") and rows["points_inside"] == ("≥ 50", "1,500")
    assert rows["hull_closed"] == ("–", "yes") and "undecided_median" not in rows
    carved = section(capture, FACTS | {"carved": ["p00.jpg"]}, min_unanimous=0.98)
    assert carved is not None and "carved by depth" in carved.summary
    assert {bound for _, bound, _, _ in carved.figures} == {"–"}  # the network's bounds are not those of depth
    given = section(capture, FACTS | {"network": "ab" * 32})
    assert given is not None and "a given network, sha256 abababababab" in given.summary


def test_a_scene_says_why_and_shows_no_outline(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "hull_iou_median: expected at least 0.85, found 0.4"
    (capture.folder("pose") / "mask.json").write_text(json.dumps(FACTS | {"scene_mode": True, "reasons": [reason]}))
    page = judged(monkeypatch, capture, truth=False)[2]
    (part,) = re.findall(r"<h2>Masks</h2>.*?</section>", page, re.S)
    assert "None: a scene" in part and reason in part and "<img" not in part


def test_given_masks_are_shown_and_captures_without_any_have_no_section(capture: Capture, tmp_path: Path) -> None:
    given = section(capture, {})
    assert given is not None and given.summary == "They came with the photos."
    assert len(given.pictures) == 8 and given.figures == ()
    ball = textured_ball()
    assert section(Capture(tmp_path, ball, ball).build(), {}) is None
