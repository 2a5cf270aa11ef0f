"""Digitizes micro assets on the Ray cluster that runs: `chaos_driver.py FOLDER ASSETS`. Prints one JSON object."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from flows.batch import run_batch
from flows.runner.make import make_runner
from infra.settings import RunSettings
from models.resources import Resources
from models.stage import Stage
from tests.faults.micro import DOOR, micro_plan

GPU_STAGES = {Stage.TRAIN: 8.0, Stage.SURFACE: 4.0, Stage.QUALITY: 4.0}


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    names = [f"asset-{number:02d}" for number in range(count)]
    plan = micro_plan(str(folder / "store"), str(folder / "published"), names, pause_s=0.4)
    assets = []
    for asset in plan.assets:
        stages = {
            stage: replace(each, resources=Resources(cpus=0.5, memory_gb=0.1, gpu_memory_gb=GPU_STAGES.get(stage, 0.0)))
            for stage, each in asset.stages.items()
        }
        assets.append(replace(asset, stages=stages))
    plan = replace(plan, assets=tuple(assets))
    settings = RunSettings(
        runner="ray", ray_address="auto", scratch=folder / "scratch", assets_at_once=6, gpu_memory_gb=8.0
    )
    runner = make_runner(settings, plan.store_uri, DOOR)
    outcome = run_batch(plan, settings, runner=runner)
    runner.close()
    statuses = {
        name: [status.phase, status.failure and status.failure.code] for name, status in outcome.statuses.items()
    }
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
