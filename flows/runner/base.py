"""What a runner is, and the machines that it runs stages on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flows.runner.job import Job
from infra.settings import RunSettings
from models.resources import Resources
from models.results import Done, StageRequest
from models.version import software_version
from tasks.context import ProgressSink


class Machines(Protocol):
    """What stages run on."""

    def gpu_share(self, resources: Resources) -> float:
        """The share of one GPU that a stage with these needs occupies here; 0 where it runs without one."""
        ...

    def gpus(self) -> float:
        """The GPUs that stages can use."""
        ...

    def cpus(self) -> float:
        """The cores that stages can use."""
        ...


class Runner(Machines, Protocol):
    """Runs stages. Safe to use from several threads."""

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """Run a stage or reuse its commit. Raises DigitizeError as `flows.runner.stage_process.run_in_child` does."""
        ...

    def close(self) -> None:
        """Give back what the runner holds."""
        ...


def job_of(request: StageRequest, settings: RunSettings, store_uri: str, door: str, isolated: bool) -> Job:
    """What the process that runs the stage is told."""
    return Job(
        request=request,
        store_uri=store_uri,
        threads=settings.threads,
        device=settings.device,
        scratch=None if settings.scratch is None else str(settings.scratch),
        door=door,
        isolated=isolated,
        version=software_version(),
    )
