"""What the Prefect UI is given: the time left, and pages that say what `explain` says. The UI itself: docs/images."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import pytest
from PIL import Image

from flows.forecast.estimate import forecast, spread
from flows.forecast.eta import Eta, words
from flows.forecast.history import History, comparable
from flows.plan.batch_plan import plan_batch
from flows.plan.committed import BatchPlan
from flows.plan.walks import Walks
from flows.prefect_server.artifacts import artifact_key
from flows.prefect_server.automations import automations
from flows.status.account import give_account, read_statuses
from flows.status.page import asset_page, thumbnail
from infra.catalogue import Catalogue
from infra.database import Database, stage_times
from infra.storage import open_store
from models.digest import digest_of
from models.errors import ReasonCode
from models.quality import Gate, Verdict
from models.results import Reason, StageResult
from models.spec_yaml import load_spec
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState, StageStatus
from tests.flows.cli_stubs import MODULES, SOUND, commit_line, install, measured, write_batch
from tests.flows.test_cli import ask
from tests.support import STAGES


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import registry

    monkeypatch.setattr(registry, "method", registry.method)
    install()


@pytest.fixture
def plan(tmp_path: Path) -> BatchPlan:
    return plan_batch(load_spec(write_batch(tmp_path / "shelf", "cup", "jug")))


def note_times(catalogue: Catalogue, plan: BatchPlan, factors: list[float], options: str | None = None) -> None:
    """Commits of other assets that took `factor` times what the stub methods estimate: 10 s a photo."""
    asset = plan.assets[0]
    rows = [
        {
            **{"store": "/other", "asset": f"a{number}", "stage": stage, "stage_key": "k", "photos": 2},
            **{"method": asset.stages[stage].method, "version": asset.stages[stage].version},
            **{"options": options or digest_of(comparable(asset.stages[stage].options))},
            **{"seconds": 20.0 * factor, "cpu_seconds": 1.0, "peak_memory_gb": 1.0, "seen_at": time.time()},
        }
        for number, factor in enumerate(factors)
        for stage in STAGES
    ]
    catalogue.database.put(stage_times, rows)


def eta_of(plan: BatchPlan, catalogue: Catalogue | None, at_once: int = 1) -> Eta:
    """The time that a batch is expected to take."""
    store = open_store(plan.store_uri)
    return Eta(forecast(plan, Walks(plan, store), History(catalogue, store.uri)), at_once)


def test_the_time_left_is_a_range_from_history(plan: BatchPlan, tmp_path: Path) -> None:
    catalogue = Catalogue(Database(f"sqlite:///{tmp_path / 'catalogue.db'}"))
    fresh = [AssetStatus(batch="shelf", asset=asset.id) for asset in plan.assets]
    note_times(catalogue, plan, [100.0] * 9, options="other options: another preset, say")
    assert eta_of(plan, catalogue).remaining(fresh) == tuple(2 * len(STAGES) * each for each in (10.0, 20.0, 40.0)), (
        "the methods' own guess"
    )
    note_times(catalogue, plan, [2.0 + 0.25 * number for number in range(9)])  # half of them took 3 times as long
    low, middle, high = eta_of(plan, catalogue).remaining(fresh)
    assert middle == pytest.approx(2 * len(STAGES) * 20.0 * 3.0)
    assert low == pytest.approx(2 * len(STAGES) * 20.0 * 2.2) and high == pytest.approx(2 * len(STAGES) * 20.0 * 3.8)
    assert eta_of(plan, catalogue, 2).remaining(fresh)[1] == pytest.approx(middle / 2)


def test_what_is_done_is_no_time_left(plan: BatchPlan) -> None:
    eta = eta_of(plan, None)
    half = {stage: StageStatus(state=StageState.COMMITTED) for stage in STAGES[:3]}
    half[STAGES[3]] = StageStatus(state=StageState.RUNNING, share=0.5)
    statuses = [
        AssetStatus(batch="shelf", asset="cup", phase=Phase.RUNNING, stages=half),
        AssetStatus(batch="shelf", asset="jug", phase=Phase.REJECTED),
    ]
    assert eta.remaining(statuses)[1] == pytest.approx((len(STAGES) - 3.5) * 20.0)
    assert eta.progress(statuses) == pytest.approx((len(STAGES) + 3.5) / (2 * len(STAGES)))
    slow = {stage: status.model_copy(update={"seconds": 60.0}) for stage, status in half.items()}
    statuses[0] = statuses[0].model_copy(update={"stages": slow})
    assert eta.remaining(statuses)[1] == pytest.approx((len(STAGES) - 3.5) * 60.0), "this run takes three times as long"


def test_ranges_in_words() -> None:
    assert spread([1.0, 2.0, 3.0])[1] == 2.0
    assert words((1.0, 2.0, 40.0)) == "a minute"
    assert words((20.0, 70.0, 130.0)) == "1 to 2 min"
    assert words((1800.0, 5400.0, 9000.0)) == "0.5 to 2.5 h"


def test_a_page_says_what_explain_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", extra="gates: [{metric: psnr_mesh, at_least: 30, otherwise: review}]")
    picture = io.BytesIO()
    Image.new("RGB", (900, 600), (200, 10, 10)).save(picture, "JPEG")
    reason = Reason.of(ReasonCode.LOW_FIDELITY, "expected psnr_mesh >= 30, found 25.1 | pipe")
    figures = measured(**SOUND, psnr_mesh=25.1)
    results = {Stage.QUALITY: StageResult(metrics=figures, verdict=Verdict.REVIEW, reasons=(reason,))}
    from tests.flows import cli_stubs

    commit_line(spec, "cup", results={**cli_stubs.RESULTS, **results})
    store = open_store(str(spec.parent / "store"))
    account = give_account(store, read_statuses(store, "shelf", ["cup"])[0])
    page = asset_page(account)
    told = ask("explain", spec, "cup")
    assert page.startswith("# cup: done, review")
    assert "low_fidelity" in page and "found 25.1 \\| pipe" in page
    for gate in told["gates"]:
        mark = "yes" if gate["passed"] else "**no**"
        assert page.count(f"| {mark} | {gate['metric']} | {gate['value']:.4g} | {gate['bound']} |") == 1
    named = [(gate["metric"], gate["bound"]) for gate in told["gates"]]
    assert len(named) == len(set(named)) and ("registered_share", ">= 0.8") in named
    assert told["asset"]["model"] in page and "| pose | committed |" in page
    assert thumbnail(store, account) == ""
    assert Gate(metric="psnr_mesh", at_least=30).bound == ">= 30"
    monkeypatch.setenv("DIGITIZE_PUBLISHED_URL", "https://assets.example.org/")
    assert "[cup/v1/report.html](https://assets.example.org/assets/cup/v1/report.html)" in asset_page(account)
    assert MODULES[Stage.POSE].VERSION == "1"


def test_pictures_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    dones = commit_line(spec, "cup")
    store = open_store(str(spec.parent / "store"))
    quality = dones[Stage.QUALITY]
    picture = io.BytesIO()
    Image.effect_noise((1600, 1200), 80).save(picture, "JPEG")
    from models.results import FileRef

    store.put_bytes(f"{quality.ref.uri.removeprefix('store:')}/preview.jpg", picture.getvalue())
    listed = (*quality.files, FileRef(path="preview.jpg", sha256="x", bytes=1))
    account = give_account(store, read_statuses(store, "shelf", ["cup"])[0])
    account.dones[Stage.QUALITY] = quality.model_copy(update={"files": listed})
    url = thumbnail(store, account)
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (320, 240)
    assert len(url) < 80_000


def test_names_become_keys() -> None:
    assert artifact_key("Vase.3_B") == "vase-3-b"


def test_automations_watch_our_flows_alone() -> None:
    zombies, alarm = automations()
    for each in (zombies, alarm):
        assert each.trigger.match_related.root["prefect.resource.role"] == "flow"  # type: ignore[union-attr]
    assert zombies.trigger.within.total_seconds() <= 180  # type: ignore[union-attr]
    names = alarm.trigger.match_related.root["prefect.resource.name"]  # type: ignore[union-attr]
    assert "digitize_nightly" not in names, "a night tells by itself"
