"""Two runs over the same assets, started at once; and a run that was killed, taken over by the next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.storage import FolderStore
from tests.flows.helpers import environment, read_pids, wait_gone, wait_until
from tests.flows.test_flow_batch import DRIVER
from tests.support import STAGES


def start(folder: Path, assets: dict[str, Any]) -> subprocess.Popen[str]:
    variables = environment(PREFECT_HOME=str(folder / "prefect"))
    variables.pop("PREFECT_API_URL", None)
    command = [sys.executable, str(DRIVER), str(folder / "store"), json.dumps(assets)]
    return subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_two_runs_share_the_work(tmp_path: Path) -> None:
    """Each stage is done once; both runs end with every asset done."""
    runs = str(tmp_path / "runs")
    options = {str(stage): {"do": "progress", "pause_s": 0.1, "runs": runs} for stage in STAGES}
    assets = dict.fromkeys(("one", "two", "three"), options)
    both = [start(tmp_path, assets), start(tmp_path, assets)]
    for found in map(finish, both):
        assert found["counts"] == {"done": 3}
    lines = Path(runs).read_text().splitlines()
    assert sorted(lines) == sorted(f"{asset} {stage}" for asset in assets for stage in STAGES)
    left = [stat.key for stat in FolderStore(tmp_path / "store").list("work/") if "/lease.json" in stat.key]
    assert left == []


@pytest.mark.slow
def test_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    """The second run waits for nobody: the first one's process is gone, and its stage goes on from its checkpoint."""
    pids = tmp_path / "pids"
    assets = {"one": {"train": {"do": "checkpoint", "pids": str(pids)}}}
    killed = start(tmp_path, assets)
    wait_until(pids.exists, 150)
    stages = read_pids(pids)
    leases = [stat.key for stat in FolderStore(tmp_path / "store").list("work/") if "/lease.json" in stat.key]
    assert len(leases) == 1 and "/train/" in leases[0]
    killed.kill()
    killed.communicate()
    wait_gone(stages)
    found = finish(start(tmp_path, assets))
    assert found["counts"] == {"done": 1}
    assert found["statuses"]["one"]["stages"]["train"]["facts"] == {"started_at": 3}
