"""Where a stage runs: in a child process here, or in one on a node of a Ray cluster. The only module that knows Ray."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from flows.child import run_in_child
from flows.devices import cpu_cores, gpu_memory_gb
from flows.job import Job, outcome_from_json, outcome_to_json
from infra.settings import RunSettings
from infra.storage import open_store
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.resources import Resources
from models.results import Done, StageRequest
from models.store import Store
from tasks.context import ProgressSink

_POLL_S = 0.2
_PROGRESS_S = 2.0
"""Between two looks at the progress of a stage on another node."""
_STOP_GRACE_S = 3.5
"""How long a Ray task may take to notice that it shall stop."""
_STOP_POLL_S = 0.7
_CANCEL_GRACE_S = 3.0
"""For a Ray task to end by itself; then its worker is killed, and with it the stage."""
_KNOCK_S = 10.0
_LOST_NODES = 3
"""How often Ray starts a stage again whose node or worker was lost."""
_OBJECT_STORE_BYTES = 100 << 20
"""Small: only references and messages travel through Ray."""

_log = logging.getLogger("digitize.runner")


class Runner(Protocol):
    """Runs stages. Safe to use from several threads."""

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """Run a stage or reuse its commit. Raises DigitizeError as `flows.child.run_in_child` does."""
        ...

    def close(self) -> None:
        """Give back what the runner holds."""
        ...


def make_runner(settings: RunSettings, store_uri: str, door: str = "") -> Runner:
    """The runner that the settings ask for.

    Args:
        door: `module:function` to call instead of each stage's own door.

    Raises DigitizeError(worker_lost) when the Ray cluster cannot be reached.
    """
    if settings.runner == "ray":
        return RayRunner(settings, store_uri, door)
    return InlineRunner(settings, store_uri, door)


def _job(request: StageRequest, settings: RunSettings, store_uri: str, door: str) -> Job:
    scratch = None if settings.scratch is None else str(settings.scratch)
    return Job(
        request=request,
        store_uri=store_uri,
        threads=settings.threads,
        device=settings.device,
        scratch=scratch,
        door=door,
    )


class InlineRunner:
    """One child process a stage, on this machine."""

    def __init__(self, settings: RunSettings, store_uri: str, door: str = "") -> None:
        self._settings = settings
        self._store_uri = store_uri
        self._door = door

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """See `Runner`."""
        return run_in_child(_job(request, self._settings, self._store_uri, self._door), on_progress, cancelled)

    def close(self) -> None:
        """See `Runner`: nothing is held."""


class RayRunner:
    """One Ray task a stage, which runs the stage in a child process: deadline and kill are the same everywhere.

    Ray starts a stage again whose node was lost; the stage goes on from its checkpoint. What a stage raises comes back
    as data, so Ray never retries an error. Progress comes through the store, which all nodes share.
    """

    def __init__(self, settings: RunSettings, store_uri: str, door: str = "") -> None:
        self._settings = settings
        self._store = open_store(store_uri)
        self._door = door
        self._lock = threading.Lock()
        self._gpu_memory_gb: float | None = None
        self._started = _connect(settings.ray_address)

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """See `Runner`."""
        import ray

        job = _job(request, self._settings, self._store.uri, self._door)
        task = ray.remote(_run_on_node).options(
            name=f"{request.asset} {request.stage}",
            max_retries=_LOST_NODES,
            retry_exceptions=False,
            **self._placement(request.resources),
        )
        stop_key = f"{request.prefix}/stop-{uuid.uuid4().hex}"
        ref = task.remote(job.model_dump_json(), stop_key)
        progress = _Progress(self._store, request, on_progress)
        try:
            while not ray.wait([ref], timeout=_POLL_S)[0]:
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

    def _stop(self, ref: Any, stop_key: str) -> None:
        """Ask the Ray task to stop, through the store; have Ray end it when it does not, or never started.

        Ray's own cancelling of a task that runs can abort this process (a failed check in 2.60 when the task ends at
        that very moment), so it comes second.
        """
        import ray

        with suppress(ray.exceptions.RayError, DigitizeError, OSError):
            self._store.put_bytes(stop_key, b"")
            try:
                if not ray.wait([ref], timeout=_STOP_GRACE_S)[0]:
                    _cancel(ref)
            finally:
                self._store.delete(stop_key)

    def close(self) -> None:
        """See `Runner`: leaves the cluster, and stops it when it was started here."""
        import ray

        if self._started:
            ray.shutdown()

    def _placement(self, resources: Resources) -> dict[str, Any]:
        """What Ray reserves: the declared needs, at most what the largest node has: every stage finds a node."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = min(resources.cpus, max((node.get("CPU", 0.0) for node in nodes), default=1.0))
        memory = min(resources.memory_gb * 1e9, max((node.get("memory", 0.0) for node in nodes), default=0.0))
        placement: dict[str, Any] = {"num_cpus": math.ceil(cpus) if cpus > 1 else cpus, "memory": int(memory)}
        if resources.gpu_memory_gb and self._settings.device != "cpu":
            gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
            placement["num_gpus"] = self._gpu_share(resources.gpu_memory_gb) if gpus else 0
        return placement

    def _gpu_share(self, needs_gb: float) -> float:
        """The share of one GPU to reserve. The cluster's GPUs are taken to be alike: the first one is asked once."""
        import ray

        with self._lock:
            if self._gpu_memory_gb is None:
                self._gpu_memory_gb = ray.get(ray.remote(gpu_memory_gb).options(num_cpus=0, num_gpus=0.01).remote())
            total = self._gpu_memory_gb
        if not total:
            return 0.0
        return min(1.0, math.ceil(100 * needs_gb / total) / 100)


def _connect(address: str | None) -> bool:
    """Join a cluster or start one. Returns whether there was none in this process before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_task_oom_retries", "1")
    import ray

    if ray.is_initialized():
        return False
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            ray.init(
                num_cpus=cpu_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **common,
            )
        else:
            _knock(address)
            ray.init(address=address, **common)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"expected a Ray cluster at {address or 'this machine'}, found: {error}",
            hint=(
                "Check DIGITIZE_RAY_ADDRESS. A 'connection timeout' often means that the cluster wants a token: set "
                "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here and on every node."
            ),
            retryable=True,
        ) from error
    return True


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at the address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _run_on_node(job_json: str, stop_key: str) -> str:
    """The Ray task: run the stage in a child process of this worker until it ends or `stop_key` appears."""
    job = Job.model_validate_json(job_json)
    store = open_store(job.store_uri)
    last = [time.monotonic()]
    asked = [0.0]

    def stopped() -> bool:
        if time.monotonic() - asked[0] < _STOP_POLL_S:
            return False
        asked[0] = time.monotonic()
        with suppress(DigitizeError, OSError):
            return store.stat(stop_key) is not None
        return False

    def share_progress(share: float, message: str, facts: dict[str, Any]) -> None:
        if time.monotonic() - last[0] < _PROGRESS_S:
            return
        last[0] = time.monotonic()
        with suppress(DigitizeError, OSError):
            store.put_bytes(_progress_key(job.request), canonical_json([share, message, facts]))

    try:
        return outcome_to_json(run_in_child(job, share_progress, stopped))
    except DigitizeError as error:
        return outcome_to_json(error)


def _progress_key(request: StageRequest) -> str:
    return f"{request.prefix}/progress.json"


class _Progress:
    """The progress of a stage on another node, through the store."""

    def __init__(self, store: Store, request: StageRequest, sink: ProgressSink) -> None:
        self._store = store
        self._key = _progress_key(request)
        self._sink = sink
        self._seen: bytes | None = None
        self._next = time.monotonic() + _PROGRESS_S

    def look(self) -> None:
        """Pass on what is new, now and then. A store that does not answer is no reason to stop."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_S
        with suppress(DigitizeError, OSError):
            found = self._store.get_bytes(self._key)
            if found is not None and found != self._seen:
                self._seen = found
                self._sink(*json.loads(found))

    def forget(self) -> None:
        """Remove the message."""
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
        message = f"stage {request.stage} failed on its Ray node: {error}"
        return DigitizeError(ReasonCode.INTERNAL, message, asset=request.asset)
    message = f"stage {request.stage} lost its Ray node or worker ({kind}) {_LOST_NODES + 1} times"
    return DigitizeError(ReasonCode.WORKER_LOST, message, retryable=True, asset=request.asset)
