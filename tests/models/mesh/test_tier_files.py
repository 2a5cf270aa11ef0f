"""A finished mesh comes back from its kept files to the last bit."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.tier_files import read_tier, tier_files, write_tier


def whole() -> Mesh:
    """A mesh that holds everything that a mesh may hold, none of it round."""
    rng = np.random.default_rng(3)
    return Mesh(
        rng.normal(size=(40, 3)) / 3.0,
        rng.integers(0, 40, (25, 3)),
        uv=rng.random((40, 2)),
        texture=rng.integers(0, 256, (16, 16, 3), dtype=np.uint8),
        colors=rng.integers(0, 256, (40, 3), dtype=np.uint8),
        seen=rng.random(40) > 0.5,
        normal_map=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        occlusion=rng.integers(0, 256, (16, 16), dtype=np.uint8),
    )


@pytest.mark.parametrize("left_out", [(), ("normal_map", "occlusion"), ("colors", "seen", "uv", "texture")])
def test_nothing_is_lost(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    mesh = replace(whole(), **dict.fromkeys(left_out))
    write_tier(tmp_path, "low", mesh)
    files = {path.name: path for path in tmp_path.iterdir()}
    assert set(files) <= set(tier_files("low"))
    found = read_tier(files, "low")
    for field in fields(Mesh):
        before, after = getattr(mesh, field.name), getattr(found, field.name)
        if before is None:
            assert after is None, field.name
        else:
            assert after.dtype == before.dtype and np.array_equal(after, before), field.name


def test_equal_meshes_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tier(tmp_path / name, "low", whole())
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()
    }


@pytest.mark.parametrize("damage", [b"no archive", b""])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    write_tier(tmp_path, "low", whole())
    (tmp_path / "low.npz").write_bytes(damage)
    with pytest.raises(DigitizeError, match="tier 'low'") as caught:
        read_tier({path.name: path for path in tmp_path.iterdir()}, "low")
    assert caught.value.code is ReasonCode.UNDECODABLE and caught.value.path == "low.npz"
