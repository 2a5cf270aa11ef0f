import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.camera import PoseSet
from models.errors import DigitizeError, ReasonCode
from models.ladder import SteppedDown
from models.mesh.mesh import Mesh
from models.quality import DEFAULT_GATES, Gate, Metric, Verdict
from models.results import Done, StageResult
from models.scale import MeasuredScale
from models.spec import AssetSpec, BatchSpec, Scale
from models.stage import Stage
from models.verdict import Judgement, gates_of, judge
from tasks.publish.report import render_report
from tasks.quality import task
from tasks.quality.base import QualityReport
from tasks.quality.masks import region_mask, true_camera
from tasks.quality.mesh_checks import check_mesh
from tasks.quality.published import read_published
from tasks.quality.views import View
from tasks.silhouettes.outlines import dilate, points_above_support
from tests.tasks.quality.capture import (
    SUPPORT,
    Capture,
    box,
    joined,
    look_at,
    plane,
    ring,
    sphere,
    textured_ball,
    use_field,
    write_glb,
)

QUICK = {
    "samples": 5000,
    "hull_resolution": 64,
    "hull_edge_px": 160,
    "preview_px": 96,
    "report_edge_px": 96,
    "still_px": 32,
    "stereo_views": 0,
}
TURNED = np.array([[2.0, 0, 0, 3], [0, 0, -2.0, 1], [0, 2.0, 0, 0], [0, 0, 0, 1]])


PLACED = StageResult(
    metrics=tuple(
        Metric(name=name, value=value, unit="photos" if name == "registered_images" else "")
        for name, value in {"registered_share": 1.0, "registered_images": 8.0, "reprojection_error_px": 0.4}.items()
    )
)
"""What the pose stage measured."""


def judged(
    monkeypatch: pytest.MonkeyPatch,
    capture: Capture,
    truth: bool = True,
    gates: tuple[Gate, ...] = DEFAULT_GATES,
    stepped_down: dict[Stage, SteppedDown] | None = None,
    **options: Any,
) -> tuple[Judgement, QualityReport, str]:
    """What is made of an asset, its figures, and the report as it is published."""
    use_field(monkeypatch, capture.truth, capture.similarity)
    context = capture.context({**QUICK, **options}, truth=truth)
    result = task.run(context.request, context)
    report = QualityReport.model_validate_json((context.output / "quality.json").read_bytes())
    assert result.metrics == report.metrics and result.facts["metrics"] == report.values
    dones = [done_of(stage, each) for stage, each in ((Stage.POSE, PLACED), (Stage.QUALITY, result))]
    given = BatchSpec(name="b", assets=(AssetSpec(id="a", photos="p", scale=Scale(), truth="t" if truth else None),))
    if gates is DEFAULT_GATES:
        gates = gates_of(given, given.assets[0])
    judgement = judge([each.result for each in dones], gates)
    poses = PoseSet.model_validate_json((capture.folder("pose") / "poses.json").read_bytes())
    page = (context.output / "figures.html").read_text()
    scale = MeasuredScale(metres_per_unit=1.0 if poses.units == "metre" else None)
    return judgement, report, render_report(page, judgement, dones, scale, report.mesh.extent, stepped_down or {})


def done_of(stage: Stage, result: StageResult) -> Done:
    named = {"key": "k", "asset": "a", "stage": stage, "method": "m", "version": "1", "attempt": "one", "digest": "d"}
    costs = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_gb": 0.1}
    return Done.model_validate({**named, **costs, "options": {}, "seed": 0, "files": (), "result": result})


class Page(HTMLParser):
    """Checks that elements nest and collects what is needed to judge the page."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


Judged = tuple[Capture, Judgement, QualityReport, str]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A perfect mesh in a capture that is turned, scaled and moved against its truth."""
    ball = textured_ball()
    capture = Capture(tmp_path_factory.mktemp("good"), ball, ball, similarity=TURNED).build()
    with pytest.MonkeyPatch.context() as monkeypatch:
        return (capture, *judged(monkeypatch, capture))


def test_a_good_asset_is_accepted_in_any_frame(good: Judged) -> None:
    capture, result, report, page = good
    values = report.values
    assert result.verdict is Verdict.ACCEPT and result.reasons == ()
    assert values["fscore_0_25pct"] == 1.0 and values["chamfer"] < 1e-5
    assert values["fscore_hull"] < 1.0 and values["camera_centre_error"] < 1e-6
    assert values["psnr_mesh"] == pytest.approx(values["psnr_model"], abs=0.5)
    assert values["psnr_mesh"] > 22 and 0.85 < values["coverage_mesh"] < 1.0
    assert values["watertight"] == 1.0
    assert all(row.mask == "true_silhouette" for row in report.views)
    with Image.open(capture.root / "output" / "preview.jpg") as preview:
        assert preview.size == (96, 96) and preview.format == "JPEG"
    assert "Accepted" in page and len(page) < 6e6


def test_the_field_may_be_drawn_smaller(good: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = good[0].with_prediction(tmp_path, good[0].prediction)
    used = {"samples_per_step": 16384}
    lowered = SteppedDown.between(ReasonCode.OUT_OF_MEMORY, {"samples_per_step": 32768}, used)
    _, report, page = judged(monkeypatch, capture, model_edge_px=120, stepped_down={Stage.TRAIN: lowered})
    said = "smaller settings than asked for: train samples_per_step 32768 -> 16384 (out_of_memory)"
    assert said in html.unescape(page) and said not in html.unescape(good[3])
    assert report.values["psnr_mesh"] == good[2].values["psnr_mesh"]
    assert report.values["psnr_model"] == pytest.approx(good[2].values["psnr_model"], abs=1.5)
    assert report.values["psnr_model"] != good[2].values["psnr_model"]
    about = {metric.name: metric.about for metric in report.metrics}
    assert "at most 120 px" in about["psnr_model"] and "at most 800 px" in about["psnr_mesh"]


def test_a_hole_costs_likeness_and_is_named(good: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = good[0].truth
    keep = np.abs(ball.triangles.mean(1)[:, :2]).max(1) < 0.75
    pierced = Mesh(ball.vertices, ball.faces[keep], uv=ball.uv, texture=ball.texture)
    result, report, _ = judged(monkeypatch, good[0].with_prediction(tmp_path, pierced))
    values, whole = report.values, good[2].values
    assert values["boundary_edges"] > 0 and values["watertight"] == 0.0
    assert values["mesh_gap"] > whole["mesh_gap"] + 0.5  # through the hole the other side shows
    assert values["psnr_mesh"] < whole["psnr_mesh"] - 0.5 and values["ssim_mesh"] < whole["ssim_mesh"]
    assert values["psnr_model"] == pytest.approx(whole["psnr_model"], abs=1e-9)
    assert values["recall_1pct"] < 0.95 and result.verdict is Verdict.REVIEW
    assert any(reason.message == "review: expected watertight >= 1, found 0" for reason in result.reasons)


def test_a_wrong_shape_is_rejected_with_the_numbers(
    good: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = good[0].truth
    small = Mesh(ball.vertices * 0.6, ball.faces, uv=ball.uv, texture=ball.texture)
    result, _, page = judged(monkeypatch, good[0].with_prediction(tmp_path, small))
    assert result.verdict is Verdict.REJECT
    shape = [reason for reason in result.reasons if reason.code is ReasonCode.LOW_GEOMETRY]
    assert re.search(r"reject: expected fscore_1pct >= 0.5, found 0", shape[-1].message)
    assert re.search(r"review: expected mesh_gap <= 3 dB, found \d", shape[0].message)
    assert re.search(r"review: expected coverage_mesh >= 0.4, found 0", shape[1].message)
    assert shape[-1].hint and shape[-1].hint in page
    assert "Rejected" in page


def test_gates_are_given_and_a_large_mesh_is_thinned_out_for_the_page_alone(
    good: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(metric="registered_images", at_least=20, otherwise=Verdict.REVIEW, reason=ReasonCode.TOO_FEW_REGISTERED)
    capture = good[0].with_prediction(tmp_path, good[0].prediction)
    result, report, text = judged(monkeypatch, capture, gates=(gate,), viewer_faces=2000)
    assert result.verdict is Verdict.REVIEW and len(result.outcomes) == 1
    assert result.reasons[0].message == "review: expected registered_images >= 20 photos, found 8 photos"
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["faces"] <= 2000 and "colors" in data and "texture" not in data
    assert report.mesh.faces == len(capture.prediction.faces) and "thinned out for this page" in text


def test_without_truth_the_given_mask_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball()
    capture = Capture(tmp_path, ball, ball, similarity=TURNED, with_masks=True).build()
    _, report, _ = judged(monkeypatch, capture, truth=False)
    assert {row.mask for row in report.views} == {"given_mask"}
    assert report.geometry is None and "fscore_1pct" not in report.values and "psnr_model_full" not in report.values
    assert report.values["psnr_mesh"] > 26 and report.values["coverage_mesh"] > 0.99


def test_without_masks_the_projected_region_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball()
    capture = Capture(tmp_path, ball, ball).build()
    _, report, _ = judged(monkeypatch, capture, truth=False)
    assert {row.mask for row in report.views} == {"region"}
    assert 0.2 < report.values["coverage_mesh"] < 0.8


def test_a_support_cut_on_request_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball()
    capture = Capture(tmp_path, ball, ball, similarity=TURNED, surface_facts={"support_cut": True}).build()
    _, report, page = judged(monkeypatch, capture, truth=False)
    assert {row.mask for row in report.views} == {"region_above_support"}
    assert report.values["coverage_mesh"] > 0.85
    about = next(metric.about for metric in report.metrics if metric.name == "psnr_mesh")
    assert "above the support plane" in about and "above the support plane" in page


def test_a_cut_support_without_points_falls_back_to_the_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball(16, 32)
    capture = Capture(tmp_path, ball, ball, surface_facts={"support_cut": True}, with_points=False).build()
    assert {row.mask for row in judged(monkeypatch, capture, truth=False)[1].views} == {"region"}


def test_without_held_out_photos_a_person_has_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball(16, 32)
    cameras = tuple(image.model_copy(update={"split": "train"}) for image in ring(8))
    result, report, page = judged(monkeypatch, Capture(tmp_path, ball, ball, cameras=cameras).build())
    assert result.verdict is Verdict.REVIEW and {each.code for each in result.reasons} == {ReasonCode.NOT_MEASURED}
    assert "review: expected psnr_mesh_corrected to be measured, found no value" in html.unescape(page)
    assert report.views == () and "Held-out photos</h2>" not in page


def test_the_report_is_one_valid_page_that_needs_nothing_else(good: Judged) -> None:
    capture, _, _, text = good
    page = Page(text)
    assert "http://" not in text and "https://" not in text and "@import" not in text
    for tag, attributes in page.tags:
        source = attributes.get("src") or attributes.get("href") or ""
        assert source.startswith(("data:", "#")) or not source
        if tag == "img":
            assert attributes.get("alt")
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert [tag for tag, _ in page.tags].count("h1") == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["faces"] == len(capture.prediction.faces) and data["texture"].startswith("data:image/jpeg")
    assert "dark <b>.jpg" in "".join(page.text)  # the rejected photo, escaped
    assert "expected sharpness 0.1" in text
    assert "150,000" in text and "4096 px" in text and "2,000,000" in text
    assert "tiers.high.faces" not in text


def test_hostile_names_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball(16, 32)
    hostile = "<script>alert(1)</script>"
    cameras = tuple(image.model_copy(update={"name": f"x<img onerror=a>{k}"}) for k, image in enumerate(ring(8)))
    capture = Capture(tmp_path, ball, ball, cameras=cameras, asset=hostile)
    capture.surface_facts = {"note": "</script><script>alert(2)</script>"}
    text = judged(monkeypatch, capture.build())[2]
    page = Page(text)
    assert hostile not in text and "alert(2)</script>" not in text and "<img onerror" not in text
    assert hostile in "".join(page.text)
    assert sum(tag == "script" for tag, _ in page.tags) == 2


@pytest.mark.parametrize("name", ["mesh.ply", "cameras.json"])
def test_an_incomplete_truth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ball = textured_ball(16, 32)
    capture = Capture(tmp_path, ball, ball).build()
    (capture.folder("truth") / name).unlink()
    with pytest.raises(DigitizeError, match=name) as caught:
        judged(monkeypatch, capture)
    assert caught.value.code is ReasonCode.TRUTH_INVALID


def test_cancelling_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball = textured_ball(16, 32)
    capture = Capture(tmp_path, ball, ball).build()
    use_field(monkeypatch, ball, np.eye(4))
    context = capture.context(QUICK)
    context.cancelled = lambda: True
    with pytest.raises(DigitizeError) as caught:
        task.run(context.request, context)
    assert caught.value.code is ReasonCode.CANCELLED


# ---- parts


def test_the_published_mesh_is_read_back_in_the_capture_frame(tmp_path: Path) -> None:
    ball, up = textured_ball(12, 24), (0.0, 0.6, 0.8)
    write_glb(tmp_path / "asset.glb", ball, up)
    back = read_published(tmp_path / "asset.glb", up)
    assert np.allclose(back.vertices, ball.vertices, atol=1e-6) and np.array_equal(back.faces, ball.faces)
    assert back.uv is not None and np.allclose(back.uv, ball.uv, atol=1e-6)
    assert np.array_equal(back.texture, ball.texture)


def test_a_file_that_is_no_mesh_is_refused(tmp_path: Path) -> None:
    (tmp_path / "asset.glb").write_bytes(b"not a mesh")
    with pytest.raises(DigitizeError) as caught:
        read_published(tmp_path / "asset.glb", (0.0, 0.0, 1.0))
    assert caught.value.code is ReasonCode.UNDECODABLE


REGION = tuple(tuple(row) for row in np.diag([1.5, 1.5, 1.5, 1.0]).tolist())


def test_mesh_checks_count_by_position_not_by_seam() -> None:
    found = check_mesh(textured_ball(), REGION, (0.0, 0.0, 1.0))  # type: ignore[arg-type]
    assert found.watertight and found.components == 1 and found.finite and found.outside_share == 0.0
    assert found.degenerate_faces == 0 and found.extent[1] == pytest.approx(2.0)


def test_mesh_checks_find_each_defect() -> None:
    ball = sphere(2)
    up = (0.0, 0.0, 1.0)
    two = joined(ball, box((1.6, 1.6, 1.6), (2, 2, 2)), plane(0.1, 1.2, cells=1))
    found = check_mesh(two, REGION, up)  # type: ignore[arg-type]
    assert found.components == 3 and found.boundary_edges == 4 and found.outside_share > 0 and not found.watertight
    fin = Mesh(
        np.concatenate([ball.vertices, [[0, 0, 3.0]]]), np.concatenate([ball.faces, [[*ball.faces[0, :2], 162]]])
    )
    found = check_mesh(fin, REGION, up)  # type: ignore[arg-type]
    assert found.non_manifold_edges == 1 and found.boundary_edges == 2
    flat = Mesh(ball.vertices, np.concatenate([ball.faces, [[0, 0, 1]]]))
    assert check_mesh(flat, REGION, up).degenerate_faces == 1  # type: ignore[arg-type]
    broken = Mesh(np.where(ball.vertices == ball.vertices[0], np.nan, ball.vertices), ball.faces)
    assert not check_mesh(broken, REGION, up).finite  # type: ignore[arg-type]


def test_dilation_is_a_share_of_the_size() -> None:
    mask = np.zeros((200, 200), bool)
    mask[50:150, 70:120] = True
    wide = dilate(mask)
    v, u = np.nonzero(wide)
    assert (v.min(), v.max(), u.min(), u.max()) == (48, 151, 68, 121)


def test_the_region_is_the_cube_seen_and_nothing_behind_the_camera() -> None:
    image = ring(1, heights=(0.0,))[0]
    mask = region_mask(image.camera, image.c2w, REGION)  # type: ignore[arg-type]
    u = np.flatnonzero(mask.any(0))
    half = image.camera.fx * 1.5 / (4.0 - 1.5)  # its front face
    assert u.max() - u.min() + 1 == pytest.approx(min(2 * half, image.camera.width), abs=2)
    away = look_at(np.array([4.0, 0, 0]), target=(8.0, 0, 0))
    assert not region_mask(image.camera, away, REGION).any()  # type: ignore[arg-type]


def test_sparse_points_on_the_support_do_not_widen_the_mask() -> None:
    ball = textured_ball()
    cloud = np.concatenate([ball.vertices, plane(1.4, -1.0, cells=40).vertices])
    hull = points_above_support(cloud, REGION, SUPPORT)  # type: ignore[arg-type]
    assert hull is not None and np.abs(hull.vertices[:, :2]).max() < 1.01 and hull.vertices[:, 2].min() > -0.98
    assert points_above_support(cloud[:20], REGION, SUPPORT) is None  # type: ignore[arg-type]


def test_the_true_camera_follows_resize_and_crop() -> None:
    true = ring(1)[0]
    estimated = true.camera.resized(80, 60).model_copy(update={"width": 76, "height": 58, "cx": 38.0, "cy": 29.0})
    found = true_camera(true, (80, 60), estimated)
    assert (found.width, found.height, found.cx, found.cy, found.fx) == (76, 58, 38.0, 29.0, true.camera.fx / 2)


def test_a_missed_pixel_is_an_error_and_the_mask_decides() -> None:
    photo = np.ones((8, 8, 3), np.float32)
    mesh = photo.copy()
    mesh[:4] = 0.5
    mask = np.ones((8, 8), bool)
    covered = mesh[..., 0] > 0.9
    row = View("a", photo, mesh, covered, mask, photo, photo, mask, "given_mask", full=True).row
    assert row is not None and row.psnr_mesh == pytest.approx(10 * np.log10(1 / 0.125), abs=1e-4)
    assert row.covered == 0.5 and row.psnr_model == 99.0
    assert View("a", photo, mesh, covered, ~mask, photo, photo, ~mask, "region", full=True).row is None
