"""`run` and `rerun` in processes of their own, with Prefect and stub stages; and how light the rest is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.flows.cli_stubs import write_batch

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """The driver with these arguments."""
    environment = {**os.environ, "PREFECT_HOME": str(folder.parent / "prefect"), "COLUMNS": "160"}
    environment.pop("PREFECT_API_URL", None)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.flows.cli_driver", str(folder), *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int) -> tuple[dict[str, Any], str]:
    """The JSON document and what people read."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (process.returncode, out, err)
    return json.loads(out), err


def heavy(folder: Path) -> list[str]:
    loaded: list[str] = json.loads((folder / "heavy.json").read_text())
    return loaded


def followed(folder: Path) -> dict[str, int]:
    """How often the last command looked for each commit, by asset, stage and key."""
    found: dict[str, int] = json.loads((folder / "followed.json").read_text())
    return found


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch that ran: one asset accepted, one failed."""
    folder = tmp_path_factory.mktemp("shelf") / "first"
    path = write_batch(folder, "cup", "broken")
    document, told = finish(start(folder, "run", path, "--json"), code=4)
    assert document["ran"] is True
    assert {asset["id"]: asset["phase"] for asset in document["assets"]} == {"cup": "done", "broken": "quarantined"}
    assert document["counts"] == {"done": 1, "quarantined": 1}
    failure = document["assets"][1]["failure"]
    assert (failure["code"], failure["stage"]) == ("no_features", "pose")
    assert "[bold]none[/bold]" in told and failure["hint"] in told
    assert "cup  train  committed" in told
    return path


def test_second_run_is_light(shelf: Path) -> None:
    document, told = finish(start(shelf.parent, "run", shelf, "--asset", "cup", "--json"), code=0)
    assert document["ran"] is False and document["assets"][0]["verdict"] == "accept"
    assert "nothing to do" in told
    assert heavy(shelf.parent) == []


def test_a_run_follows_the_commits_of_each_asset_once(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug")
    finish(start(tmp_path, "run", path, "--json"), code=0)
    first = followed(tmp_path)
    assert set(first.values()) == {1}, "the first stage of each asset, which is not there"
    assert sorted(each.split()[:2] for each in first) == [["cup", "ingest"], ["jug", "ingest"]]
    finish(start(tmp_path, "run", path, "--json"), code=0)
    everything = followed(tmp_path)
    assert set(everything.values()) == {1} and len(everything) == 18, "nine stages each: dense is skipped"
    (tmp_path / "store/work/cup/train").rename(tmp_path / "gone")
    document, _ = finish(start(tmp_path, "run", path, "--json"), code=0)
    resumed = followed(tmp_path)
    assert set(resumed.values()) == {1} and {each.split()[1] for each in resumed if "cup" in each} == {
        *("ingest", "pose", "mask", "train")
    }
    states = {stage: each["state"] for stage, each in document["assets"][0]["stages"].items()}
    assert (states["mask"], states["train"], states["publish"]) == ("cached", "committed", "committed")


def test_a_run_may_end_at_a_stage_and_the_next_goes_on(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "cup", "jug")
    for begun, last in ((["ingest", "pose"], "pose"), (["ingest", "pose", "mask"], "mask")):
        document, told = finish(start(tmp_path, "run", path, "--until", last, "--json"), code=0)
        for asset in document["assets"]:
            done = [stage for stage, each in asset["stages"].items() if each["state"] in ("committed", "cached")]
            assert (done, asset["phase"], asset["verdict"]) == (begun, "pending", None)
            assert {each["state"] for each in asset["stages"].values()} == {*("committed", "pending")} | (
                set() if last == "pose" else {"cached"}
            )
        assert document["left"] == [] and "as far as was asked" in told
    again, _ = finish(start(tmp_path, "run", path, "--until", "mask", "--json"), code=0)
    assert again["ran"] is False and {asset["phase"] for asset in again["assets"]} == {"pending"}
    document, _ = finish(start(tmp_path, "run", path, "--json"), code=0)
    assert {asset["phase"]: asset["verdict"] for asset in document["assets"]} == {"done": "accept"}
    assert document["assets"][0]["stages"]["mask"]["state"] == "cached"
    short, _ = finish(start(tmp_path, "run", path, "--until", "pose", "--json"), code=0)
    assert short["ran"] is False and {asset["phase"] for asset in short["assets"]} == {"done"}, "nothing is taken back"


def test_rerun_does_a_stage_and_all_after_it_again(shelf: Path) -> None:
    done = next((shelf.parent / "store/work/cup/train").glob("*/DONE.json"))
    earlier = next((shelf.parent / "store/work/cup/pose").glob("*/DONE.json"))
    before, kept = json.loads(done.read_text())["attempt"], json.loads(earlier.read_text())["attempt"]
    document, _ = finish(start(shelf.parent, "rerun", shelf, "--from", "train", "--asset", "cup", "--json"), code=0)
    assert document["forgotten"] == {"cup": ["train", "surface", "scale", "export", "quality", "publish"]}
    stages = document["assets"][0]["stages"]
    assert [stages[name]["state"] for name in ("pose", "train", "publish")] == ["cached", "committed", "committed"]
    assert json.loads(done.read_text())["attempt"] != before
    assert json.loads(earlier.read_text())["attempt"] == kept


def test_a_stopped_run_ends_soon_and_keeps_what_is_committed(shelf: Path) -> None:
    folder = shelf.parent.parent / "another"
    path = write_batch(folder, "slow")
    process = start(folder, "run", path, "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if "slow  train  running" in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    document, told = finish(process, code=130)
    assert time.monotonic() - began < 8.0
    assert document["cancelled"] and document["assets"][0]["phase"] == "cancelled"
    assert document["assets"][0]["stages"]["pose"]["state"] == "committed"
    assert "nothing that was committed is lost" in told


def test_plan_and_status_are_light(shelf: Path) -> None:
    for command, code in (("plan", 0), ("status", 4), ("validate", 0)):
        finish(start(shelf.parent, command, shelf, "--json"), code=code)
        assert heavy(shelf.parent) == [], command


def test_help_comes_at_once() -> None:
    program = "import sys; from flows.cli.main import app; print([m for m in sys.modules if m in sys.argv[1:]])"
    names = ["torch", "prefect", "ray", "numpy", "boto3", "pydantic_settings"]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
    listed = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    for command in ("init", "validate", "plan", "run", "status", "explain", "rerun", "sample", "doctor", "schema"):
        assert f" {command} " in listed.stdout


@pytest.mark.parametrize(
    "arguments", [["plan"], ["status"], ["statu"], ["plan", "--bogus"], ["run", "a.yaml", "--at-once", "0"]]
)
def test_wrong_usage_is_json_too(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "spec_invalid"
