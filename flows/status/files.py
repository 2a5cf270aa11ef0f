"""Read and write the status of assets in the work store."""

from __future__ import annotations

import time
from typing import Any

from models.digest import canonical_json
from models.results import Done
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState, StageStatus
from models.store import Store

LOST_AFTER_S = 120.0
"""A running asset whose status is older than this has lost its run."""


def read_status(store: Store, batch: str, asset: str) -> AssetStatus | None:
    """The last known status, or None when the asset never ran."""
    data = store.get_bytes(f"status/{batch}/{asset}.json")
    return None if data is None else AssetStatus.model_validate_json(data)


def write_status(store: Store, status: AssetStatus) -> AssetStatus:
    """Write the status with the present time and return it."""
    stamped = status.model_copy(update={"updated_at": time.time()})
    store.put_bytes(f"status/{status.batch}/{status.asset}.json", canonical_json(stamped))
    return stamped


def is_lost(status: AssetStatus) -> bool:
    """Whether a status says `running` although its run has stopped writing.

    A time that lies ahead is as suspect as one long gone: a clock was set between the two, and the next heartbeat of a
    run that lives corrects it.
    """
    return status.phase is Phase.RUNNING and abs(time.time() - status.updated_at) > LOST_AFTER_S


def with_stage(status: AssetStatus, stage: Stage, **changes: Any) -> AssetStatus:
    """The status with one stage changed."""
    before = status.stages.get(stage, StageStatus())
    return status.model_copy(update={"stages": {**status.stages, stage: before.model_copy(update=changes)}})


def committed(done: Done, cached: bool) -> dict[str, Any]:
    """The changes of a stage's status that a commit means."""
    return {
        "state": StageState.CACHED if cached else StageState.COMMITTED,
        "key": done.key,
        "share": 1.0,
        "message": "",
        "seconds": done.seconds,
        "peak_memory_gb": done.peak_memory_gb,
        "facts": done.result.facts,
        "stepped_down": done.stepped_down,
    }
