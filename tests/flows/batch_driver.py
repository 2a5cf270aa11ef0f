"""Runs one batch of stub stages in a process of its own: `batch_driver.py STORE ASSETS [RUNNER] [CANCEL_WHEN]`.

Prints one JSON object. CANCEL_WHEN is a file: when it appears, the flow run is cancelled through Prefect's server.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path

from flows.batch import run_batch
from flows.runner.make import make_runner
from flows.status.board import Board
from infra.settings import RunSettings
from models.errors import DigitizeError, ReasonCode
from models.status import AssetStatus
from tests.flows.helpers import DOOR, make_plan, wait_until


def cancel_through_server(board: Board, mark: Path) -> None:
    wait_until(mark.exists, 120)
    from uuid import UUID

    from prefect import get_client
    from prefect.states import Cancelling

    run = next(status.run for status in board.all() if status.run)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run), Cancelling())


def states_held() -> int:
    """States of Prefect runs that this process keeps."""
    if "prefect" not in sys.modules:
        return 0
    from prefect.client.schemas.objects import State

    return sum(isinstance(each, State) for each in gc.get_objects())


def main() -> None:
    store, assets, runner_name, mark = (*sys.argv[1:], "inline", "")[:4]
    plan = make_plan(Path(store), json.loads(assets))
    if runner_name == "unusable":
        runner_name = "inline"
        plan.unusable["gone"] = DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "no folder")
    settings = RunSettings(runner=runner_name, scratch=Path(store).parent / "scratch", assets_at_once=2)
    phases: list[tuple[str, str]] = []
    remembered: list[int] = []

    def note(status: AssetStatus) -> None:
        if (status.asset, str(status.phase)) not in phases:
            phases.append((status.asset, str(status.phase)))
            remembered.append(states_held())

    board = Board(plan.name, listener=note)
    if mark:
        threading.Thread(target=cancel_through_server, args=(board, Path(mark)), daemon=True).start()
    runner = make_runner(settings, plan.store_uri, DOOR)
    outcome = run_batch(plan, settings, board=board, runner=runner)
    runner.close()
    print(
        json.dumps(
            {
                "statuses": {asset: status.model_dump(mode="json") for asset, status in outcome.statuses.items()},
                "counts": outcome.counts,
                "all_committed": outcome.all_committed,
                "cancelled": outcome.cancelled,
                "run": outcome.run,
                "phases": phases,
                "remembered": remembered,
                "imported": sorted({"prefect", "ray", "torch", "pycolmap", "open3d", "boto3"} & set(sys.modules)),
            }
        )
    )


if __name__ == "__main__":
    main()
