"""PLY round trips, and files that others write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from models.errors import DigitizeError, ReasonCode
from models.mesh.io import read_ply, write_ply
from models.mesh.mesh import Mesh

RNG = np.random.default_rng(0)
MESH = Mesh(
    RNG.normal(size=(9, 3)) + 1e5,
    RNG.integers(0, 9, (14, 3)),
    uv=RNG.random((9, 2)),
    colors=RNG.integers(0, 256, (9, 3)).astype(np.uint8),
)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", MESH)
    back = read_ply(tmp_path / "m.ply")
    for name in ("vertices", "faces", "uv", "colors"):
        np.testing.assert_array_equal(getattr(back, name), getattr(MESH, name))
    assert back.colors is not None and back.colors.dtype == np.uint8


def test_round_trip_without_extras_or_faces(tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", Mesh(MESH.vertices, np.zeros((0, 3), np.int64)))
    back = read_ply(tmp_path / "m.ply")
    assert back.faces.shape == (0, 3) and back.uv is None and back.colors is None


def test_trimesh_reads_what_is_written(tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", MESH)
    other = trimesh.load(tmp_path / "m.ply", process=False)
    np.testing.assert_allclose(other.vertices, MESH.vertices)
    np.testing.assert_array_equal(other.faces, MESH.faces)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_reads_what_trimesh_writes(tmp_path: Path, encoding: str) -> None:
    box = trimesh.creation.box()
    (tmp_path / "m.ply").write_bytes(trimesh.exchange.ply.export_ply(box, encoding=encoding))
    back = read_ply(tmp_path / "m.ply")
    np.testing.assert_allclose(back.vertices, box.vertices, atol=1e-6)
    np.testing.assert_array_equal(back.faces, box.faces)


def test_polygons_become_fans(tmp_path: Path) -> None:
    header = (
        "ply\nformat binary_big_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    )
    body = np.arange(12, dtype=">f4").tobytes()
    body += b"\x04" + np.array([0, 1, 2, 3], ">i4").tobytes() + b"\x03" + np.array([3, 1, 0], ">i4").tobytes()
    (tmp_path / "m.ply").write_bytes(header.encode() + body)
    assert read_ply(tmp_path / "m.ply").faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 1, 0]]


@pytest.mark.parametrize("damage", ["not a ply", "cut", "bad index"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.ply"
    write_ply(path, MESH)
    data = path.read_bytes()
    if damage == "not a ply":
        data = b"solid stl"
    elif damage == "cut":
        data = data[:-7]
    else:
        data = data[:-4] + np.int32(99).tobytes()
    path.write_bytes(data)
    with pytest.raises(DigitizeError) as caught:
        read_ply(path)
    assert caught.value.code is ReasonCode.UNDECODABLE and caught.value.path == str(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DigitizeError) as caught:
        read_ply(tmp_path / "none.ply")
    assert caught.value.code is ReasonCode.SOURCE_NOT_FOUND
