"""The runner that the settings ask for."""

from __future__ import annotations

from flows.runner.base import Runner
from infra.settings import RunSettings


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
