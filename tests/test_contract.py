"""Every registered method of every stage keeps the contract: the suite of `digitize contract`, one test a method."""

from __future__ import annotations

import pytest

from flows.contract.subject import Bench
from flows.contract.suite import check_method, every_method
from models.stage import Stage

METHODS = [pytest.param(stage, name, id=f"{stage}-{name}") for stage, name in every_method()]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The captures, and the inputs of each stage, made once for all methods."""
    return Bench(tmp_path_factory.mktemp("contract"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves torn .npz files open
@pytest.mark.parametrize("every_kill", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "every-kill"])
@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_contract(bench: Bench, stage: Stage, name: str, every_kill: bool) -> None:
    checks = list(check_method(stage, name, bench, every_kill=every_kill))
    skipped = {check.skipped for check in checks if check.skipped}
    assert [f"{check.name}: {each}" for check in checks for each in check.complaints] == []
    if skipped:
        pytest.skip("; ".join(sorted(skipped)))


def test_the_suite_covers_the_line() -> None:
    found = every_method()
    assert {("ingest", "photos"), ("pose", "colmap"), ("train", "hash_sdf"), ("publish", "versioned")} <= set(found)
    assert len(found) == len(set(found)) >= 16
