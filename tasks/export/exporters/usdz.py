"""USDZ for Apple's AR Quick Look and for USD tools: one mesh, one preview surface, JPEG maps; Y up, metres."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.camera import Vector3
from models.mesh.gltf import ROUGHNESS, geometry_of
from models.mesh.mesh import Mesh
from models.mesh.texture import encode, maps_of

SUFFIX = ".usdz"
MEDIA_TYPES = {".usdz": "model/vnd.usdz+zip"}
REQUIRES = "pxr"
_EPOCH = 315_532_800
"""1980-01-01, the earliest time that a zip archive can hold: files carry no time of their own."""


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write a textured mesh. Equal meshes give equal bytes.

    Args:
        up: the direction in the capture's frame that becomes +Y.
    """
    from pxr import Sdf

    maps = {name: encode(picture, "jpeg") for name, picture in maps_of(mesh).items()}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        layer = Path(folder) / "asset.usdc"
        _write_layer(layer, mesh, up, {name: f"textures/{name}.jpg" for name in maps})
        files = {"asset.usdc": layer}
        for name, data in maps.items():
            files[f"textures/{name}.jpg"] = Path(folder) / f"{name}.jpg"
            files[f"textures/{name}.jpg"].write_bytes(data)
        path.unlink(missing_ok=True)
        with Sdf.ZipFileWriter.CreateNew(str(path)) as archive:
            for name, file in files.items():
                os.utime(file, (_EPOCH, _EPOCH))
                archive.AddFile(str(file), name)


def _write_layer(layer: Path, mesh: Mesh, up: Vector3, maps: dict[str, str]) -> None:
    from pxr import Kind, Usd, UsdGeom, UsdShade

    stage = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/Asset")
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root.GetPrim()).SetKind(Kind.Tokens.component)
    body = _define_mesh(stage, mesh, up)
    material = _define_material(stage, maps)
    UsdShade.MaterialBindingAPI.Apply(body.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()


def _define_mesh(stage: Any, mesh: Mesh, up: Vector3) -> Any:
    from pxr import Sdf, UsdGeom, Vt

    geometry = geometry_of(mesh, up)
    body = UsdGeom.Mesh.Define(stage, "/Asset/Surface")
    body.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(geometry.positions))
    body.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    body.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(geometry.indices.astype(np.int32)))
    body.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(geometry.normals))
    body.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    low, high = geometry.positions.min(0), geometry.positions.max(0)
    body.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([low, high])))
    body.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    st = UsdGeom.PrimvarsAPI(body).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    # USD counts v from below, as the mesh does
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(mesh.uv, dtype=np.float32)))
    return body


def _define_material(stage: Any, maps: dict[str, str]) -> Any:
    from pxr import Gf, Sdf, UsdShade

    kinds = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/Asset/Material")
    surface = UsdShade.Shader.Define(stage, "/Asset/Material/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", kinds.Float).Set(ROUGHNESS)
    surface.CreateInput("metallic", kinds.Float).Set(0.0)
    material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    reader = UsdShade.Shader.Define(stage, "/Asset/Material/Coordinates")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", kinds.String).Set("st")
    coordinates = reader.CreateOutput("result", kinds.Float2)
    roles = {
        "color": ("diffuseColor", kinds.Color3f, "rgb", kinds.Float3, "sRGB"),
        "normal": ("normal", kinds.Normal3f, "rgb", kinds.Float3, "raw"),
        "occlusion": ("occlusion", kinds.Float, "r", kinds.Float, "raw"),
    }
    for name, file in maps.items():
        role, kind, channel, output, space = roles[name]
        texture = UsdShade.Shader.Define(stage, f"/Asset/Material/{name.capitalize()}")
        texture.CreateIdAttr("UsdUVTexture")
        texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath(file))
        texture.CreateInput("sourceColorSpace", kinds.Token).Set(space)
        texture.CreateInput("st", kinds.Float2).ConnectToSource(coordinates)
        for wrap in ("wrapS", "wrapT"):
            texture.CreateInput(wrap, kinds.Token).Set("clamp")
        if name == "normal":
            texture.CreateInput("scale", kinds.Float4).Set(Gf.Vec4f(2.0, 2.0, 2.0, 1.0))
            texture.CreateInput("bias", kinds.Float4).Set(Gf.Vec4f(-1.0, -1.0, -1.0, 0.0))
        surface.CreateInput(role, kind).ConnectToSource(texture.CreateOutput(channel, output))
    return material
