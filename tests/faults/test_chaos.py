"""Three Ray nodes with fake GPUs on one machine; a node is killed every 20 s and the driver twice: no asset is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.storage import FolderStore
from tests.faults.micro import digitize, micro_plan, published
from tests.flows.helpers import environment, wait_until
from tests.support import STAGES

ASSETS = 50
NODE_KILL_S = 20.0
LIMIT_S = 1500.0
OUT = "driver.out"


class Nodes:
    """A head without places for work and three nodes; `kill_one` takes a node away and brings another."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        spill = json.dumps({"type": "filesystem", "params": {"directory_path": str(folder / "spill")}})
        head = {"num_cpus": 0, "_system_config": {"object_spilling_config": spill}}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self._add() for _ in range(3)]
        self.killed, self.last_kill = 0, time.monotonic()

    def _add(self) -> object:
        return self.cluster.add_node(num_cpus=2, num_gpus=1, memory=8 << 30, object_store_memory=80 << 20)

    def kill_one(self) -> None:
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.killed += 1
        self.nodes.append(self._add())

    def harass_until(self, over: Callable[[], bool]) -> None:
        """Kill a node every NODE_KILL_S. In the main thread: Ray sets signal handlers for each node."""
        end, next_kill = time.monotonic() + LIMIT_S, self.last_kill + NODE_KILL_S
        while not over():
            assert time.monotonic() < end, "what was waited for did not happen"
            if time.monotonic() >= next_kill:
                self.kill_one()
                self.last_kill = time.monotonic()
                next_kill = self.last_kill + NODE_KILL_S
            time.sleep(0.1)


def start(folder: Path, address: str) -> subprocess.Popen[bytes]:
    variables = environment(PREFECT_HOME=str(folder / "prefect"), RAY_ADDRESS=address)
    variables.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "tests.faults.chaos_driver", str(folder), str(ASSETS)]
    with (folder / "driver.log").open("a") as log, (folder / OUT).open("w") as out:  # Ray prints a lot: no pipe
        return subprocess.Popen(command, env=variables, stdout=out, stderr=log, start_new_session=True)


def commits(folder: Path) -> int:
    return len(list((folder / "store").glob("work/*/*/*/DONE.json")))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.filterwarnings("ignore")
def test_every_asset_ends_published_or_with_a_reason(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    total = ASSETS * len(STAGES)
    try:
        process = start(tmp_path, nodes.cluster.address)
        wait_until(lambda: commits(tmp_path) > 0, 300)
        for share in (0.25, 0.6):
            nodes.harass_until(lambda share=share: commits(tmp_path) >= share * total)  # type: ignore[misc]
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process = start(tmp_path, nodes.cluster.address)
        for night in range(3):  # what was quarantined with a reason is tried again by the next night
            process = start(tmp_path, nodes.cluster.address) if night else process
            nodes.harass_until(lambda process=process: process.poll() is not None)  # type: ignore[misc]
            assert process.returncode == 0, (tmp_path / "driver.log").read_text()[-3000:]
            statuses = json.loads((tmp_path / OUT).read_text().splitlines()[-1])
            assert all(phase == "done" or reason for phase, reason in statuses.values())
            if all(phase == "done" for phase, _ in statuses.values()):
                break
    finally:
        nodes.cluster.shutdown()
    assert nodes.killed >= 3
    names = [f"asset-{number:02d}" for number in range(ASSETS)]
    assert set(statuses) == set(names)
    quiet = tmp_path / "quiet"
    digitize(micro_plan(str(quiet / "store"), str(quiet / "published"), names, pause_s=0.0), quiet / "scratch")
    found, undisturbed = published(str(tmp_path / "published")), published(str(quiet / "published"))
    assert set(found) == {name for name, (phase, _) in statuses.items() if phase == "done"}
    assert _contents(tmp_path) == _contents(quiet)
    assert len(found) == len(undisturbed)
    done = [stat.key for stat in FolderStore(tmp_path / "store").list("work/") if stat.key.endswith("/DONE.json")]
    assert len(done) == len({tuple(key.split("/")[1:3]) for key in done})  # no stage of any asset twice


def _contents(folder: Path) -> dict[str, str]:
    """The digest of each published model: manifests name the options, which differ in the pause."""
    root = folder / "published" / "assets"
    return {path.parent.parent.name: path.read_text() for path in sorted(root.glob("*/v1/asset.glb"))}
