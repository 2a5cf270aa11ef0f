"""What is written is read back by an independent reader: same places, same colours, Y up."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.camera import gltf_from_world
from models.errors import DigitizeError
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, sample_texture
from models.mesh.topology import vertex_normals
from tasks.export.exporters import glb, glb_draco, obj, ply, stl, usdz
from tasks.sample import scenes
from tasks.surface.correspond import barycentric
from tasks.surface.unwrap import textured, unwrap

UP = (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def asset() -> Mesh:
    body = scenes.torus()
    unwrapped = textured(body, unwrap(body, 256))
    v, u = np.mgrid[0:256, 0:256]
    # smooth enough for a JPEG, and different in every direction: a flipped texture cannot pass
    texture = np.stack([u, v, 255 - (u + v) // 2], -1).astype(np.uint8)
    normals = np.broadcast_to(np.array([128, 128, 255], np.uint8), (256, 256, 3))
    return replace(unwrapped, texture=texture, normal_map=normals, occlusion=np.full((256, 256), 200, np.uint8))


def loaded(path: Path) -> Mesh:
    """The file through trimesh, as a Mesh with uv from the lower left (trimesh's own convention)."""
    scene = trimesh.load(path, process=False)
    geometry = next(iter(scene.geometry.values())) if isinstance(scene, trimesh.Scene) else scene
    material = geometry.visual.material
    picture = material.baseColorTexture if hasattr(material, "baseColorTexture") else material.image
    return Mesh(
        np.array(geometry.vertices, np.float64),
        np.array(geometry.faces, np.int64),
        uv=np.array(geometry.visual.uv, np.float64),
        texture=np.asarray(picture.convert("RGB")),
    )


def same_surface(read: Mesh, written: Mesh, colour_tolerance: float) -> None:
    assert read.triangles == pytest.approx(written.triangles, abs=1e-6)
    rng = np.random.default_rng(0)
    face, bary = rng.integers(0, len(written.faces), 2000), rng.dirichlet((1, 1, 1), 2000)[:, 1:]
    difference = np.abs(sample_texture(read, face, bary) - sample_texture(written, face, bary))
    assert difference.max() < colour_tolerance


def test_glb_is_read_back_with_y_up(asset: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "asset.glb"
    glb.write(path, asset, UP)
    turn = gltf_from_world(UP)[:3, :3]
    same_surface(loaded(path), replace(asset, vertices=asset.vertices @ turn.T), 0.03)
    assert np.ptp(loaded(path).vertices, axis=0).argmin() == 1


def test_glb_holds_normals_and_a_matt_material(asset: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "asset.glb"
    glb.write(path, asset, (0.0, 1.0, 0.0))
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, _ = struct.unpack("<I4s", data[12:20])
    document = json.loads(data[20 : 20 + size])
    material = document["materials"][0]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    sources = [
        document["textures"][material[name]["index"]]["source"] for name in ("normalTexture", "occlusionTexture")
    ]
    for source, expected in zip(sources, ((128, 128, 255), (200, 200, 200)), strict=True):
        view = document["bufferViews"][document["images"][source]["bufferView"]]
        start = 20 + size + 8 + view["byteOffset"]
        picture = Image.open(io.BytesIO(data[start : start + view["byteLength"]])).convert("RGB")
        assert np.asarray(picture).reshape(-1, 3).mean(0) == pytest.approx(expected, abs=2)
    read = trimesh.load(path, process=False)
    normals = np.array(next(iter(read.geometry.values())).vertex_normals)
    assert normals == pytest.approx(vertex_normals(asset), abs=1e-5)
    # seams do not show in the shading: copies of one vertex share their normal, which points outwards
    ring = asset.vertices * (1, 1, 0)
    middle = 0.7 * ring / np.linalg.norm(ring, axis=1, keepdims=True)
    outward = asset.vertices - middle
    assert np.einsum("ni,ni->n", normals, outward / np.linalg.norm(outward, axis=1, keepdims=True)).min() > 0.98


def test_obj_is_read_back(asset: Mesh, tmp_path: Path) -> None:
    obj.write(tmp_path / "asset.obj", asset, UP)
    assert {p.name for p in tmp_path.iterdir()} == {"asset.obj", "asset.mtl", "asset_color.png", "asset_normal.png"}
    read = loaded(tmp_path / "asset.obj")
    assert RayCaster(asset).distance(read.vertices).max() < 1e-6
    same_surface(read, asset, 0.01)


def test_ply_is_read_back(asset: Mesh, tmp_path: Path) -> None:
    ply.write(tmp_path / "asset.ply", asset, UP)
    assert b"comment TextureFile asset_color.png" in (tmp_path / "asset.ply").read_bytes()[:400]
    read = read_ply(tmp_path / "asset.ply")
    picture = np.asarray(Image.open(tmp_path / "asset_color.png"))
    same_surface(replace(read, texture=picture), asset, 1e-3)


def test_stl_holds_the_shape_in_millimetres_with_z_up(asset: Mesh, tmp_path: Path) -> None:
    stl.write(tmp_path / "asset.stl", asset, (0.0, 1.0, 0.0))
    read = trimesh.load(tmp_path / "asset.stl")
    body = trimesh.Trimesh(asset.vertices, asset.faces)
    assert read.volume == pytest.approx(body.volume * 1e9, rel=1e-5)
    # the capture's +Y becomes +Z
    assert np.ptp(read.vertices, axis=0)[2] == pytest.approx(1000 * np.ptp(asset.vertices, axis=0)[1], rel=1e-5)
    assert (tmp_path / "asset.stl").stat().st_size == 84 + 50 * len(asset.faces)


def test_draco_keeps_shape_and_colours_in_fewer_bytes(asset: Mesh, tmp_path: Path) -> None:
    import DracoPy

    glb.write(tmp_path / "a.glb", asset, UP)
    glb_draco.write(tmp_path / "b.glb", asset, UP)
    assert (tmp_path / "b.glb").stat().st_size < 0.6 * (tmp_path / "a.glb").stat().st_size
    data = (tmp_path / "b.glb").read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + size])
    assert document["extensionsRequired"] == ["KHR_draco_mesh_compression"]
    primitive = document["meshes"][0]["primitives"][0]
    extension = primitive["extensions"]["KHR_draco_mesh_compression"]
    view = document["bufferViews"][extension["bufferView"]]
    start = 20 + size + 8 + view["byteOffset"]
    packed = DracoPy.decode(data[start : start + view["byteLength"]])
    by_id = {a["unique_id"]: a["data"] for a in packed.attributes}
    found = {name: by_id[number] for name, number in extension["attributes"].items()}
    for name, index in primitive["attributes"].items():
        assert document["accessors"][index]["count"] == len(found[name])
    turn = gltf_from_world(UP)[:3, :3]
    truth = replace(asset, vertices=asset.vertices @ turn.T)
    assert RayCaster(truth).distance(found["POSITION"]).max() < 2e-4
    read = Mesh(
        found["POSITION"].astype(np.float64),
        packed.faces.astype(np.int64),
        uv=found["TEXCOORD_0"] * (1.0, -1.0) + (0.0, 1.0),
        texture=asset.texture,
    )
    rng = np.random.default_rng(0)
    face, bary = rng.integers(0, len(read.faces), 2000), rng.dirichlet((1, 1, 1), 2000)[:, 1:]
    corners = read.triangles[face]
    places = (
        corners[:, 0] + bary[:, :1] * (corners[:, 1] - corners[:, 0]) + bary[:, 1:] * (corners[:, 2] - corners[:, 0])
    )
    _, nearest = RayCaster(truth).closest(places)
    expected = sample_texture(truth, nearest, barycentric(truth, nearest, places))
    error = np.abs(sample_texture(read, face, bary) - expected).max(1)
    # at an edge between charts the nearest face may be the neighbour's
    assert np.percentile(error, 95) < 0.03


def test_usdz_holds_the_shape_and_passes_every_validator(asset: Mesh, tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom, UsdValidation

    usdz.write(tmp_path / "asset.usdz", asset, UP)
    stage = Usd.Stage.Open(str(tmp_path / "asset.usdz"))
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
    body = UsdGeom.Mesh(stage.GetPrimAtPath("/Asset/Surface"))
    points = np.array(body.GetPointsAttr().Get())
    turn = gltf_from_world(UP)[:3, :3]
    assert points == pytest.approx(asset.vertices @ turn.T, abs=1e-6)
    assert np.array_equal(np.array(body.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), asset.faces)
    st = np.array(UsdGeom.PrimvarsAPI(body).GetPrimvar("st").Get())
    assert st == pytest.approx(asset.uv, abs=1e-6)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    assert [error.GetMessage() for error in UsdValidation.ValidationContext(validators).Validate(stage)] == []
    names = zipfile.ZipFile(tmp_path / "asset.usdz").namelist()
    assert names == ["asset.usdc", "textures/color.jpg", "textures/normal.jpg", "textures/occlusion.jpg"]


@pytest.mark.skipif(
    not os.environ.get("DIGITIZE_GLTF_VALIDATOR") or shutil.which("node") is None,
    reason="set DIGITIZE_GLTF_VALIDATOR to a folder in which `npm install gltf-validator` ran; needs node",
)
@pytest.mark.parametrize("exporter", [glb, glb_draco])
def test_the_khronos_validator_finds_no_error(exporter: object, asset: Mesh, tmp_path: Path) -> None:
    exporter.write(tmp_path / "asset.glb", asset, UP)  # type: ignore[attr-defined]
    script = (
        "const fs=require('fs');const data=new Uint8Array(fs.readFileSync(process.argv[2]));"
        "require(process.argv[1]).validateBytes(data)"
        ".then(r=>console.log(JSON.stringify(r.issues)))"
    )
    module = str(Path(os.environ["DIGITIZE_GLTF_VALIDATOR"]) / "node_modules" / "gltf-validator")
    run = subprocess.run(
        ["node", "-e", script, module, str(tmp_path / "asset.glb")], capture_output=True, text=True, check=True
    )
    issues = json.loads(run.stdout)
    assert issues["numErrors"] == 0, issues["messages"]


@pytest.mark.parametrize("exporter", [glb, glb_draco, obj, ply, stl, usdz])
def test_equal_meshes_give_equal_bytes(exporter: object, asset: Mesh, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        exporter.write(tmp_path / name / "asset.x", asset, UP)  # type: ignore[attr-defined]
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("exporter", [glb, glb_draco, obj, ply, usdz])
def test_a_mesh_without_texture_is_refused(exporter: object, tmp_path: Path) -> None:
    with pytest.raises(DigitizeError):
        exporter.write(tmp_path / "asset.x", scenes.sphere(), UP)  # type: ignore[attr-defined]
