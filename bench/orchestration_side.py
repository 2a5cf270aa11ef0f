"""One side of `orchestration --against`: the tree whose `bench.orchestration` PYTHONPATH finds first.

    PYTHONPATH=TREE python -P bench/orchestration_side.py overhead|memory ASSETS

Uses only what that module has had since it was first written, so that older commits run as they are. The last line is
a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench import orchestration

AT_ONCE = 4


def overhead(folder: Path, assets: int) -> dict[str, float]:
    """Milliseconds a stage: wall beyond plain Ray tasks, and CPU time of the process that drives the batch."""
    stages = assets * len(orchestration.STAGES)
    with orchestration.ray_here(num_cpus=2):
        orchestration.flows_seconds(folder / "warm", orchestration.plan_of(folder / "warm", [{}] * 4), 2)
        plain = orchestration.plain_seconds(assets)
        before = time.process_time()
        flows = orchestration.flows_seconds(folder, orchestration.plan_of(folder, [{}] * assets), AT_ONCE)
        cpu = time.process_time() - before
    return {
        "overhead_ms": 1e3 * (flows - plain) / stages,
        "driver_cpu_ms": 1e3 * cpu / stages,
        "stages_an_asset": len(orchestration.STAGES),
    }


def memory(folder: Path, assets: int) -> dict[str, float]:
    """Resident MB of a process that does nothing but drive one batch."""
    found = orchestration.memory_mb(folder, assets, AT_ONCE)
    return {"memory_mb": found["ended"], "grown_mb": found["ended"] - found["planned"]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary)
        os.environ["PREFECT_HOME"] = str(where / "prefect")
        os.environ["DIGITIZE_DATABASE_URL"] = f"sqlite:///{where / 'catalogue.db'}"
        (where / "warm").mkdir()
        print(json.dumps({"overhead": overhead, "memory": memory}[sys.argv[1]](where, int(sys.argv[2]))))
