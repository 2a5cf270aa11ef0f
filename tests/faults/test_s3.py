"""An S3 server that errs: the same published digests in the end, whatever it answered on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.storage import S3Store
from models.errors import DigitizeError, ReasonCode
from models.status import Phase
from tests.faults.micro import digitize, micro_plan, published
from tests.faults.s3_proxy import FaultyS3


@pytest.fixture
def faulty(s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    proxy = FaultyS3(s3_endpoint, seed=3)
    monkeypatch.setenv("DIGITIZE_S3_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run publishes."""
    folder = tmp_path_factory.mktemp("quiet")
    digitize(micro_plan(str(folder / "store"), str(folder / "published"), ["one"]), folder / "scratch")
    return published(str(folder / "published"))


@pytest.mark.parametrize(
    ("fault", "share"),
    [
        ("wrong", 0.2),
        pytest.param("half", 0.2, marks=pytest.mark.slow),
        pytest.param("500", 0.15, marks=pytest.mark.slow),
        pytest.param("503", 0.15, marks=pytest.mark.slow),
        pytest.param("late", 0.1, marks=pytest.mark.slow),
        pytest.param("slow", 0.05, marks=pytest.mark.slow),
    ],
)
def test_the_same_digests(
    faulty: FaultyS3, s3_bucket: str, quiet: dict[str, str], tmp_path: Path, fault: str, share: float
) -> None:
    plan = micro_plan(f"{s3_bucket}/work", f"{s3_bucket}/museum", ["one"])
    faulty.fault, faulty.share = fault, share
    for _ in range(4):  # a night that fails is followed by the next one
        if all(status.phase is Phase.DONE for status in digitize(plan, tmp_path)):
            break
    assert faulty.planted[fault] > 1
    faulty.share = 0.0
    assert published(f"{s3_bucket}/museum") == quiet


def test_expired_credentials_are_named_and_nothing_is_lost(
    faulty: FaultyS3, s3_bucket: str, quiet: dict[str, str], tmp_path: Path
) -> None:
    plan = micro_plan(f"{s3_bucket}/work", f"{s3_bucket}/museum", ["one"])
    faulty.fault, faulty.share = "expired", 1.0
    statuses = digitize(plan, tmp_path, tries=1)
    assert {status.phase for status in statuses} == {Phase.QUARANTINED}
    failure = statuses[0].failure
    assert failure is not None and failure.code is ReasonCode.STORE_UNREACHABLE and failure.retryable
    assert "ExpiredToken" in failure.message
    faulty.share = 0.0  # new credentials
    assert {status.phase for status in digitize(plan, tmp_path)} == {Phase.DONE}
    assert published(f"{s3_bucket}/museum") == quiet


def test_wrong_bytes_are_never_believed(faulty: FaultyS3, s3_bucket: str, tmp_path: Path) -> None:
    store = S3Store(f"{s3_bucket}/x")
    (tmp_path / "in").write_bytes(b"checkpoint" * 1000)
    store.put_file("state", tmp_path / "in")
    store.put_bytes("marker", b"{}")
    faulty.fault, faulty.share = "wrong", 1.0
    with pytest.raises(DigitizeError) as caught:
        store.get_file("state", tmp_path / "out")
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH and caught.value.retryable
    with pytest.raises(DigitizeError) as caught:
        store.get_bytes("marker")
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH
