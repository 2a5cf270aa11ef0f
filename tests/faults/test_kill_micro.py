"""SIGKILL at random instants of the true commit, checkpoint, lease and publishing code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage import FolderStore
from tests.faults.micro import published
from tests.flows.helpers import ROOT, environment
from tests.support import STAGES


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_runs_end_with_the_same_digests(tmp_path: Path, kills: int) -> None:
    command = [sys.executable, "-m", "tests.faults.kill_driver", str(tmp_path), str(kills), "5"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"] == kills
    found, quiet = published(str(tmp_path / "published")), published(str(tmp_path / "quiet" / "published"))
    assert found == {name: quiet[name] for name in told["assets"]}
    store = FolderStore(tmp_path / "store")
    commits = [stat.key for stat in store.list("work/") if stat.key.endswith("/DONE.json")]
    assert len(commits) == len(STAGES) * len(told["assets"])  # each stage once, whatever happened
    leases = {stat.key.rpartition("/")[0] for stat in store.list("work/") if stat.key.endswith("/lease.json")}
    assert leases <= {key.rpartition("/")[0] for key in commits}  # of runs killed between their commit and its end
