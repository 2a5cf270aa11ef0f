"""Nights on stub stages: what changed is run, the rest is left alone, and how it ended is said once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from flows.deployments import schedule
from flows.nightly.changes import Need
from flows.nightly.night import Night
from flows.nightly.run import make_agenda, run_night
from flows.nightly.summary import summary_document, tell
from infra.catalogue import Catalogue
from infra.database import Database
from infra.settings import NightSettings, RunSettings
from models.errors import DigitizeError
from models.spec_yaml import load_spec
from models.stage import Stage
from tests.flows.cli_stubs import MODULES, install, plain_batch, write_batch
from tests.flows.test_cli_run import finish, start


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import registry

    monkeypatch.setattr(registry, "method", registry.method)
    install()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(Database(f"sqlite:///{tmp_path / 'catalogue.db'}"))


def night(spec: Path, catalogue: Catalogue, **settings: Any) -> Night:
    run = plain_batch(spec.parent)
    return run_night(spec, NightSettings(**settings), RunSettings(), catalogue=catalogue, run=run)


def needs(made: Night) -> dict[str, str]:
    return {change.asset: change.need.value for change in made.agenda.changes}


def why(made: Night, asset: str) -> str:
    return next(change.why for change in made.agenda.changes if change.asset == asset)


def test_only_what_changed_is_run(tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "jug")
    first = night(spec, catalogue)
    assert needs(first) == {"cup": "run", "jug": "run"} and first.counts == {"done": 2} and first.ok
    assert why(first, "cup") == "it is new"

    second = night(spec, catalogue)
    assert needs(second) == {"cup": "keep", "jug": "keep"}
    assert second.outcome is None and second.ok and second.counts == {"keep": 2}

    Image.new("RGB", (40, 30), (9, 9, 9)).save(spec.parent / "cup" / "p9.jpg")
    third = night(spec, catalogue)
    assert needs(third) == {"cup": "run", "jug": "keep"} and "photos" in why(third, "cup")

    spec.write_text(spec.read_text().replace("assets:", "stages: {surface: {options: {resolution: 99}}}\nassets:"))
    assert "surface: options" in why(night(spec, catalogue), "jug")

    monkeypatch.setattr(MODULES[Stage.POSE], "VERSION", "2")
    assert "pose: colmap is version 2, it was 1" in why(night(spec, catalogue), "jug")

    spec.write_text(spec.read_text() + "  - {id: pot, photos: cup, scale: {kind: none}}\n")
    last = night(spec, catalogue)
    assert needs(last) == {"cup": "keep", "jug": "keep", "pot": "run"}
    counts = [each["counts"] for each in catalogue.nights("shelf")]
    assert counts[0] == {"done": 1, "keep": 2} and len(counts) == 6


def test_failures_do_not_fail_the_night_until_they_are_too_many(tmp_path: Path, catalogue: Catalogue) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "broken", "jug")
    first = night(spec, catalogue, min_success_ratio=0.6, tries=2)
    assert first.ok and first.success_ratio == pytest.approx(2 / 3)
    assert first.counts == {"done": 2, "quarantined": 1}
    again = night(spec, catalogue, min_success_ratio=0.6, tries=2)
    assert needs(again)["broken"] == "run" and not again.ok and again.success_ratio == 0.0
    parked = night(spec, catalogue, min_success_ratio=0.6, tries=2)
    assert needs(parked) == {"cup": "keep", "broken": "parked", "jug": "keep"} and parked.ok
    Image.new("RGB", (40, 30), (9, 9, 9)).save(spec.parent / "broken" / "p9.jpg")
    assert needs(night(spec, catalogue, tries=2))["broken"] == "run"


def test_a_missing_folder_is_one_asset_s_trouble(tmp_path: Path, catalogue: Catalogue) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    spec.write_text(spec.read_text() + "  - {id: gone, photos: gone, scale: {kind: none}}\n")
    made = night(spec, catalogue, min_success_ratio=0.5)
    assert made.ok and made.counts == {"done": 1, "quarantined": 1}


def test_captures_wait_until_they_are_complete(tmp_path: Path, catalogue: Catalogue) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    spec.write_text(spec.read_text() + "captures: [{under: uploads, scale: {kind: none}}]\n")
    folder = spec.parent / "uploads" / "vase"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "a.jpg")
    waiting = night(spec, catalogue)
    assert needs(waiting) == {"cup": "run"} and waiting.counts == {"done": 1, "waiting": 1}
    assert summary_document(waiting)["waiting"] == [{"capture": "vase", "files": 1, "missing": [], "problem": ""}]
    (folder / "capture.json").write_text("{}")
    assert needs(night(spec, catalogue)) == {"cup": "keep", "vase": "run"}


def test_a_lost_catalogue_costs_a_look_at_the_manifests(tmp_path: Path, catalogue: Catalogue) -> None:
    """What is published is recognised by its stage keys, on another machine too."""
    from infra.storage import open_store
    from tests.infra.test_catalogue import publish

    spec = write_batch(tmp_path / "shelf", "cup", "jug")
    plan = make_agenda(spec, catalogue, NightSettings()).plan
    target = open_store(str(spec.parent / "published"))
    for asset in plan.assets:
        manifest = publish(target, asset.id)
        provenance = [
            each.model_copy(
                update={
                    "key": asset.request(Stage.INGEST, {}).key if each.stage == "ingest" else "any",
                    "method": asset.stages[Stage(each.stage)].method,
                    "options": asset.stages[Stage(each.stage)].options,
                }
            )
            for each in manifest.provenance
        ]
        changed = manifest.model_copy(update={"provenance": tuple(provenance)})
        target.put_bytes(f"assets/{asset.id}/v1/manifest.json", changed.model_dump_json().encode())
    fresh = Catalogue(Database(f"sqlite:///{tmp_path / 'new.db'}"))
    agenda = make_agenda(spec, fresh, NightSettings())
    assert [change.need for change in agenda.changes] == [Need.KEEP, Need.KEEP]
    Image.new("RGB", (40, 30), (9, 9, 9)).save(spec.parent / "cup" / "p9.jpg")
    changes = {change.asset: change for change in make_agenda(spec, fresh, NightSettings()).changes}
    assert changes["cup"].need is Need.RUN and "photos" in changes["cup"].why
    assert changes["jug"].need is Need.KEEP


def test_a_catalogue_that_fails_afterwards_is_said_and_not_fatal(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")

    def broken(*_: object, **__: object) -> None:
        raise DigitizeError("store_unreachable", "the database is gone")  # type: ignore[arg-type]

    monkeypatch.setattr(catalogue, "record_outcomes", broken)
    made = night(spec, catalogue)
    assert made.ok and made.counts == {"done": 1}
    assert made.errors == ("the catalogue: the database is gone",)


class _Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    _Receiver.got.clear()
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_message_with_a_link(tmp_path: Path, catalogue: Catalogue, receiver: HTTPServer) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "broken")
    made = night(spec, catalogue)
    settings = NightSettings(notify_url=f"json://127.0.0.1:{receiver.server_port}/hook")  # type: ignore[arg-type]
    assert tell(made, settings, "http://ui/runs/flow-run/1")
    message = _Receiver.got
    assert len(message) == 1
    assert "night FAILED: 1 done, 1 quarantined" in message[0]["title"] and message[0]["type"] == "failure"
    assert "broken: no_features" in message[0]["message"] and "http://ui/runs/flow-run/1" in message[0]["message"]


def test_a_message_that_nobody_takes_changes_nothing(
    tmp_path: Path, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    made = night(write_batch(tmp_path / "shelf", "cup"), catalogue)
    for url in ("json://user:hush@127.0.0.1:9/hook", "nonsense", "xyz://hush"):
        assert not tell(made, NightSettings(notify_url=url), "")  # type: ignore[arg-type]
    assert not tell(made, NightSettings(), "")
    assert "hush" not in caplog.text


def test_the_clock_of_a_place(tmp_path: Path) -> None:
    """22:00 in Rome is 20:00 UTC in summer and 21:00 in winter."""
    import asyncio
    from datetime import UTC, datetime

    from prefect.server.schemas.schedules import CronSchedule

    made = schedule("0 22 * * *", "Europe/Rome")
    server_side = CronSchedule(cron=made.cron, timezone=made.timezone)
    start_at = datetime(2026, 10, 24, tzinfo=UTC)
    dates = asyncio.run(server_side.get_dates(n=2, start=start_at))
    assert [each.astimezone(UTC).hour for each in dates] == [20, 21]
    for cron, zone in (("0 25 * * *", "UTC"), ("0 22 * * *", "Europe/Atlantis"), ("soon", "UTC")):
        with pytest.raises(DigitizeError, match="cron expression"):
            schedule(cron, zone)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own: what runs is a Prefect flow run; what has nothing to do starts nothing heavy."""
    monkeypatch.setenv("DIGITIZE_DATABASE_URL", f"sqlite:///{tmp_path / 'catalogue.db'}")
    monkeypatch.setenv("DIGITIZE_MIN_SUCCESS_RATIO", "0.4")
    folder = tmp_path / "shelf"
    spec = write_batch(folder, "cup", "broken")
    document, told = finish(start(folder, "nightly", spec, "--json"), code=0)
    assert document["counts"] == {"done": 1, "quarantined": 1} and document["run"]
    assert json.loads(Path(document["summary"]).read_text())["counts"] == document["counts"]
    assert "night ended: 1 done, 1 quarantined" in told
    document, _ = finish(start(folder, "nightly", spec, "--json", "--min-success-ratio", "0.9"), code=4)
    assert document["counts"] == {"keep": 1, "quarantined": 1} and not document["ok"]
    spec.write_text(spec.read_text().partition("  - id: broken")[0])
    document, _ = finish(start(folder, "nightly", spec, "--json"), code=0)
    assert document["counts"] == {"keep": 1} and document["run"] is None
    assert "prefect" not in json.loads((folder / "heavy.json").read_text())
    assert load_spec(spec).spec.name == document["batch"]
