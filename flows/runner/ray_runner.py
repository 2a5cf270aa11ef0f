"""Stages as Ray tasks: followed, cancelled, and what becomes of them when their node is lost."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flows.runner.base import job_of
from flows.runner.job import outcome_from_json
from flows.runner.ray_cluster import Cluster, connect
from flows.runner.ray_node import PROGRESS_S, progress_key, run_on_node
from infra.settings import RunSettings
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.resources import Resources
from models.results import Done, StageRequest
from models.store import Store
from tasks.context import ProgressSink

_POLL_S = 0.2
_LONG_POLL_S = 1.0
"""Between two looks at whether to cancel a stage that has run for a while: there may be thousands of them."""
_STOP_GRACE_S = 3.5
"""How long a Ray task may take to notice that it shall stop."""
_CANCEL_GRACE_S = 3.0
"""For a Ray task to end by itself; then its worker is killed, and with it the stage."""
_LOST_NODES = 3
"""How often Ray starts a stage again whose node or worker was lost."""

_log = logging.getLogger("digitize.runner")


class RayRunner:
    """One Ray task a stage, which runs the stage in a child process: deadline and kill are the same everywhere.

    Ray starts a stage again whose node was lost; the stage goes on from its checkpoint. What a stage raises comes back
    as data, so Ray never retries an error. Progress comes through the store, which all nodes share.
    """

    def __init__(self, settings: RunSettings, store_uri: str, door: str = "", *, isolated: bool = True) -> None:
        self._settings = settings
        self._store = open_store(store_uri)
        self._door = door
        self._isolated = isolated
        self._started = connect(settings.ray_address)
        self._cluster = Cluster(settings)
        import ray

        self._on_node = ray.remote(run_on_node)  # once: Ray takes the function apart each time it is made remote

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """See `Runner`."""
        import ray

        job = job_of(request, self._settings, self._store.uri, self._door, self._isolated)
        task = self._on_node.options(
            name=str(request.stage),  # a label of Ray's metrics, which keep each name for good: no asset in it
            max_retries=_LOST_NODES,
            retry_exceptions=False,
            **self._cluster.placement(request.resources),
        )
        stop_key = f"{request.prefix}/stop-{uuid.uuid4().hex}"
        ref = task.remote(job.model_dump_json(), stop_key)
        progress = _Progress(self._store, request, on_progress)
        try:
            while not ray.wait([ref], timeout=_POLL_S if progress.is_new else _LONG_POLL_S)[0]:
                if cancelled():
                    raise _cancelled(request)
                progress.look()
            return outcome_from_json(ray.get(ref))
        except ray.exceptions.RayError as error:
            raise _lost(error, request) from error
        except BaseException:
            self._stop(ref, stop_key)
            raise
        finally:
            progress.forget()

    def gpu_share(self, resources: Resources) -> float:
        """See `Runner`."""
        return self._cluster.gpu_share(resources)

    def gpus(self) -> float:
        """See `Runner`."""
        return self._cluster.gpus()

    def cpus(self) -> float:
        """See `Runner`."""
        return sum(node.get("CPU", 0.0) for node in self._cluster.nodes())

    def close(self) -> None:
        """See `Runner`: leaves the cluster, and stops it when it was started here."""
        import ray

        if self._started:
            ray.shutdown()

    def _stop(self, ref: Any, stop_key: str) -> None:
        """Ask the Ray task to stop, through the store; have Ray end it when it does not, or never started.

        Ray's own cancelling of a task that runs can abort this process (a failed check in 2.60 when the task ends at
        that very moment), so it comes second.
        """
        import ray

        with suppress(ray.exceptions.RayError, DigitizeError, OSError):
            if ray.wait([ref], timeout=0)[0]:
                return
            with suppress(DigitizeError, OSError):
                self._store.put_bytes(stop_key, b"")
            try:
                if not ray.wait([ref], timeout=_STOP_GRACE_S)[0]:
                    _cancel(ref)
            finally:
                self._store.delete(stop_key)


class _Progress:
    """The progress of a stage on another node, through the store."""

    def __init__(self, store: Store, request: StageRequest, sink: ProgressSink) -> None:
        self._store = store
        self._key = progress_key(request)
        self._sink = sink
        self._seen: bytes | None = None
        self._next = self._first = time.monotonic() + PROGRESS_S

    @property
    def is_new(self) -> bool:
        """Whether the stage has just been sent."""
        return time.monotonic() < self._first

    def look(self) -> None:
        """Pass on what is new, now and then. A store that does not answer is no reason to stop."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROGRESS_S
        with suppress(DigitizeError, OSError):
            found = self._store.get_bytes(self._key)
            if found is not None and found != self._seen:
                self._seen = found
                self._sink(*json.loads(found))

    def forget(self) -> None:
        """Remove the message, if the stage has run for long enough to have left one."""
        if time.monotonic() < self._first:
            return
        with suppress(DigitizeError, OSError):
            self._store.delete(self._key)


def _cancel(ref: Any) -> None:
    """Interrupt the Ray task, so that it stops its child and tidies up; kill its worker if it does not."""
    import ray

    with suppress(ray.exceptions.RayError):
        ray.cancel(ref, force=False, recursive=True)
        if not ray.wait([ref], timeout=_CANCEL_GRACE_S)[0]:
            _log.warning("a Ray task did not stop when cancelled; killing its worker")
            ray.cancel(ref, force=True, recursive=True)


def _cancelled(request: StageRequest) -> DigitizeError:
    return DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True, asset=request.asset)


def _lost(error: Exception, request: StageRequest) -> DigitizeError:
    """The error for a Ray task that ended without an answer."""
    import ray

    kind = type(error).__name__
    if isinstance(error, ray.exceptions.TaskCancelledError):
        return _cancelled(request)
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        message = f"the node of stage {request.stage} ran out of memory"
        return DigitizeError(ReasonCode.OUT_OF_MEMORY, message, asset=request.asset)
    if isinstance(error, ray.exceptions.RayTaskError):
        if isinstance(error.cause, ImportError):
            message = f"expected asset-digitizer on every node, found: {error.cause}"
            return DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, asset=request.asset)
        message = f"stage {request.stage} failed on its Ray node: {error}"
        return DigitizeError(ReasonCode.INTERNAL, message, asset=request.asset)
    message = f"stage {request.stage} lost its Ray node or worker ({kind}) {_LOST_NODES + 1} times"
    return DigitizeError(ReasonCode.WORKER_LOST, message, retryable=True, asset=request.asset)
