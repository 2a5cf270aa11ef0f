"""The runner that the settings ask for, and the machines that it would have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from flows.runner.base import Machines, Runner
from infra.settings import RunSettings
from models.errors import DigitizeError, ReasonCode


def make_runner(settings: RunSettings, store_uri: str, door: str = "", *, isolated: bool = True) -> Runner:
    """The runner that the settings ask for.

    Args:
        door: `module:function` to call instead of each stage's own door.
        isolated: False runs stages in the Ray worker's own process; see `flows.runner.job.Job.isolated`.

    Raises DigitizeError(worker_lost) when the Ray cluster cannot be reached.
    """
    if settings.runner == "ray":
        from flows.runner.ray_runner import RayRunner

        return RayRunner(settings, store_uri, door, isolated=isolated)
    from flows.runner.local import InlineRunner

    return InlineRunner(settings, store_uri, door, isolated=isolated)


@contextmanager
def machines_of(settings: RunSettings, store_uri: str) -> Iterator[Machines]:
    """The machines that a run would have, for planning: no Ray is started for it, a cluster is asked.

    Raises DigitizeError(worker_lost) when the Ray cluster cannot be reached, or only takes whole runs as jobs.
    """
    from flows.runner.ray_jobs import is_jobs_address

    if settings.runner == "ray" and is_jobs_address(settings.ray_address):
        raise DigitizeError(
            ReasonCode.WORKER_LOST, f"the cluster at {settings.ray_address} decides when the run begins"
        )
    if settings.runner == "ray" and settings.ray_address is None:
        from flows.runner.ray_cluster import ThisMachine

        yield ThisMachine(settings)
        return
    with closing(make_runner(settings, store_uri)) as runner:
        yield runner
