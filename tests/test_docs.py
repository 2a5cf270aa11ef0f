"""The documents say what the code does: every setting, every reason, every link."""

from __future__ import annotations

import re
from pathlib import Path

from infra.settings import NightSettings, RunSettings, S3Settings, UploadSettings
from models.errors import HINTS
from models.spec import AssetSpec, BatchSpec, CaptureSource
from models.spec_yaml import load_spec

ROOT = Path(__file__).resolve().parents[1]


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    for settings in (RunSettings, S3Settings, NightSettings, UploadSettings):
        prefix = settings.model_config["env_prefix"]
        for name in settings.model_fields:
            assert f"`{prefix}{name}`".upper() in text.upper(), name


def test_every_reason_is_documented_with_its_hint() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    assert {code: rows.get(code) for code in map(str, HINTS)} == {str(code): hint for code, hint in HINTS.items()}


def test_the_example_is_a_valid_specification(tmp_path: Path) -> None:
    text = (ROOT / "docs/spec.md").read_text()
    (tmp_path / "batch.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_spec(tmp_path / "batch.yaml").spec.assets[0].id == "red-figure-kylix"
    for name in (*BatchSpec.model_fields, *AssetSpec.model_fields, *CaptureSource.model_fields):
        assert f"`{name}`" in text, name


def test_links_between_documents_hold() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
