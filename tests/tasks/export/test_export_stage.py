"""The export stage through its door: every format of every tier, the points and the cameras, in metres."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from pydantic import ValidationError

from models.camera import PoseSet, project
from models.errors import DigitizeError, ReasonCode
from models.exports import ExportIndex
from models.mesh.io import read_ply
from models.points import SparsePoints
from models.scale import MeasuredScale
from models.stage import Stage
from tasks.context import Context
from tasks.export.task import run
from tasks.registry import effective_options
from tests.tasks.export.export_capture import FACTOR, METRIC, body, export_context, write_stages

FORMATS = ("glb", "glb_draco", "usdz", "obj", "ply", "stl")
CAMERAS = {
    "poses.json",
    "transforms.json",
    "colmap/cameras.txt",
    "colmap/images.txt",
    "colmap/points3D.txt",
}


def ran(context: Context) -> ExportIndex:
    run(context.request, context)
    return ExportIndex.model_validate_json((context.output / "export.json").read_bytes())


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("metric")
    write_stages(store, METRIC)
    return store


@pytest.fixture(scope="module")
def metric(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportIndex]:
    context = export_context(tmp_path_factory.mktemp("run"), stages, formats=FORMATS)
    return context.output, ran(context)


def test_every_file_has_its_role_tier_and_type(metric: tuple[Path, ExportIndex]) -> None:
    output, index = metric
    assert index.units == "metre" and index.files[0].tier == "ar"
    on_disk = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {file.path for file in index.files} == on_disk - {"export.json"}
    suffixes = ("glb", "draco.glb", "usdz", "obj", "mtl", "ply", "stl")
    for tier, stem in (("ar", "asset"), ("thumb", "asset-thumb")):
        models = {file.path: file for file in index.files if file.tier == tier}
        maps = {f"{stem}_color.png", f"{stem}_normal.png"}
        assert set(models) == {f"{stem}.{suffix}" for suffix in suffixes} | maps
        assert models[f"{stem}.draco.glb"].media_type == models[f"{stem}.glb"].media_type == "model/gltf-binary"
        assert models[f"{stem}.usdz"].media_type == "model/vnd.usdz+zip"
    assert [file.path for file in index.files if file.tier == "full"] == ["mesh.ply"]
    assert {file.path for file in index.files if file.role == "cameras"} == CAMERAS
    assert [file.path for file in index.files if file.role == "points"] == ["points.ply"]
    assert all((output / file.path).stat().st_size == file.bytes for file in index.files)


@pytest.mark.parametrize(
    ("name", "unit"),
    [("asset.glb", 1.0), ("asset.obj", 1.0), ("asset-thumb.ply", 1.0), ("mesh.ply", 1.0), ("asset.stl", 1000.0)],
)
def test_meshes_are_in_metres_and_stl_in_millimetres(metric: tuple[Path, ExportIndex], name: str, unit: float) -> None:
    found = trimesh.load(metric[0] / name, force="mesh", process=False)
    own = np.sort(np.ptp(body().vertices, axis=0))
    assert np.sort(np.ptp(found.vertices, axis=0)) == pytest.approx(FACTOR * unit * own, rel=1e-5)


def test_usdz_is_in_metres(metric: tuple[Path, ExportIndex]) -> None:
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(metric[0] / "asset.usdz"))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath("/Asset/Surface")).GetPointsAttr().Get())
    own = np.sort(np.ptp(body().vertices, axis=0))
    assert np.sort(np.ptp(points, axis=0)) == pytest.approx(FACTOR * own, rel=1e-5)


def test_cameras_and_points_stand_around_the_published_mesh(stages: Path, metric: tuple[Path, ExportIndex]) -> None:
    own = PoseSet.model_validate_json((stages / "pose/poses.json").read_bytes())
    poses = PoseSet.model_validate_json((metric[0] / "poses.json").read_bytes())
    assert (poses.units, poses.scale_source, poses.scale_uncertainty) == ("metre", "known_distance", 0.004)
    assert own.units == "arbitrary"
    sparse = SparsePoints.read(stages / "pose/points.npz")
    for before, after in zip(own.images, poses.images, strict=True):
        pixels = project(before.camera, before.c2w, sparse.xyz)[0]
        np.testing.assert_allclose(project(after.camera, after.c2w, FACTOR * sparse.xyz)[0], pixels, atol=1e-8)
    np.testing.assert_allclose(
        np.array(poses.world_from_field)[:3], FACTOR * np.array(own.world_from_field)[:3], rtol=1e-12
    )
    assert poses.support is not None and own.support is not None
    assert poses.support.offset == pytest.approx(FACTOR * own.support.offset)
    with np.load(stages / "dense/dense.npz") as data:
        dense = dict(data)
    cloud = trimesh.load(metric[0] / "points.ply", process=False)
    np.testing.assert_allclose(cloud.vertices, FACTOR * dense["xyz"], rtol=1e-12)
    assert np.array_equal(cloud.colors[:, :3], dense["rgb"])
    raw = cloud.metadata["_ply_raw"]["vertex"]["data"]
    assert np.array_equal(np.stack([raw[name] for name in ("nx", "ny", "nz")], 1).reshape(-1, 3), dense["normal"])
    import pycolmap

    model = pycolmap.Reconstruction()
    model.read_text(str(metric[0] / "colmap"))
    theirs = np.array([model.points3D[k + 1].xyz for k in range(len(sparse.xyz))])
    np.testing.assert_allclose(theirs, FACTOR * sparse.xyz, rtol=1e-9)


def test_without_a_scale_everything_keeps_its_units(tmp_path: Path) -> None:
    own = write_stages(tmp_path / "store", MeasuredScale(), tiers=("thumb",))
    context = export_context(tmp_path, tmp_path / "store", formats=("glb", "ply"))
    index = ran(context)
    assert index.units == "arbitrary"
    assert np.array_equal(read_ply(context.output / "asset.ply").vertices, body().vertices)
    assert PoseSet.model_validate_json((context.output / "poses.json").read_bytes()) == own


def test_poses_in_metres_stay_as_they_are(tmp_path: Path) -> None:
    own = write_stages(tmp_path / "store", MeasuredScale(metres_per_unit=1.0, source="poses"), tiers=("thumb",))
    context = export_context(tmp_path, tmp_path / "store", formats=("glb",))
    assert ran(context).units == "metre"
    poses = PoseSet.model_validate_json((context.output / "poses.json").read_bytes())
    assert (poses.units, poses.scale_source) == ("metre", "poses") and poses.images == own.images


def test_points_are_written_in_the_formats_asked_for(stages: Path, tmp_path: Path) -> None:
    pye57 = pytest.importorskip("pye57")
    context = export_context(tmp_path / "e57", stages, formats=("glb",), points=("e57",))
    index = ran(context)
    assert [file.media_type for file in index.files if file.role == "points"] == ["model/e57"]
    with pye57.E57(str(context.output / "points.e57")) as file:
        found = file.read_scan(0, colors=True, ignore_missing_fields=True)
        about = file.get_header(0)["description"].value()
    with np.load(stages / "dense/dense.npz") as data:
        xyz, rgb = data["xyz"], data["rgb"]
    np.testing.assert_array_equal(np.stack([found[f"cartesian{each}"] for each in "XYZ"], 1), FACTOR * xyz)
    np.testing.assert_array_equal(np.stack([found[f"color{each}"] for each in ("Red", "Green", "Blue")], 1), rgb)
    assert "Dense stereo from" in about and "Unit: metre" in about
    for name, more in (("none", {"points": ()}), ("no dense", {"dense": False})):
        without = ran(export_context(tmp_path / name, stages, formats=("glb",), **more))
        assert not [file for file in without.files if file.role == "points"]


def test_e57_without_its_package_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pye57", None)
    with pytest.raises(ValidationError, match=r"asset-digitizer\[e57\]"):
        effective_options(Stage.EXPORT, "standard", "preview", {"points": ["ply", "e57"]})
    assert effective_options(Stage.EXPORT, "standard", "preview", {}).model_dump()["points"] == ("ply",)


def test_a_format_whose_package_is_missing_is_noticed_at_once(
    stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.export.exporters.usdz.REQUIRES", "a_package_that_nobody_has")
    context = export_context(tmp_path, stages, formats=("glb", "usdz"))
    with pytest.raises(DigitizeError) as caught:
        ran(context)
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY
    assert list(context.output.iterdir()) == []


@pytest.mark.parametrize(("formats", "words"), [(["glb", "fbx"], "found fbx"), (["obj"], "expected `glb` among")])
def test_formats_are_checked_by_name(formats: list[str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        effective_options(Stage.EXPORT, "standard", "preview", {"formats": formats})
