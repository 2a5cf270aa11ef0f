"""A run killed with SIGKILL at random instants and started again ends like an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.line import copy_capture, digitize, start, write_capture


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_kills_end_with_the_same_manifest(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "capture")
    quiet = copy_capture(capture, tmp_path / "quiet")
    began = time.monotonic()
    digitize("run", str(quiet))
    whole = time.monotonic() - began

    killed = copy_capture(capture, tmp_path / "killed")
    instants = random.Random(7)
    interrupted = 0
    for _ in range(5):
        process = start("run", str(killed))
        try:
            process.wait(timeout=instants.uniform(0.1, 0.5) * whole)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            interrupted += 1
        process.communicate()
    digitize("run", str(killed))
    assert interrupted >= 2
    assert _manifest(killed) == _manifest(quiet)


def _manifest(batch: Path) -> str:
    latest = json.loads((batch.parent / "published/assets/sample/latest.json").read_text())
    assert latest["version"] == 1
    return str(latest["manifest_sha256"])
