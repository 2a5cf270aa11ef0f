"""The process that keeps the services of one machine running: starts them in order, starts again what ends, and ends
all of them when it is told to (`services`).

    python -m flows.machine.supervisor FOLDER SPEC PORT RUNNER CRON TIMEZONE
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.deployments import capture_deployment
from flows.machine.services import (
    Service,
    Services,
    answers,
    environment,
    make_ray_folder,
    poller,
    services,
    write_state,
)
from models.spec_yaml import load_spec

_POLL_S = 0.5
_STEADY_S = 60.0
"""A service that ran for this long starts again at once; one that ended sooner waits longer each time."""
_LONGEST_WAIT_S = 60.0
_GRACE_S = 12.0


@dataclass
class _Kept:
    """A service and its process."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = field(default=0.0)


class Supervisor:
    """Keeps children running until `stop` is set."""

    def __init__(self, folder: Path, variables: dict[str, str], wanted: list[Service]) -> None:
        self._folder = folder
        self._variables = variables
        self._kept = [_Kept(service) for service in wanted]
        self.stop = threading.Event()

    def run(self) -> None:
        """Keep them running; on return all have ended, the last one started first."""
        try:
            while not self.stop.is_set():
                for kept in self._kept:
                    self._keep(kept)
                self.stop.wait(_POLL_S)
        finally:
            for kept in reversed(self._kept):
                self._end(kept)

    def _keep(self, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.process is not None and kept.process.poll() is None:
            return
        if kept.process is not None:
            steady = now - kept.started > _STEADY_S
            kept.failures = 0 if steady else kept.failures + 1
            kept.next_start = now + (0.0 if steady else min(_LONGEST_WAIT_S, 2.0 ** (kept.failures - 1)))
            print(f"{kept.service.name} ended with {kept.process.returncode}", flush=True)
            kept.process = None
        if now < kept.next_start or (kept.service.waits_for and not answers(kept.service.waits_for)):
            return
        print(f"starting {kept.service.name}", flush=True)
        with (self._folder / f"{kept.service.name}.log").open("ab") as log:
            kept.process = subprocess.Popen(
                kept.service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._variables,
            )
        kept.started = now

    def _end(self, kept: _Kept) -> None:
        process = kept.process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
            with suppress(ProcessLookupError):
                process.send_signal(number) if number == signal.SIGTERM else os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return


def main(folder: Path, spec: str, port: int, runner: str, cron: str, timezone: str) -> None:
    """Run until SIGTERM."""
    ray_folder = make_ray_folder() if runner == "ray" else ""
    variables = environment(folder, port, runner, ray_folder)
    wanted = services(spec, port, runner, cron, timezone)
    if load_spec(Path(spec)).spec.captures:
        watch = poller(spec, capture_deployment(Path(spec)))
        wanted.append(Service(watch.name, watch.command, f"http://127.0.0.1:{port}/api/health"))
    supervisor = Supervisor(folder, variables, wanted)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop.set())
    url = f"http://127.0.0.1:{port}"
    names = tuple(service.name for service in wanted)
    write_state(Services(str(folder), os.getpid(), f"{url}/api", url, ray_folder, spec, names))
    supervisor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:7])
