"""Kills runs of the micro line: `kill_driver.py FOLDER KILLS SEED`. Prints one JSON object.

Each run is a fork of this process, which has imported everything, and is killed with SIGKILL at a random instant of
the time that an undisturbed run takes; the next run goes on, as it would on a machine that was restarted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.faults.micro import digitize, micro_plan


def fork_run(folder: Path, name: str) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            plan = micro_plan(str(folder / "store"), str(folder / "published"), [name])
            code = 0 if all(status.phase == "done" for status in digitize(plan, folder / "scratch")) else 2
        finally:
            os._exit(code)
    return pid


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    start = time.monotonic()
    os.waitpid(fork_run(folder / "quiet", "warm"), 0)
    whole = time.monotonic() - start
    instants, killed, assets = random.Random(seed), 0, ["asset-0"]
    while killed < kills:
        pid = fork_run(folder, assets[-1])
        time.sleep(instants.uniform(0.0, 0.6 * whole))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, status
            assets.append(f"asset-{len(assets)}")
            continue
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed += 1
    for name in assets:
        _, status = os.waitpid(fork_run(folder, name), 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        os.waitpid(fork_run(folder / "quiet", name), 0)
    print(json.dumps({"killed": killed, "assets": assets, "seconds": whole}))


if __name__ == "__main__":
    main()
