"""What a plan knows of the photos that a user gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.plan import sources
from flows.plan.batch_plan import plan_batch
from models.digest import sha256_file
from models.spec_yaml import load_spec
from tests.flows.cli_stubs import write_batch


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, with a catalogue of this test's own."""
    found: list[str] = []

    def counting(path: Path) -> str:
        found.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(sources, "sha256_file", counting)
    monkeypatch.setattr("infra.catalogue._RACY_S", 0.0)
    monkeypatch.setenv("DIGITIZE_DATABASE_URL", f"sqlite:///{tmp_path / 'catalogue.db'}")
    return found


def test_photos_are_hashed_once_until_they_change(tmp_path: Path, hashed: list[str]) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "jug")
    first = plan_batch(load_spec(spec))
    count = len(hashed)
    assert count >= 2
    assert plan_batch(load_spec(spec)) == first and len(hashed) == count
    photo = next((tmp_path / "shelf" / "cup").rglob("*.*"))
    photo.write_bytes(photo.read_bytes() + b"more")
    later = plan_batch(load_spec(spec))
    digests = [{asset.id: asset.sources["photos"].digest for asset in plan.assets} for plan in (first, later)]
    assert digests[0]["cup"] != digests[1]["cup"] and digests[0]["jug"] == digests[1]["jug"]
    assert set(hashed[count:]) <= {path.name for path in (tmp_path / "shelf" / "cup").rglob("*")}


def test_without_a_catalogue_everything_is_hashed(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    first = plan_batch(load_spec(spec))
    count = len(hashed)
    monkeypatch.setenv("DIGITIZE_DATABASE_URL", "postgresql+pg8000://u:hidden-password@127.0.0.1:9/x")
    assert plan_batch(load_spec(spec)) == first and len(hashed) == 2 * count
    assert "catalogue cannot be used" in caplog.text and "hidden-password" not in caplog.text
