"""Checks of the machine and of stores that do not keep their word."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.machine import doctor
from flows.machine.doctor import Check, Level, answer, check_import, check_packages, check_runs, check_store
from infra.storage import FolderStore
from models.status import AssetStatus, Phase
from tests.flows.cli_stubs import write_batch


def test_a_folder_store_is_ready_and_left_as_it_was(tmp_path: Path) -> None:
    assert check_store(str(tmp_path)).level in (Level.OK, Level.WARN)
    assert list(tmp_path.iterdir()) == []


def test_an_s3_store_makes_the_round_trip(s3_bucket: str) -> None:
    assert check_store(f"{s3_bucket}/some/prefix").level is Level.OK
    missing = check_store("s3://no-such-bucket-here/prefix")
    assert missing.level is Level.FAIL and missing.advice


def test_a_store_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert check_store(str(tmp_path / "file")).level is Level.FAIL


def test_a_store_without_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(FolderStore):
        def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
            return super().put_bytes(key, data)

    monkeypatch.setattr(doctor, "open_store", lambda uri: Careless(Path(uri)))
    check = check_store(str(tmp_path))
    assert check.level is Level.FAIL and "created over" in check.found and "If-None-Match" in check.advice


def test_imports_that_fail_or_crash_are_answers() -> None:
    assert check_import("json", "print(1)", "") == Check("json", Level.OK, "1")
    missing = check_import("nope", "import no_such_module_here", "install it")
    assert missing.level is Level.FAIL and "no_such_module_here" in missing.found and missing.advice == "install it"
    crashed = check_import("crash", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "")
    assert "signal 11" in crashed.found


def test_packages_of_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_required", lambda: ["pydantic", "numpy"])
    monkeypatch.setattr(doctor, "_constraints", lambda: {"numpy": "0.0.1"})
    (check,) = check_packages()
    assert check.level is Level.WARN and "numpy" in check.found and "pydantic" not in check.found
    monkeypatch.setattr(doctor, "_required", lambda: ["no-such-package-here"])
    assert check_packages()[0].level is Level.FAIL


def test_lost_runs() -> None:
    lost = AssetStatus(batch="b", asset="cup", phase=Phase.RUNNING, updated_at=time.time() - 9999)
    assert check_runs([lost]).level is Level.WARN
    assert check_runs([lost.model_copy(update={"phase": Phase.DONE})]).level is Level.OK


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_machine", lambda settings: [lambda: [Check("x", Level.WARN, "slow", "wait")]])
    path = write_batch(tmp_path)
    result = CliRunner().invoke(app, ["doctor", str(path), "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["ready"]
    assert [check["name"] for check in document["checks"]] == ["x", "store", "runs", "publish"]
    bad = CliRunner().invoke(app, ["doctor", "--store", str(path / "below a file"), "--json"])
    assert bad.exit_code == 5 and not json.loads(bad.stdout)["ready"]


def test_answers_keep_their_order() -> None:
    def slow() -> list[Check]:
        time.sleep(0.1)
        return [Check("slow", Level.OK, "")]

    assert [check.name for check in answer([slow, lambda: [Check("fast", Level.OK, "")]])] == ["slow", "fast"]
