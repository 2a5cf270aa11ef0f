"""E57 files read back with pye57: places, colours, normals, what the header says; and what is said without pye57."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DigitizeError, ReasonCode
from models.mesh import e57
from models.mesh.e57 import write_e57

POINTS = 2000


def cloud() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    xyz = rng.normal((100.0, -20.0, 3.0), 0.1, (POINTS, 3))
    normal = rng.normal(size=(POINTS, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return xyz, normal.astype(np.float32), rng.integers(0, 256, (POINTS, 3), dtype=np.uint8)


def test_pye57_reads_back_what_was_written(tmp_path: Path) -> None:
    pye57 = pytest.importorskip("pye57")
    xyz, normal, rgb = cloud()
    write_e57(tmp_path / "points.e57", xyz, normal, rgb, "vase", "unit: metre")
    with pye57.E57(str(tmp_path / "points.e57")) as file:
        assert file.scan_count == 1
        header, found = file.get_header(0), file.read_scan(0, colors=True, ignore_missing_fields=True)
        assert header.point_count == POINTS and header["name"].value() == "vase"
        assert header["description"].value() == "unit: metre"
        np.testing.assert_array_equal(np.stack([found[f"cartesian{each}"] for each in "XYZ"], 1), xyz)
        np.testing.assert_array_equal(np.stack([found[f"color{each}"] for each in ("Red", "Green", "Blue")], 1), rgb)
        np.testing.assert_array_equal([header.xMinimum, header.zMaximum], [xyz[:, 0].min(), xyz[:, 2].max()])
        np.testing.assert_array_equal(read_normals(pye57, file, header), normal)


def read_normals(pye57: object, file: object, header: object) -> np.ndarray:
    """The extension's fields, which pye57 has no reader for, through its binding."""
    libe57 = pye57.libe57  # type: ignore[attr-defined]
    columns = np.zeros((3, POINTS), np.float32)
    buffers = libe57.VectorSourceDestBuffer()
    for axis, column in zip("XYZ", columns, strict=True):
        buffers.append(libe57.SourceDestBuffer(file.image_file, f"nor:normal{axis}", column, POINTS, True, False))  # type: ignore[attr-defined]
    header.points.reader(buffers).read()  # type: ignore[attr-defined]
    return columns.T


def test_equal_points_give_equal_bytes_and_replace_what_was_there(tmp_path: Path) -> None:
    pytest.importorskip("pye57")
    for name in ("one", "two", "two"):
        write_e57(tmp_path / name, *cloud(), "vase", "unit: metre")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_without_pye57_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e57, "is_available", lambda: False)
    with pytest.raises(DigitizeError, match="pye57") as caught:
        write_e57(tmp_path / "points.e57", *cloud(), "vase", "")
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY and "asset-digitizer[e57]" in caught.value.hint
