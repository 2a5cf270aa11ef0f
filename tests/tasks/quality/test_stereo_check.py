"""Completeness and precision from stereo of the held-out photos, on a body whose shape is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.camera import PoseSet
from models.mesh.mesh import Mesh
from models.mesh.topology import keep_faces
from models.quality import DEFAULT_GATES, Verdict, apply_gates, worst
from models.results import StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.quality.base import StereoCheck
from tasks.quality.collect import stereo_metrics
from tasks.quality.options import QualityOptions
from tasks.quality.stereo_check import check_by_stereo
from tasks.sample import scenes
from tasks.stereo import kernel
from tests.support import make_context, ref_of

OPTIONS = QualityOptions(stereo_views=4)


class Seen:
    """A painted ball from all sides; every fourth photo is held out."""

    def __init__(self, folder: Path) -> None:
        self.mesh = scenes.paint(scenes.sphere(1.0, 6), 12.0)
        cameras = scenes.fibonacci_cameras(24, 200, 150, 4.0)
        images = tuple(
            image.model_copy(update={"split": "heldout" if k % 4 == 1 else "train"}) for k, image in enumerate(cameras)
        )
        written = folder / "store" / "pose"
        self.poses: PoseSet = scenes.write_pose_outputs(written, self.mesh, images, points=2000, masks=True)
        request = StageRequest(
            asset="ball",
            stage=Stage.QUALITY,
            method="standard",
            version="1",
            options={},
            inputs={"pose": ref_of(written, "store:pose")},
        )
        self.context: Context = make_context(request, folder, threads=2)

    def check(self, mesh: Mesh, options: QualityOptions = OPTIONS) -> StereoCheck | None:
        return check_by_stereo(mesh, self.poses, False, options, self.context)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("seen"))


def test_the_true_surface_is_complete_and_precise(seen: Seen) -> None:
    found = seen.check(seen.mesh)
    assert found is not None and found.photos == 4 and found.points > 3000
    assert found.completeness > 0.9 and found.precision is not None and found.precision > 0.97


def test_what_is_missing_and_what_is_too_much_are_told_apart(seen: Seen) -> None:
    middle = seen.mesh.triangles.mean(1)
    half = seen.check(keep_faces(seen.mesh, middle[:, 0] > 0))
    whole = seen.check(seen.mesh)
    assert half is not None and whole is not None and half.completeness < 0.7 * whole.completeness
    away = seen.mesh.vertices
    lump = np.where(away[:, :1] > 0.3, away * 1.15, away)
    swollen = seen.check(replace(seen.mesh, vertices=lump))
    assert swollen is not None and swollen.precision is not None and whole.precision is not None
    assert swollen.precision < whole.precision - 0.1


def test_the_figures_are_metrics_with_gates(seen: Seen) -> None:
    found = seen.check(seen.mesh)
    values = {metric.name: metric.value for metric in stereo_metrics(found)}
    assert set(values) == {"completeness_dense", "precision_dense"} and stereo_metrics(None) == []
    gates = [gate for gate in DEFAULT_GATES if gate.metric in values]
    poor = apply_gates(gates, {"completeness_dense": 0.89})
    assert worst(each.consequence for each in poor) is Verdict.REVIEW
    assert worst(each.consequence for each in apply_gates(gates, values)) is Verdict.ACCEPT


def test_it_can_be_left_out_and_needs_photos_and_a_kernel(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen.check(seen.mesh, QualityOptions(stereo_views=0)) is None
    assert seen.check(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))) is None
    monkeypatch.setattr(kernel, "library", lambda build=None: None)
    assert seen.check(seen.mesh) is None
