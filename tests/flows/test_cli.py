"""The command line as scripts see it: exit codes, one JSON document, errors with their place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.exit_codes import ExitCode, exit_code_of_error, exit_code_of_phases
from flows.cli.main import app
from flows.forecast.preflight import prepare
from flows.plan.batch_plan import plan_batch
from flows.status.files import read_status, with_stage, write_status
from infra.settings import RunSettings
from infra.storage import open_store
from models.errors import HINTS, DigitizeError, ReasonCode
from models.quality import Verdict
from models.resources import Resources
from models.results import Reason, StageResult
from models.spec_yaml import load_spec
from models.stage import Stage
from models.status import Phase
from tasks import registry
from tests.flows.cli_stubs import SOUND, commit_line, install, measured, set_status, write_batch
from tests.support import STAGES

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Told:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "method", registry.method)
    monkeypatch.setenv("COLUMNS", "200")
    install()
    yield


def tell(*arguments: object, code: int = 0) -> Told:
    """Run a command and check its exit code."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    told = Told(result.exit_code, result.stdout, result.stderr)
    assert result.exit_code == code, (told.out, told.err, result.exception)
    return told


def ask(*arguments: object, code: int = 0) -> dict[str, Any]:
    """The JSON document of a command; its head always says the same things."""
    document = tell(*arguments, "--json", code=code).document
    assert document["schema_version"] == 1
    assert document["command"] == arguments[0]
    assert document["exit_code"] == code
    assert "error" in document
    return document


# --- init, validate, schema -------------------------------------------------------------------------------------------


def test_init_finds_captures_and_its_file_is_valid(tmp_path: Path) -> None:
    write_batch(tmp_path, "Red Vase Nº 3", "true", "[bold]odd: name")
    (tmp_path / "batch.yaml").unlink()
    (tmp_path / "walk.MP4").write_bytes(b"")
    (tmp_path / "box.zip").write_bytes(b"")
    (tmp_path / "posed" / "images").mkdir(parents=True)
    (tmp_path / "posed" / "masks").mkdir()
    for name in ("images/a.png", "masks/a.png", "transforms.json"):
        (tmp_path / "posed" / name).write_bytes(b"")
    (tmp_path / "notes").mkdir()

    document = ask("init", tmp_path)
    found = {asset["id"]: asset for asset in document["assets"]}
    assert set(found) == {"red-vase-no-3", "true", "bold-odd-name", "walk", "box", "posed"}
    assert found["posed"]["masks"] == "posed/masks"
    assert ask("validate", tmp_path / "batch.yaml", code=0)["valid"]

    assert "already" in ask("init", tmp_path, code=ExitCode.USAGE)["error"]["message"]
    assert "[bold]odd: name" in tell("init", tmp_path, "--force").out


def test_init_of_nothing(tmp_path: Path) -> None:
    assert ask("init", tmp_path, code=2)["error"]["code"] == "source_empty"
    assert ask("init", tmp_path / "missing", code=2)["error"]["code"] == "source_not_found"


def test_validate_lists_every_mistake_with_its_line(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug")
    text = path.read_text().replace(
        "    photos: jug", "    photos: nowhere\n    stages: {train: {options: {stepz: 1, steps: many}}}"
    )
    path.write_text(text)
    lines = text.splitlines()
    mistakes = ask("validate", path, code=2)["mistakes"]
    where = {(each["line"], each["code"]) for each in mistakes}
    options = 1 + next(i for i, line in enumerate(lines) if "stepz" in line)
    photos = 1 + next(i for i, line in enumerate(lines) if "nowhere" in line)
    assert where == {(options, "spec_invalid"), (photos, "source_not_found")}
    assert len(mistakes) == 3
    human = tell("validate", path, code=2)
    assert f"{path}:{photos}" in human.out and "3 mistakes" in human.out


UNKNOWN_KEYS = {
    "top": ("name: shelf", "name: shelf\nzzz: 1"),
    "asset": ("  - id: cup", "  - id: cup\n    zzz: 1"),
    "scale": ("scale: {kind: none}", "scale:\n      kind: none\n      zzz: 1"),
    "target": ("publish: [{to: published}]", "publish:\n  - to: published\n    zzz: 1"),
    "stage": ("assets:", "stages:\n  train:\n    zzz: 1\nassets:"),
    "option": ("assets:", "stages:\n  train:\n    options:\n      zzz: 1\nassets:"),
    "gate": ("assets:", "gates:\n  - metric: psnr_mesh\n    at_least: 20\n    zzz: 1\nassets:"),
}


@pytest.mark.parametrize("place", UNKNOWN_KEYS)
def test_an_unknown_key_is_told_at_its_line(place: str, tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    path.write_text(path.read_text().replace(*UNKNOWN_KEYS[place]))
    line = 1 + next(i for i, text in enumerate(path.read_text().splitlines()) if "zzz" in text)
    for command in ("validate", "plan", "run"):
        document = ask(command, path, code=2)
        if command == "validate":
            assert [mistake["line"] for mistake in document["mistakes"]] == [line]
        else:
            assert document["error"]["path"] == f"{path}:{line}"
            assert "zzz" in document["error"]["message"]


def test_validate_shows_what_assets_resolve_to(tmp_path: Path) -> None:
    path = write_batch(tmp_path, extra="stages: {train: {options: {steps: 77}}}")
    document = ask("validate", path)
    assert document["assets"][0]["stages"]["train"] == {
        "method": "hash_density",
        "version": "1",
        "options": {"steps": 77},
    }
    assert "77" in tell("validate", path, "--verbose").out
    assert "77" not in tell("validate", path).out


def test_a_method_that_is_not_built(tmp_path: Path) -> None:
    path = write_batch(tmp_path, extra="stages: {train: {method: warp_drive}}")
    assert ask("validate", path, code=2)["mistakes"][0]["code"] == "not_built_yet"


def test_published_schema_is_the_present_one() -> None:
    published = (ROOT / "docs/batch.schema.json").read_text(encoding="utf-8")
    assert tell("schema").out == published, "write it again: digitize schema > docs/batch.schema.json"
    assert ask("schema")["schema"] == json.loads(published)


# --- plan -------------------------------------------------------------------------------------------------------------


def test_plan_says_what_runs_and_what_it_takes(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug")
    commit_line(path, "cup", until=Stage.POSE)
    document = ask("plan", path)
    cup, jug = document["assets"]
    states = ["cached", "cached", "will_run", "skipped", *["waits"] * 6]
    assert [each["state"] for each in cup["stages"].values()] == states
    assert [each["state"] for each in jug["stages"].values()] == [
        "will_run",
        "waits",
        "waits",
        "skipped",
        *["waits"] * 6,
    ]
    assert cup["photos"] == 1 and jug["photos"] == 2
    own = jug["stages"]["train"]
    assert own["samples"] == 0 and own["seconds"] == {"low": 10.0, "expected": 20.0, "high": 40.0}
    past = jug["stages"]["ingest"]
    assert past["samples"] == 1 and past["seconds"]["expected"] < 1
    assert document["total"]["stages"] == 16
    assert document["total"]["memory_gb"] == 1.5
    text = tell("plan", path).out
    assert "· 20s" in text and "16 stages to run" in text


@dataclass(frozen=True)
class Site:
    """Machines of a cluster."""

    all_gpus: float
    all_cpus: float

    def gpu_share(self, resources: Resources) -> float:
        """A quarter of a GPU for whatever needs one."""
        return 0.25 if resources.gpu_memory_gb else 0.0

    def gpus(self) -> float:
        return self.all_gpus

    def cpus(self) -> float:
        return self.all_cpus

    def close(self) -> None:
        return None


@pytest.mark.parametrize(("site", "expected"), [(Site(0.0, 8.0), 10), (Site(0.0, 1.0), 4)])
def test_plan_names_as_many_in_flight_as_run_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site, expected: int
) -> None:
    path = write_batch(tmp_path, *(f"a{number}" for number in range(12)))
    monkeypatch.setattr("flows.runner.make.make_runner", lambda *_: site)
    monkeypatch.setenv("DIGITIZE_RUNNER", "ray")
    monkeypatch.setenv("DIGITIZE_RAY_ADDRESS", "cluster:6379")
    total = ask("plan", path)["total"]
    batch = plan_batch(load_spec(path))
    decided, _ = prepare(batch.assets, None, RunSettings(), batch.store_uri, site)
    assert total["at_once"] == decided.at_once == expected
    assert total["available"]["memory_gb"] is None, "this machine's memory says nothing of the cluster's"
    monkeypatch.setenv("DIGITIZE_RAY_ADDRESS", "http://cluster:8265")
    document = ask("plan", path)
    assert document["total"]["at_once"] == 1 and "decides when the run begins" in " ".join(document["warnings"])


def test_plan_of_missing_photos_names_the_line_and_goes_on(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug")
    path.write_text(path.read_text().replace("photos: jug", "photos: gone"))
    document = ask("plan", path, code=ExitCode.FAILED)
    assert [asset["id"] for asset in document["assets"]] == ["cup"]
    assert document["unusable"]["jug"]["path"] == f"{path}:10"
    assert ask("plan", path, "--asset", "cup")["unusable"] == {}
    assert ask("plan", path, "--asset", "nobody", code=2)["error"]["code"] == "spec_invalid"


# --- status and explain -----------------------------------------------------------------------------------------------


def test_status_shows_lost_runs_as_lost(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug", "pan")
    commit_line(path, "cup")
    commit_line(path, "jug", until=Stage.POSE)
    running = ask("status", path)
    assert [asset["phase"] for asset in running["assets"]] == ["done", "running", "pending"]
    assert not running["assets"][1]["lost"]

    set_status(path, "jug", updated_at=time.time() - 3600)
    lost = ask("status", path, code=ExitCode.FAILED)["assets"][1]
    assert lost["lost"]
    assert "lost" in tell("status", path, code=4).out
    assert "next" in tell("explain", path, "jug", code=4).out


def test_status_without_a_specification(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    commit_line(path, "cup")
    store = tmp_path / "store"
    assert ask("status", "--store", store, "--batch", "shelf")["assets"][0]["id"] == "cup"
    missing = ask("status", "--store", store, "--batch", "attic", code=2)
    assert "shelf" in missing["error"]["message"]
    tell("status", code=2)
    tell("status", path, "--store", store, code=2)


def test_explain_tells_the_whole_story(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    poor = StageResult(metrics=measured(**{**SOUND, "psnr_mesh_corrected": 15.2}))
    commit_line(path, "cup", results={Stage.QUALITY: poor})
    document = ask("explain", path, "cup")
    assert document["asset"]["verdict"] == "review"
    assert document["asset"]["model"].endswith("published/assets/cup/v1/asset.glb")
    assert document["asset"]["gone"] == [str(tmp_path / "published/assets/cup/v1")]  # stubs publish nothing
    missed = [gate for gate in document["gates"] if not gate["passed"]]
    assert [(gate["metric"], gate["bound"], gate["value"]) for gate in missed] == [
        ("psnr_mesh_corrected", ">= 18", 15.2)
    ]
    assert document["tried"]["pose"][0]["registered"] == 2
    assert document["rejected_photos"] == [{"name": "bad[bold].jpg", "code": "blurred", "message": "sharpness 3"}]
    text = tell("explain", path, "cup").out
    for part in (
        "low_fidelity",
        HINTS[ReasonCode.LOW_FIDELITY],
        "bad[bold].jpg",
        "sift exhaustive",
        "0.7123",
        "report.html",
    ):
        assert part in text
    assert ask("explain", path, "nobody", code=2)["error"]["message"].endswith("expected one of cup, found 'nobody'")


def test_what_waits_for_review_is_found_in_the_store(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    commit_line(path, "cup", results={Stage.QUALITY: StageResult(verdict=Verdict.REVIEW)})
    store = open_store(str(tmp_path / "store"))
    status = read_status(store, "shelf", "cup")
    assert status is not None
    receipt = {"target": str(tmp_path / "published"), "published": False}
    write_status(store, with_stage(status, Stage.PUBLISH, facts={"receipts": [receipt]}))
    asset = ask("explain", path, "cup")["asset"]
    assert asset["held"] == [receipt["target"]] and asset["published"] == []
    assert asset["model"].startswith(f"{tmp_path}/store/work/cup/export/") and Path(asset["model"]).is_file()
    write_status(store, status.model_copy(update={"verdict": Verdict.REJECT}))
    assert ask("explain", path, "cup")["asset"]["held"] == []


def test_smaller_settings_are_said(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    commit_line(path, "cup", results={Stage.TRAIN: StageResult(lowered={"steps": 500})})
    said = {"because": "out_of_memory", "asked": {"steps": 1000}, "used": {"steps": 500}}
    for command in (("explain", path, "cup"), ("status", path)):
        document = ask(*command)
        asset = document["asset"] if "asset" in document else document["assets"][0]
        assert asset["stages"]["train"]["stepped_down"] == said
        assert asset["stages"]["pose"]["stepped_down"] is None
    assert "train: steps 1000 -> 500 (out_of_memory)" in tell("explain", path, "cup").out


def test_explain_of_a_failure(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    commit_line(path, "cup", until=Stage.POSE)
    error = DigitizeError(ReasonCode.OUT_OF_MEMORY, "expected 4 GB, found [red]1 GB[/red]\x1b[2J", retryable=True)
    set_status(path, "cup", phase=Phase.QUARANTINED, failure=error)
    told = tell("explain", path, "cup", code=ExitCode.FAILED)
    assert "[red]1 GB[/red]" in told.out and "\x1b[2J" not in told.out and "\\x1b[2J" in told.out
    assert "digitize run" in told.out
    document = ask("explain", path, "cup", code=4)
    assert document["asset"]["failure"]["code"] == "out_of_memory"
    assert document["next"].endswith("--asset cup")


def test_a_rejected_asset_has_its_own_exit_code(tmp_path: Path) -> None:
    path = write_batch(tmp_path)
    reason = Reason.of(ReasonCode.NO_OVERLAP, "2 of 9 photos connect")
    reject = StageResult(verdict=Verdict.REJECT, reasons=(reason,))
    commit_line(path, "cup", until=Stage.POSE, results={Stage.POSE: reject})
    assert ask("status", path, code=ExitCode.REJECTED)["assets"][0]["reasons"][0]["code"] == "no_overlap"
    states = [each["state"] for each in ask("plan", path)["assets"][0]["stages"].values()]
    assert states == ["cached", "cached", "not_reached", "skipped", *["not_reached"] * 6]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan", "run", "status", "explain", "rerun", "doctor"])
def test_a_missing_specification(command: str, tmp_path: Path) -> None:
    extra = {"explain": ["cup"], "rerun": ["--from", "pose"]}.get(command, [])
    path = tmp_path / "[bold]none.yaml"
    document = ask(command, path, *extra, code=2)
    text = tell(command, path, *extra, code=2)
    assert "[bold]none.yaml" in text.out + text.err
    if command != "validate":
        assert document["error"]["code"] == "source_not_found"
        assert "digitize init" in text.err and "Traceback" not in text.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in tell("plan", tmp_path / "none.yaml", "--debug", code=2).err


def test_a_defect_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("[bold] unexpected")

    monkeypatch.setattr("flows.forecast.estimate.forecast", broken)
    path = write_batch(tmp_path)
    assert ask("plan", path, code=ExitCode.INTERNAL)["error"]["code"] == "internal"
    told = tell("plan", path, code=1)
    assert "RuntimeError: [bold] unexpected" in told.err and "--debug" in told.err


def test_ctrl_c_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.forecast.estimate.forecast", interrupted)
    path = write_batch(tmp_path)
    assert ask("plan", path, code=ExitCode.CANCELLED)["error"]["code"] == "cancelled"
    assert "nothing that was committed is lost" in tell("plan", path, code=130).err


def test_exit_codes() -> None:
    assert exit_code_of_error(ReasonCode.STORE_UNREACHABLE) is ExitCode.NOT_READY
    assert exit_code_of_error(ReasonCode.DIVERGED) is ExitCode.FAILED
    assert exit_code_of_phases([Phase.DONE, Phase.REJECTED]) is ExitCode.REJECTED
    assert exit_code_of_phases([Phase.QUARANTINED, Phase.REJECTED]) is ExitCode.FAILED
    assert exit_code_of_phases([Phase.DONE]) is ExitCode.OK
    table = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {code.value} | {code.name.lower()} |" in table


def test_a_programme_of_many(tmp_path: Path) -> None:
    """Two assets whose stages are expected to take 20 s each, on no GPU and one core a stage."""
    path = write_batch(tmp_path, "cup", "jug")
    document = ask("plan", path, "--assets", "600", "--gpus", "0", "--cores", "10")
    [row] = document["rows"]
    assert (document["assets"], document["planned_from"], document["measured"]) == (600, 2, 0)
    # sizes vary with a logarithmic spread of 0.35: their mean is exp(0.35^2 / 2) = 1.063
    assert row["seconds"] == pytest.approx(1.063 * 600 * 20 * len(STAGES) / 10, rel=0.06)
    larger = ask("plan", path, "--assets", "1000000", "--gpus", "0", "--cores", "10")["rows"][0]
    assert larger["seconds"] == pytest.approx(row["seconds"] * 1e6 / 600, rel=0.06)
    assert "1,000,000 assets" in tell("plan", path, "--assets", "1000000", "--gpus", "0").out
    assert ask("plan", path)["total"]["stages"] == 2 * len(STAGES)
