"""What a batch needs as a whole, and what this machine has to spare for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.forecast.estimate import AssetForecast
from flows.plan.committed import BatchPlan
from infra.settings import RunSettings


@dataclass(frozen=True)
class Totals:
    """A whole batch."""

    stages: int
    seconds: tuple[float, float, float]
    """Wall seconds with `at_once` assets in flight: lowest, expected, highest."""
    at_once: int
    memory_gb: float
    """The largest stage, as many times as assets run at once."""
    scratch_gb: float
    store_gb: float


def totals(plan: BatchPlan, forecasts: Sequence[AssetForecast], at_once: int) -> Totals:
    """Add up a forecast.

    Args:
        at_once: assets in flight, if there are so many.
    """
    running = [stage for each in forecasts for stage in each.stages.values() if stage.runs]
    busy = sum(each.runs for each in forecasts)
    at_once = max(1, min(at_once, busy))
    low, middle, high = (sum(stage.seconds[i] for stage in running) / at_once for i in range(3))
    sources = {asset.id: sum(file.bytes for file in asset.sources["photos"].files) for asset in plan.assets}
    new = sum(sources[each.id] for each in forecasts if each.runs)
    return Totals(
        stages=len(running),
        seconds=(low, middle, high),
        at_once=at_once,
        memory_gb=at_once * max((stage.memory_gb for stage in running), default=0.0),
        scratch_gb=at_once * max((stage.scratch_gb for stage in running), default=0.0),
        store_gb=2 * new / 1e9 + 0.1 * busy,
    )


@dataclass(frozen=True)
class Room:
    """What this machine has to spare. None for what the work takes elsewhere: on a cluster, in a bucket."""

    memory_gb: float | None
    scratch_gb: float | None
    store_gb: float | None


def room(plan: BatchPlan, settings: RunSettings) -> Room:
    """Free memory and disk of this machine."""
    store = None if "://" in plan.store_uri else free_disk_gb(Path(plan.store_uri))
    if settings.elsewhere:
        return Room(None, None, store)
    return Room(available_memory_gb(), free_disk_gb(settings.scratch or Path(tempfile.gettempdir())), store)


def shortages(total: Totals, here: Room) -> list[str]:
    """What this machine has too little of for that work, for people to read."""
    found = []
    if here.memory_gb is not None and total.memory_gb > here.memory_gb:
        found.append(f"memory: about {total.memory_gb:.1f} GB needed, {here.memory_gb:.1f} GB available")
    if here.scratch_gb is not None and total.scratch_gb > here.scratch_gb:
        found.append(f"scratch disk: {total.scratch_gb:.1f} GB needed, {here.scratch_gb:.1f} GB free")
    if here.store_gb is not None and total.store_gb > here.store_gb:
        found.append(f"store: about {total.store_gb:.1f} GB needed, {here.store_gb:.1f} GB free")
    return found


def free_disk_gb(path: Path) -> float:
    """Free space of the disk that `path` lies on, or will lie on."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free / 1e9


def available_memory_gb() -> float:
    """Main memory that a new process can use, within the limits of a container."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([free, *_container_memory()]) / 1e9


def _container_memory() -> Iterable[int]:
    """What the container's memory limit leaves, when there is one."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        cache = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii")
    except OSError:
        return
    if limit.isdigit():
        reclaimable = next((int(x.split()[1]) for x in cache.splitlines() if x.startswith("inactive_file ")), 0)
        yield int(limit) - used + reclaimable
