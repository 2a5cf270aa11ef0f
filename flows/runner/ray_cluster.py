"""The Ray cluster: joining it, and what of it a stage reserves."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from typing import Any

from flows.runner.devices import cpu_cores, gpu_count, gpu_memory_gb
from infra.settings import RunSettings
from models.errors import DigitizeError, ReasonCode
from models.resources import Resources

_KNOCK_S = 10.0
_LOOK_S = 5.0
"""Between two looks at the nodes: asking costs milliseconds, and stages start by the thousand."""
_OBJECT_STORE_BYTES = 100 << 20
"""Small: only references and messages travel through Ray."""


def gpu_share(needs_gb: float, gpu_gb: float) -> float:
    """The share of one GPU to reserve, in hundredths, so that what shares a GPU fits into its memory.

    Args:
        needs_gb: GPU memory that the stage uses.
        gpu_gb: memory of one GPU; 0 when nobody knows, and then a stage gets a GPU to itself.

    >>> gpu_share(8.0, 24.0), gpu_share(8.0, 0.0), gpu_share(80.0, 24.0), gpu_share(0.0, 24.0)
    (0.34, 1.0, 1.0, 0.0)
    """
    if needs_gb <= 0:
        return 0.0
    if gpu_gb <= 0:
        return 1.0
    return min(1.0, math.ceil(100 * needs_gb / gpu_gb - 1e-9) / 100)


class Cluster:
    """The nodes of the cluster that this process has joined."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._nodes: list[dict[str, float]] = []
        self._looked = -math.inf
        self._gpu_gb = settings.gpu_memory_gb

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive, a few seconds old at most."""
        import ray

        with self._lock:
            if not self._nodes or time.monotonic() - self._looked > _LOOK_S:
                self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                self._looked = time.monotonic()
            return self._nodes

    def most(self, resource: str, default: float = 0.0) -> float:
        """The most of a resource that one node has."""
        return max((node.get(resource, 0.0) for node in self.nodes()), default=default)

    def gpus(self) -> float:
        """GPUs of all nodes, where stages may use them."""
        return 0.0 if self._settings.device == "cpu" else sum(node.get("GPU", 0.0) for node in self.nodes())

    def gpu_share(self, resources: Resources) -> float:
        """The share of a GPU that a stage reserves; 0 on a cluster without."""
        if not resources.gpu_memory_gb or not self.gpus():
            return 0.0
        return gpu_share(resources.gpu_memory_gb, self._gpu_memory_gb())

    def placement(self, resources: Resources) -> dict[str, Any]:
        """What Ray reserves: the declared needs, at most what the largest node has, so that every stage finds one."""
        cpus = min(resources.cpus, self.most("CPU", 1.0) or 1.0)
        memory = min(resources.memory_gb * 1e9, self.most("memory"))
        share = self.gpu_share(resources)
        placement: dict[str, Any] = {"num_cpus": math.ceil(cpus) if cpus > 1 else cpus, "memory": int(memory)}
        return {**placement, "num_gpus": share} if share else placement

    def _gpu_memory_gb(self) -> float:
        """Memory of a GPU of the cluster. They are taken to be alike: the first one is asked once."""
        import ray

        with self._lock:
            if self._gpu_gb is None:
                self._gpu_gb = ray.get(ray.remote(gpu_memory_gb).options(num_cpus=0, num_gpus=0.01).remote())
            return self._gpu_gb or 0.0


class ThisMachine:
    """What Ray would find when it is started here."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings

    def cpus(self) -> float:
        """See `flows.runner.base.Machines`."""
        return float(cpu_cores())

    def gpus(self) -> float:
        """See `flows.runner.base.Machines`."""
        return 0.0 if self._settings.device == "cpu" else float(gpu_count())

    def gpu_share(self, resources: Resources) -> float:
        """See `flows.runner.base.Machines`."""
        if not resources.gpu_memory_gb or not self.gpus():
            return 0.0
        return gpu_share(resources.gpu_memory_gb, self._settings.gpu_memory_gb or gpu_memory_gb())


def connect(address: str | None) -> bool:
    """Join a cluster or start one. Returns whether there was none in this process before.

    Raises DigitizeError(worker_lost) when there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_task_oom_retries", "1")
    # told to the cluster every second; what a driver keeps of them grows with each task up to this many
    os.environ.setdefault("RAY_task_events_max_num_status_events_buffer_on_worker", "1000")
    import ray

    if ray.is_initialized():
        return False
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            ray.init(
                num_cpus=cpu_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=False,
                **common,
            )
        else:
            _knock(address)
            ray.init(address=address, **common)
    except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"expected a Ray cluster at {address or 'this machine'}, found: {error}",
            hint=(
                "Check DIGITIZE_RAY_ADDRESS; ray:// and http:// addresses want the extra asset-digitizer[cluster]. A "
                "'connection timeout' often means that the cluster wants a token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH here and on every node."
            ),
            retryable=True,
        ) from error
    return True


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at the address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
