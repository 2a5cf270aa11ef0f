"""Entry points of installed packages: read once, and again when something is installed."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest

from models.installed import entry_points

GROUP = "digitize.test_installed"


def install(site: Path, name: str) -> None:
    """As pip does: the metadata folder of one distribution."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = json\n")


def test_packages_are_found_when_they_come_and_forgotten_when_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert entry_points(GROUP) == ()
    install(tmp_path / "site", "first")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert [entry.name for entry in entry_points(GROUP)] == ["first"]
    install(tmp_path / "site", "second")
    os.utime(tmp_path / "site", ns=(1, 1))
    assert sorted(entry.name for entry in entry_points(GROUP)) == ["first", "second"]
    (found,) = entry_points(GROUP, "second")
    assert found.load().__name__ == "json"
    assert entry_points(GROUP, "third") == ()
    monkeypatch.undo()
    assert entry_points(GROUP) == ()


def test_metadata_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads: list[Any] = []
    original = importlib.metadata.entry_points

    def counted(**how: Any) -> Any:
        reads.append(how)
        return original(**how)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted)
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(20):
        entry_points("digitize.train")
    assert len(reads) == 1
