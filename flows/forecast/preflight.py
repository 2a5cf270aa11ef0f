"""Before the start: is there disk, memory and GPU enough for what is planned, and for how many assets at once."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.forecast.eta import Eta
from flows.forecast.room import available_memory_gb, free_disk_gb
from flows.forecast.scheduling import GpuNeeds, assets_at_once, gpu_needs
from flows.plan.committed import AssetPlan, StagePlan
from flows.runner.base import Machines
from flows.runner.devices import gpu_memory_gb
from infra.settings import RunSettings
from models.errors import DigitizeError, ReasonCode
from models.stage import Stage

LEAST_FREE_GB = 1.0
"""Free disk below which nothing is started, and which is left free."""


@dataclass(frozen=True)
class Preflight:
    """What was found."""

    at_once: int
    """Assets in flight that there is room for, at most as many as were wanted."""
    notes: tuple[str, ...]
    """What there is too little of and what follows, for people."""


def prepare(
    plans: Sequence[AssetPlan], eta: Eta | None, settings: RunSettings, store_uri: str, machines: Machines
) -> tuple[Preflight, dict[str, GpuNeeds]]:
    """How many assets a run has in flight, what there is too little of, and what each asset takes of the GPUs.

    Raises DigitizeError(out_of_disk) as `preflight` does.
    """
    needs = {} if eta is None else {each.id: gpu_needs(each, machines, eta.expected(each.id)) for each in plans}
    cpus = max(stage.resources.cpus for plan in plans for stage in plan.stages.values())
    wanted = assets_at_once(settings, machines, list(needs.values()), cpus)
    return preflight(plans, settings, store_uri, machines, wanted), needs


def preflight(
    plans: Sequence[AssetPlan], settings: RunSettings, store_uri: str, machines: Machines, wanted: int
) -> Preflight:
    """Compare what the stages declare with this machine, or with the GPUs of the cluster that will run them.

    Raises DigitizeError(out_of_disk) when this machine's disk is all but full: the run would only fill it.
    """
    stages = [stage for plan in plans for stage in plan.stages.values()]
    here = not settings.elsewhere
    at_once, notes = wanted, list[str]()
    scratch = settings.scratch or Path(tempfile.gettempdir())
    places = ([("scratch", scratch)] if here else []) + ([] if "://" in store_uri else [("store", Path(store_uri))])
    for name, path in places:
        _check_usable(name, path)
        if (free := free_disk_gb(path)) < LEAST_FREE_GB:
            raise DigitizeError(
                ReasonCode.OUT_OF_DISK,
                f"expected at least {LEAST_FREE_GB:g} GB free for the {name}, found {free:.2f} GB",
                path=str(path),
            )
    if here:
        disk, memory = free_disk_gb(scratch) - LEAST_FREE_GB, available_memory_gb()
        for what, has, largest, need in (
            ("scratch disk", disk, *_largest(stages, lambda stage: stage.resources.scratch_gb)),
            ("memory", memory, *_largest(stages, lambda stage: stage.resources.memory_gb)),
        ):
            fit = math.floor(has / need)
            if fit < 1:
                notes.append(f"{what}: stage {largest} declares {need:.1f} GB, found {has:.1f} GB: it may step down")
            elif fit < at_once:
                notes.append(f"{what}: {has:.1f} GB is enough for {fit} assets at once rather than {at_once}")
            at_once = min(at_once, max(1, fit))
    if (note := _gpu_note(stages, settings, machines)) is not None:
        notes.append(note)
    return Preflight(at_once, tuple(notes))


def _check_usable(name: str, path: Path) -> None:
    """Raise DigitizeError(environment) where a folder cannot be made or written."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    found = ""
    if not existing.is_dir():
        found = f"a file at {existing}"
    elif not os.access(existing, os.W_OK | os.X_OK):
        found = f"a folder that cannot be written: {existing}"
    elif name == "scratch":
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = f"none, and it cannot be made: {error.strerror}"
    if found:
        setting = "DIGITIZE_SCRATCH (or TMPDIR)" if name == "scratch" else "`store` in the specification"
        hint = f"Set {setting} to a folder that you can write."
        message = f"expected a folder for the {name}, found {found}"
        raise DigitizeError(ReasonCode.ENVIRONMENT, message, hint, path=str(path))


def _largest(stages: Sequence[StagePlan], need: Callable[[StagePlan], float]) -> tuple[Stage, float]:
    found = max(stages, key=need)
    return found.stage, need(found)


def _gpu_note(stages: Sequence[StagePlan], settings: RunSettings, machines: Machines) -> str | None:
    """Whether some stage declares more GPU memory than a GPU has, where that is known."""
    if not machines.gpus():
        return None
    has = settings.gpu_memory_gb or (gpu_memory_gb() if settings.runner == "inline" else 0.0)
    stage, need = _largest(stages, lambda stage: stage.resources.gpu_memory_gb)
    if not has or need <= has:
        return None
    return f"GPU memory: stage {stage} declares {need:.1f} GB, a GPU has {has:.1f} GB: it may step down"
