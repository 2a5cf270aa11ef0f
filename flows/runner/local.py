"""Stages in child processes of this machine."""

from __future__ import annotations

from collections.abc import Callable

from flows.runner.base import job_of
from flows.runner.devices import choose_device, cpu_cores
from flows.runner.stage_process import run_job
from infra.settings import RunSettings
from models.resources import Resources
from models.results import Done, StageRequest
from tasks.context import ProgressSink


class InlineRunner:
    """One child process a stage, on this machine."""

    def __init__(self, settings: RunSettings, store_uri: str, door: str = "", *, isolated: bool = True) -> None:
        self._settings = settings
        self._store_uri = store_uri
        self._door = door
        self._isolated = isolated

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """See `Runner`."""
        job = job_of(request, self._settings, self._store_uri, self._door, self._isolated)
        return run_job(job, on_progress, cancelled)

    def gpu_share(self, resources: Resources) -> float:
        """See `Runner`: stages of this machine have its GPU to themselves."""
        return float(choose_device(self._settings.device, resources.gpu_memory_gb) == "cuda")

    def gpus(self) -> float:
        """See `Runner`."""
        return float(choose_device(self._settings.device, 1.0) == "cuda")

    def cpus(self) -> float:
        """See `Runner`."""
        return float(cpu_cores())

    def close(self) -> None:
        """See `Runner`: nothing is held."""
