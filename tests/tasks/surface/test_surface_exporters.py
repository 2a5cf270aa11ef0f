"""What is written is read back by an independent reader: same places, same colours, Y up."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.camera import gltf_from_world
from models.errors import DigitizeError
from tasks.mesh.io import read_ply
from tasks.mesh.mesh import Mesh
from tasks.mesh.raycast import RayCaster, sample_texture
from tasks.surface.exporters import glb, obj, ply
from tasks.surface.topology import vertex_normals
from tasks.surface.unwrap import textured, unwrap
from tests.synthetic import scenes

UP = (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def asset() -> Mesh:
    body = scenes.torus()
    unwrapped = textured(body, unwrap(body, 256))
    v, u = np.mgrid[0:256, 0:256]
    # smooth enough for a JPEG, and different in every direction: a flipped texture cannot pass
    texture = np.stack([u, v, 255 - (u + v) // 2], -1).astype(np.uint8)
    return replace(unwrapped, texture=texture)


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
    assert document["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0
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
    assert {p.name for p in tmp_path.iterdir()} == {"asset.obj", "asset.mtl", "asset_color.png"}
    read = loaded(tmp_path / "asset.obj")
    assert RayCaster(asset).distance(read.vertices).max() < 1e-6
    same_surface(read, asset, 0.01)


def test_ply_is_read_back(asset: Mesh, tmp_path: Path) -> None:
    ply.write(tmp_path / "asset.ply", asset, UP)
    assert b"comment TextureFile asset_color.png" in (tmp_path / "asset.ply").read_bytes()[:400]
    read = read_ply(tmp_path / "asset.ply")
    picture = np.asarray(Image.open(tmp_path / "asset_color.png"))
    same_surface(replace(read, texture=picture), asset, 1e-3)


@pytest.mark.parametrize("exporter", [glb, obj, ply])
def test_equal_meshes_give_equal_bytes(exporter: object, asset: Mesh, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        exporter.write(tmp_path / name / "asset.x", asset, UP)  # type: ignore[attr-defined]
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("exporter", [glb, obj, ply])
def test_a_mesh_without_texture_is_refused(exporter: object, tmp_path: Path) -> None:
    with pytest.raises(DigitizeError):
        exporter.write(tmp_path / "asset.x", scenes.sphere(), UP)  # type: ignore[attr-defined]
