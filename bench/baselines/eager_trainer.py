"""A complete hash-grid trainer in eager torch on the analytic scene, one thread, its clock in process CPU seconds.

Density and colour networks, spherical harmonics, an occupancy grid of 64^3 cells of which an eighth is refreshed every
16 steps, random backgrounds, default Adam, about 8192 samples a step. `eager` encodes by `naive_encode`; `eager_tuned`
by `better_eager_encode`, with glibc told to keep freed memory. `engine` is the product's kernels in the same trainer.

    python -m bench.baselines.eager_trainer eager 20 --scene /tmp/scene.pt       the last line is one JSON object

The clock stands still during evaluations. Do not speed it up or slow it down: the engine is measured against it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.baselines.analytic import Rays, train_and_test
from bench.baselines.eager_model import (
    REFRESH_EVERY,
    TARGET_SAMPLES,
    Mode,
    Model,
)

MODES: tuple[Mode, ...] = ("eager", "eager_tuned", "engine")
ROOT = Path(__file__).resolve().parents[2]

TRACKED_PIXELS = 6000
"""Held-out pixels on which the PSNR is followed."""
MILESTONES_DB = (20, 25, 28, 30, 32)


@dataclass
class Clock:
    """What was spent on training."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    refresh_cpu_s: float = 0.0
    steps: int = 0
    samples: int = 0
    rays: int = 1024
    """Rays of the next step: follows the samples."""
    next_evaluation_s: float = 0.0
    reached: dict[int, float] = field(default_factory=dict)
    """CPU seconds to each of MILESTONES_DB."""


def train(mode: Mode, seconds: float, target_db: float, scene: Path) -> dict[str, Any]:
    """Train for CPU `seconds` on one thread or until the tracked PSNR is `target_db`.

    Changes this process's thread count, random seed and, in mode `eager_tuned`, its allocator: see `measure`.

    Args:
        scene: file of the pictures, made if need be (`analytic.train_and_test`).

    Returns:
        JSON values: steps, samples, CPU and wall seconds, CPU seconds to each milestone (None where not reached),
        PSNR over the same held-out pixels at the end (None while the grid is not pruned, the first 20 to 30 s), peak
        memory of this process.
    """
    torch.set_num_threads(1)
    if mode != "eager":
        _keep_freed_memory()
    pictures, test = train_and_test(scene)
    order = torch.randperm(len(test.origins), generator=torch.Generator().manual_seed(9))[:TRACKED_PIXELS]
    tracked = Rays(*(part[order].contiguous() for part in test))
    model, clock = _model(mode), Clock()
    torch.manual_seed(5)
    while clock.cpu_s < seconds:
        _one_step(model, clock, pictures)
        if clock.cpu_s >= clock.next_evaluation_s and model.pruned:
            psnr = model.psnr(tracked)
            for milestone in MILESTONES_DB:
                if psnr >= milestone:
                    clock.reached.setdefault(milestone, round(clock.cpu_s, 2))
            clock.next_evaluation_s = clock.cpu_s * 1.03 + 0.05
            if psnr >= target_db:
                break
    return {
        "mode": mode,
        "steps": clock.steps,
        "samples": clock.samples,
        "cpu_s": round(clock.cpu_s, 2),
        "wall_s": round(clock.wall_s, 2),
        "refresh_cpu_s": round(clock.refresh_cpu_s, 2),
        "samples_per_cpu_s": round(clock.samples / clock.cpu_s),
        "cpu_s_to_db": {str(milestone): clock.reached.get(milestone) for milestone in MILESTONES_DB},
        "psnr": round(model.psnr(tracked), 2) if model.pruned else None,
        "occupancy": round(float(model.occupied.float().mean()), 4),
        "peak_rss_gb": round(peak_rss_gb(), 3),
    }


def _model(mode: Mode) -> Model:
    if mode != "engine":
        return Model(mode)
    from bench.engine_model import EngineModel

    return EngineModel()


def _one_step(model: Model, clock: Clock, pictures: Rays) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    if clock.steps % REFRESH_EVERY == 0 and clock.steps > 0:
        model.refresh(clock.steps)
        clock.refresh_cpu_s += time.process_time() - cpu
    k = torch.randint(pictures.origins.shape[0], (clock.rays,))
    background = torch.rand(clock.rays, 3)
    target = pictures.rgb[k] + (1 - pictures.alpha[k])[:, None] * background
    jitter = torch.rand(clock.rays)
    samples = model.learn(pictures.origins[k], pictures.directions[k], target, background, jitter, clock.steps)
    clock.wall_s += time.perf_counter() - wall
    clock.cpu_s += time.process_time() - cpu
    clock.steps += 1
    if samples is not None:
        clock.samples += samples
        growth = min(1.5, max(0.5, TARGET_SAMPLES / max(1, samples)))
        clock.rays = int(min(8192, max(128, clock.rays * growth)))


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks."""
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((-3, 32 << 20), (-1, 2**31 - 1), (-2, 256 << 20)):
        mallopt(option, value)


def peak_rss_gb() -> float:
    """Peak resident memory of this process. On Linux since its program was started: getrusage's counts the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def measure(mode: Mode, seconds: float, target_db: float, scene: Path) -> dict[str, Any]:
    """As `train`, in a process of its own, so that its peak memory is its own."""
    train_and_test(scene)
    command = [sys.executable, "-m", "bench.baselines.eager_trainer", mode, str(seconds)]
    command += ["--target-db", str(target_db), "--scene", str(scene)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("seconds", type=float, help="CPU seconds of training")
    parser.add_argument("--target-db", type=float, default=99.0, help="stop at this PSNR")
    parser.add_argument("--scene", type=Path, required=True, help="file of the pictures; made if need be")
    arguments = parser.parse_args()
    print(json.dumps(train(arguments.mode, arguments.seconds, arguments.target_db, arguments.scene)))


if __name__ == "__main__":
    main()
