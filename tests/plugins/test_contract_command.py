"""`digitize contract` on methods of other distributions: what is sound passes, each fault is found by its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.cli.exit_codes import ExitCode
from tests.e2e.line import digitize
from tests.plugins.install import install


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "convex_points", "digitize.train")
    install(folder, "careless_points", "digitize.train")
    install(folder, "known_height", "digitize.scale")
    return install(folder, "widen", "digitize.stages")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


def failed(document: dict[str, Any], method: str) -> dict[str, str]:
    """The checks that failed, with their complaints."""
    return {each["check"]: "\n".join(each["complaints"]) for each in document["methods"][method] if not each["passed"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "method", "options"),
    [("train", "convex_points", ()), ("widen", "widen", ()), ("scale", "known_height", ("-o", "height_m=0.1"))],
)
def test_sound_plugins_pass(
    site: dict[str, str], folder: Path, stage: str, method: str, options: tuple[str, ...]
) -> None:
    document = digitize("contract", stage, method, *options, "--folder", str(folder), **site)
    assert document["passed"] and failed(document, method) == {}
    skipped = [each["check"] for each in document["methods"][method] if each["skipped"]]
    assert skipped == (["sphere"] if stage == "widen" else [])


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("random", "determinism", "expected equal files"),
        ("large", "sphere", "distance from the sphere"),
        ("swallow", "damage", "found a result that differs"),
        ("resume", "resume", "expected equal files"),
        ("litter", "run", "digitize-contract-litter"),
        ("memory", "run", "expected at most the declared 0.01 GB"),
    ],
)
def test_faults_are_found(
    site: dict[str, str], folder: Path, tmp_path: Path, fault: str, check: str, words: str
) -> None:
    arguments = ("contract", "train", "careless_points", "-o", f"fault={fault}", "--folder", str(folder))
    document = digitize(*arguments, expect=ExitCode.FAILED, **site, TMPDIR=str(tmp_path))
    found = failed(document, "careless_points")
    assert words in found[check], found
    assert set(found) <= ({check, "resume", "damage"} if fault == "random" else {check})


def test_names_that_are_not_known_are_refused() -> None:
    for arguments in (("trian",), ("train", "nope"), ("Not-a-stage",)):
        document = digitize("contract", *arguments, expect=ExitCode.USAGE)
        assert document["error"]["code"] == "not_built_yet"
