"""What is wrong around digitize is told as such: which variable or place, what was found, what to set."""

from __future__ import annotations

import errno
import importlib.util
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.faults import as_fault
from flows.cli.main import app
from flows.forecast.preflight import preflight
from infra.proxies import bypass_local
from infra.settings import NightSettings, RunSettings, UploadSettings
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from tests.flows.cli_stubs import write_batch
from tests.flows.test_scheduling import Machines, plans

SETTINGS: dict[str, tuple[Callable[[], object], str, str]] = {
    "DIGITIZE_THREADS": (RunSettings, "two", "expected a valid integer"),
    "DIGITIZE_RUNNER": (RunSettings, "cloud", "expected 'inline' or 'ray'"),
    "DIGITIZE_DEVICE": (RunSettings, "gpu", "expected 'auto', 'cpu' or 'cuda'"),
    "DIGITIZE_ASSETS_AT_ONCE": (RunSettings, "-1", "greater than or equal to 0"),
    "DIGITIZE_GPU_HOURS": (RunSettings, "0", "greater than 0"),
    "DIGITIZE_GPU_MEMORY_GB": (RunSettings, "24GB", "expected a valid number"),
    "DIGITIZE_MIN_SUCCESS_RATIO": (NightSettings, "90", "less than or equal to 1"),
    "DIGITIZE_TRIES": (NightSettings, "none", "expected a valid integer"),
    "DIGITIZE_UPLOADS_PUSH_PORT": (UploadSettings, "99999", "less than or equal to 65535"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_named_with_its_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, value, words = SETTINGS[name]
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="Settings") as caught:
        make()
    told = as_fault(caught.value)
    assert told is not None and told.code is ReasonCode.SPEC_INVALID
    assert told.message.startswith(f"{name}: ") and words in told.message and f"found {value!r}" in told.message


PLACES: dict[str, tuple[int, str, ReasonCode | None, str]] = {
    "a read-only store": (errno.EROFS, "/mnt/x/store", ReasonCode.ENVIRONMENT, "Choose a place"),
    "somebody else's folder": (errno.EACCES, "/mnt/x/photos", ReasonCode.ENVIRONMENT, "Choose a place"),
    "a home that is not there": (errno.ENOENT, "/nope/.local/share", ReasonCode.ENVIRONMENT, "Set HOME"),
    "a home that is a file": (errno.ENOTDIR, "/nope/.config", ReasonCode.ENVIRONMENT, "Set HOME"),
    "a full disk": (errno.ENOSPC, "/mnt/x/store", ReasonCode.OUT_OF_DISK, ""),
    "a quota": (errno.EDQUOT, "/mnt/x/store", ReasonCode.OUT_OF_DISK, ""),
    "a path too long": (errno.ENAMETOOLONG, "/mnt/x/store", ReasonCode.ENVIRONMENT, "Choose a place"),
    "a broken disk": (errno.EIO, "/mnt/x/store", ReasonCode.ENVIRONMENT, "Choose a place"),
    "a share that is gone": (errno.ESTALE, "/mnt/x/store", ReasonCode.ENVIRONMENT, "Choose a place"),
    "a file of ours that is missing": (errno.ENOENT, "/usr/lib/digitize/weights.txt", None, ""),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_cannot_be_used_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number, path, code, hint = PLACES[name]
    monkeypatch.setenv("HOME", "/nope")
    told = as_fault(OSError(number, "why", path))
    assert (None if told is None else told.code) is code
    assert told is None or (told.path == path and hint in told.hint)


PROXIES: list[tuple[dict[str, str], str | None]] = [
    ({}, None),
    ({"HTTP_PROXY": "http://proxy:3128"}, "localhost,127.0.0.1,::1"),
    ({"https_proxy": "http://proxy:3128"}, "localhost,127.0.0.1,::1"),
    ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": ".museum.example"}, ".museum.example,localhost,127.0.0.1,::1"),
    ({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "127.0.0.1, a"}, "127.0.0.1,a,localhost,::1"),
    ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "*"),
    ({"NO_PROXY": "a"}, "a"),
]


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelt in (name, name.lower()):
            monkeypatch.setenv(spelt, "")  # noted, so that what the code sets is taken back
            monkeypatch.delenv(spelt)
    return monkeypatch


@pytest.mark.parametrize(("given", "bypassed"), PROXIES)
def test_servers_of_this_machine_are_reached_past_a_proxy(
    given: dict[str, str], bypassed: str | None, no_proxy: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        no_proxy.setenv(name, value)
    bypass_local()
    assert os.environ.get("NO_PROXY") == bypassed
    if bypassed and "localhost" in bypassed:
        assert urllib.request.proxy_bypass("127.0.0.1") and not urllib.request.proxy_bypass("prefect.example")


def test_a_socks_proxy_that_nothing_speaks_is_named(no_proxy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_proxy.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    no_proxy.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["plan", str(write_batch(tmp_path, "cup"))])
    assert result.exit_code == 5 and "ALL_PROXY=socks5://127.0.0.1:1080" in result.stderr
    assert "httpx[socks]" in result.stderr and "defect" not in result.stderr


def test_a_proxy_that_does_not_answer_is_named(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxy.setenv("DIGITIZE_S3_ENDPOINT_URL", "http://store.museum.example:9000")
    no_proxy.setenv("DIGITIZE_S3_ACCESS_KEY_ID", "k")
    no_proxy.setenv("DIGITIZE_S3_SECRET_ACCESS_KEY", "s")
    with pytest.raises(DigitizeError, match="proxy") as caught:
        open_store("s3://bucket/x").stat("a")
    assert caught.value.code is ReasonCode.STORE_UNREACHABLE
    assert "HTTP_PROXY=http://127.0.0.1:1" in caught.value.hint and "NO_PROXY" in caught.value.hint


def test_a_defect_stays_one() -> None:
    assert as_fault(RuntimeError("x")) is None and as_fault(OSError(errno.EACCES, "no place")) is None
    assert as_fault(KeyError("x")) is None


def test_the_command_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITIZE_THREADS", "two")
    result = CliRunner().invoke(app, ["plan", str(write_batch(tmp_path, "cup"))])
    assert result.exit_code == 2 and "DIGITIZE_THREADS" in result.stderr and "defect" not in result.stderr


@pytest.mark.parametrize("kind", ["nowhere", "a file"])
def test_scratch_and_store_must_be_usable(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    bad = Path("/proc/nope") if kind == "nowhere" else tmp_path / "file"
    with pytest.raises(DigitizeError, match="for the scratch") as caught:
        preflight(plans(tmp_path, a=0), RunSettings(scratch=bad), str(tmp_path / "store"), Machines(), 1)
    assert caught.value.code is ReasonCode.ENVIRONMENT and "DIGITIZE_SCRATCH" in caught.value.hint
    with pytest.raises(DigitizeError, match="for the store") as caught:
        preflight(plans(tmp_path, a=0), RunSettings(), str(tmp_path / "file" / "store"), Machines(), 1)
    assert caught.value.code is ReasonCode.ENVIRONMENT and "`store`" in caught.value.hint
