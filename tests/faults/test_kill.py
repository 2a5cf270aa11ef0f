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

KILLS = 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_kills_end_with_the_same_manifest(tmp_path: Path) -> None:
    """A run that gets to its end between kills is followed by another one of the same capture."""
    capture = write_capture(tmp_path / "capture")
    quiet = copy_capture(capture, tmp_path / "quiet")
    began = time.monotonic()
    digitize("run", str(quiet))
    whole = time.monotonic() - began

    copies = [copy_capture(capture, tmp_path / "killed-0")]
    instants, kills = random.Random(7), 0
    while kills < KILLS:
        process = start("run", str(copies[-1]))
        try:
            process.wait(timeout=instants.uniform(0.05, 0.4) * whole)
            assert process.returncode == 0
            copies.append(copy_capture(capture, tmp_path / f"killed-{len(copies)}"))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    for copy in copies:
        digitize("run", str(copy))
        assert _manifest(copy) == _manifest(quiet)


def _manifest(batch: Path) -> str:
    latest = json.loads((batch.parent / "published/assets/sample/latest.json").read_text())
    assert latest["version"] == 1
    return str(latest["manifest_sha256"])
