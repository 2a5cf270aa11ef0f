"""Each heavy library has its room: who may import what, by reading the source (lazy imports included)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "prefect": ("flows/",),
    "ray": ("flows/runner",),
    "boto3": ("infra/storage.py", "infra/queue.py"),
    "obstore": ("infra/objects.py",),
    "botocore": ("infra/storage.py", "infra/queue.py"),
    "torch": ("models/fields/", "tasks/train/", "tasks/surface/", "tasks/quality/", "tasks/stereo/torch_"),
    "pycolmap": ("tasks/pose/", "tasks/scale/marks.py"),
    "typer": ("flows/",),
    "rich": ("flows/",),
}


def _imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _sources() -> list[Path]:
    return sorted(path for folder in ("models", "tasks", "flows", "infra") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("library", ROOMS)
def test_library_stays_in_its_room(library: str) -> None:
    users = [path.relative_to(ROOT).as_posix() for path in _sources() if library in _imported(path)]
    assert users, f"nobody imports {library}: drop the rule"
    assert [user for user in users if not user.startswith(ROOMS[library])] == []


def test_pycolmap_comes_after_pil() -> None:
    """The other order corrupts the heap when a PNG is saved."""
    for path in _sources():
        source = path.read_text()
        if "import pycolmap" in source:
            before = source[: source.index("import pycolmap")]
            assert "from PIL import Image" in before, path
