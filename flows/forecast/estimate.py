"""What a run would do and cost: which stages are committed, how long the others take, whether the machine is enough.

Times come from the method's own estimate, corrected by what the same method with the same options really took for
other assets of this store.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any
from zipfile import BadZipFile, ZipFile

from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from flows.plan.walk import Walk, walk
from infra.settings import RunSettings
from models.artifacts import DONE_FILE
from models.media import is_archive, is_photo
from models.results import ArtifactRef, Done, RejectedChain
from models.stage import Stage
from models.store import Store
from tasks import registry

_UNKNOWN_PHOTOS = 60
_UNKNOWN_MEGAPIXELS = 12.0
_MOST_COMMITS_READ = 400
_PER_ASSET_OPTIONS = frozenset(
    {"scale", "gates", "targets", "region", "format", "mask_role", "features_in_masks", "stepped_down", "rejected"}
)
_OWN_GUESS = (0.5, 2.0)
_FEW_SAMPLES = (0.7, 1.5)


class StageOutlook(StrEnum):
    """What a run would do with a stage."""

    CACHED = "cached"
    WILL_RUN = "will_run"
    WAITS = "waits"
    """Runs after a stage that has to run first; it may turn out to be cached."""
    NOT_REACHED = "not_reached"
    """A committed stage rejected the asset."""
    SKIPPED = "skipped"
    """No stage needs it."""


@dataclass(frozen=True)
class Forecast:
    """One stage of one asset."""

    outlook: StageOutlook
    method: str
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Lowest, expected, highest; zeros when it does not run."""
    memory_gb: float = 0.0
    scratch_gb: float = 0.0
    samples: int = 0
    """Commits of other assets that the times rest on; 0 for the method's own estimate alone."""

    @property
    def runs(self) -> bool:
        """Whether work is to be expected."""
        return self.outlook in (StageOutlook.WILL_RUN, StageOutlook.WAITS)


@dataclass(frozen=True)
class AssetForecast:
    """One asset: what each stage will do, and what is committed already."""

    id: str
    photos: int
    stages: dict[Stage, Forecast]
    """Of all stages in order, skipped ones too."""
    done: dict[Stage, Done]
    choices: dict[Stage, tuple[str, ...]] = field(default_factory=dict)
    """The methods of stages that have several, in the order in which they are tried."""
    tried: tuple[RejectedChain, ...] = ()
    """The choices of methods whose results were rejected."""


def forecast(plan: BatchPlan, store: Store) -> list[AssetForecast]:
    """What a run of this plan would do."""
    walks = {asset.id: walk(asset, store) for asset in plan.assets}
    history = read_history(store) if any(found.request is not None for found in walks.values()) else History({}, {})
    return [_of_asset(asset, walks[asset.id], history) for asset in plan.assets]


def _of_asset(asset: AssetPlan, found: Walk, history: History) -> AssetForecast:
    photos, megapixels = asset_size(asset, found.done)
    stages: dict[Stage, Forecast] = {}
    first = True
    for stage in registry.stages():
        plan = found.plan.stages.get(stage)
        if plan is None:
            stages[stage] = Forecast(StageOutlook.SKIPPED, "")
        elif stage in found.done:
            stages[stage] = Forecast(StageOutlook.CACHED, plan.method)
        elif found.request is None:
            stages[stage] = Forecast(StageOutlook.NOT_REACHED, plan.method)
        else:
            outlook = StageOutlook.WILL_RUN if first else StageOutlook.WAITS
            stages[stage] = _cost(plan, outlook, asset.id, photos, megapixels, history)
            first = False
    return AssetForecast(asset.id, photos, stages, found.done, asset.choices, found.tried)


def _cost(
    plan: StagePlan, outlook: StageOutlook, asset: str, photos: int, megapixels: float, history: History
) -> Forecast:
    own = plan.estimate(photos, megapixels)
    past = [done for done in history.of(plan) if done.asset != asset]
    ratios = [
        done.seconds / max(plan.estimate(history.photos.get(done.asset, photos), megapixels).seconds, 0.1)
        for done in past
    ]
    if ratios:
        middle = median(ratios)
        spread = (min(ratios) / middle, max(ratios) / middle) if len(ratios) >= 3 and middle > 0 else _FEW_SAMPLES
        expected = own.seconds * middle
    else:
        spread, expected = _OWN_GUESS, own.seconds
    memory = max((done.peak_memory_gb for done in past), default=own.memory_gb)
    return Forecast(
        outlook=outlook,
        method=plan.method,
        seconds=(expected * spread[0], expected, expected * spread[1]),
        memory_gb=memory,
        scratch_gb=plan.resources.scratch_gb,
        samples=len(ratios),
    )


@dataclass(frozen=True)
class History:
    """What earlier commits of a store cost."""

    dones: dict[tuple[str, str], list[Done]]
    """By stage and method."""
    photos: dict[str, int]
    """Photos of each asset, from its ingest commits."""

    def of(self, plan: StagePlan) -> list[Done]:
        """The commits of the same stage and method with the same options, save those that differ by asset."""
        wanted = comparable(plan.options)
        return [
            done
            for done in self.dones.get((plan.stage, plan.method), [])
            if done.version == plan.version and comparable(done.options) == wanted
        ]


def read_history(store: Store) -> History:
    """The commits of a store, at most some hundreds of them."""
    dones: dict[tuple[str, str], list[Done]] = {}
    photos: dict[str, int] = {}
    keys = (stat.key for stat in store.list("work/") if stat.key.endswith(f"/{DONE_FILE}"))
    for key, _ in zip(keys, range(_MOST_COMMITS_READ), strict=False):
        data = store.get_bytes(key)
        if data is None:
            continue
        done = Done.model_validate_json(data)
        if done.stepped_down is not None:  # stands at its own key as well
            continue
        dones.setdefault((done.stage, done.method), []).append(done)
        if done.stage is Stage.INGEST:
            photos[done.asset] = _committed_photos(done)
    return History(dones, photos)


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options that say how much work a stage is: without those that belong to one asset."""
    return {name: value for name, value in options.items() if name not in _PER_ASSET_OPTIONS}


def asset_size(plan: AssetPlan, done: dict[Stage, Done]) -> tuple[int, float]:
    """How many photos an asset has and their megapixels as stages see them, guessed where nothing says."""
    source = plan.sources["photos"]
    photos = _committed_photos(done[Stage.INGEST]) if Stage.INGEST in done else _given_photos(source)
    megapixels = _first_megapixels(source)
    edge = plan.stages[Stage.INGEST].options.get("max_edge_px")
    if isinstance(edge, int | float) and edge > 0:
        megapixels = min(megapixels, edge * edge * 0.75 / 1e6)
    return photos, megapixels


def _committed_photos(done: Done) -> int:
    return sum(file.path.startswith("images/") for file in done.files) or _UNKNOWN_PHOTOS


def _given_photos(source: ArtifactRef) -> int:
    count = sum(is_photo(file.path) for file in source.files)
    if count == 0 and is_archive(source.uri) and "://" not in source.uri:
        try:
            with ZipFile(source.uri) as archive:
                count = sum(is_photo(name) for name in archive.namelist())
        except (BadZipFile, OSError):
            count = 0
    return count or _UNKNOWN_PHOTOS


def _first_megapixels(source: ArtifactRef) -> float:
    """Megapixels of the first photo, from its header."""
    name = next((file.path for file in source.files if is_photo(file.path)), None)
    if name is None or "://" in source.uri:
        return _UNKNOWN_MEGAPIXELS
    from PIL import Image

    path = Path(source.uri)
    try:
        with Image.open(path / name if path.is_dir() else path) as image:
            return image.width * image.height / 1e6
    except (OSError, ValueError, Image.DecompressionBombError):
        return _UNKNOWN_MEGAPIXELS


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


def totals(plan: BatchPlan, forecasts: Sequence[AssetForecast], settings: RunSettings) -> Totals:
    """Add up a forecast."""
    running = [stage for each in forecasts for stage in each.stages.values() if stage.runs]
    busy = sum(any(stage.runs for stage in each.stages.values()) for each in forecasts)
    at_once = max(1, min(settings.assets_at_once or (4 if settings.runner == "ray" else 1), busy))
    low, middle, high = (sum(stage.seconds[i] for stage in running) / at_once for i in range(3))
    sources = {asset.id: sum(file.bytes for file in asset.sources["photos"].files) for asset in plan.assets}
    new = sum(sources[each.id] for each in forecasts if any(stage.runs for stage in each.stages.values()))
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
    """What this machine has to spare."""

    memory_gb: float
    scratch_gb: float
    store_gb: float | None
    """None when the store is not on this machine."""


def room(plan: BatchPlan, settings: RunSettings) -> Room:
    """Free memory and disk of this machine."""
    scratch = settings.scratch or Path(tempfile.gettempdir())
    store = None if "://" in plan.store_uri else free_disk_gb(Path(plan.store_uri))
    return Room(available_memory_gb(), free_disk_gb(scratch), store)


def shortages(total: Totals, here: Room) -> list[str]:
    """What this machine has too little of for that work, for people to read."""
    found = []
    if total.memory_gb > here.memory_gb:
        found.append(f"memory: about {total.memory_gb:.1f} GB needed, {here.memory_gb:.1f} GB available")
    if total.scratch_gb > here.scratch_gb:
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
