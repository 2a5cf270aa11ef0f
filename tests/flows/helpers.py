"""Plans, requests and processes for the tests of the flows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from flows.runner.job import Job
from models.resources import Resources
from models.results import StageRequest
from models.stage import Stage
from tests.support import STAGES, before

ROOT = Path(__file__).parents[2]
DOOR = "tests.flows.doors:run"


def make_request(timeout_s: float = 60.0, stage: Stage = Stage.POSE, **options: Any) -> StageRequest:
    return StageRequest(
        asset="mug", stage=stage, method="stub", version="1", options=options, resources=Resources(timeout_s=timeout_s)
    )


def make_job(folder: Path, request: StageRequest, **changes: Any) -> Job:
    values = {"store_uri": str(folder / "store"), "scratch": str(folder / "scratch"), "door": DOOR, **changes}
    return Job(request=request, **values)


def make_plan(store: Path, assets: Mapping[str, Mapping[str, dict[str, Any]]]) -> BatchPlan:
    """A batch of stub stages: `assets[id][stage]` are the options of a stage, `{"do": "write"}` when left out."""
    plans, needs = [], Resources(timeout_s=120)
    for asset, options in assets.items():
        stages = {
            stage: StagePlan(
                stage,
                "stub",
                "1",
                options.get(str(stage), {"do": "write"}),
                needs,
                inputs=before(stage),
                filled_in=("stepped_down",) if stage is Stage.PUBLISH else (),
            )
            for stage in STAGES
        }
        plans.append(AssetPlan(asset, "demo", 0, stages, {}, gates=()))
    return BatchPlan("demo", str(store), tuple(plans), {})


def wait_until(condition: Callable[[], bool], limit_s: float = 40.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


def read_pids(path: Path) -> list[int]:
    wait_until(path.exists)
    return [int(pid) for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def wait_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(alive(pid) for pid in pids))


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}
