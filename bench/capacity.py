"""How long a programme takes on how many GPUs: simulated, and the simulation checked against a real run.

    python -m bench.capacity            1e3, 1e5 and 1e6 assets on 1 to 1,000 GPUs, with and without lost machines;
                                        200 assets of sleeping stages through the flows on 4 fake GPUs
    python -m bench.capacity --quick    1e3 assets alone; 40 assets on 2 fake GPUs

Stage times are those of the sample capture on two cores (`bench/orchestration.py`); on real GPUs they are shorter, and
the shape of the result is the same. `sim_vs_real`: simulated over measured wall time of the same assets, the overhead
of a stage measured just before in the same process. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.orchestration import (
    FAKE_GPU_GB,
    GPU_SHARES,
    LINE_SECONDS,
    SPREAD,
    STAGES,
    flows_seconds,
    keep_to,
    noop_method,
    plan_of,
    ray_here,
)
from flows.forecast.scheduling import in_flight
from flows.forecast.simulation import Losses, Outcome, Simulation, Site, StageCost
from models.stage import Stage
from tasks import registry

LOSSES = Losses(gpu_mtbf_h=200.0, repair_s=300.0, checkpoint_s=60.0, quarantined=0.02)
"""Assumed, not measured: preemptible machines lost every 200 GPU hours, two assets in a hundred given up."""
GPU_PRICE = 2.0
"""Assumed: of one GPU for one hour."""
CORES_A_GPU = 16.0


def costs() -> dict[Stage, StageCost]:
    """What the stages reserve: the cores that the methods declare, the GPU shares of an 8 GB GPU."""
    return {stage: StageCost(1.0 if stage is Stage.PUBLISH else 2.0, GPU_SHARES.get(stage, 0.0)) for stage in STAGES}


def draw(asset: int) -> dict[Stage, float]:
    """One asset of the programme."""
    size = random.Random(asset).lognormvariate(0.0, SPREAD)
    return {Stage(stage): seconds * size for stage, seconds in LINE_SECONDS.items()}


def row(assets: int, gpus: int, losses: Losses) -> dict[str, Any]:
    """One programme."""
    on_gpu = sum(LINE_SECONDS[stage] for stage in GPU_SHARES)
    share = sum(LINE_SECONDS[stage] * share for stage, share in GPU_SHARES.items()) / on_gpu
    site = Site(
        gpus, CORES_A_GPU * gpus, in_flight(gpus, CORES_A_GPU * gpus, share, on_gpu / sum(LINE_SECONDS.values()), 2.0)
    )
    start = time.perf_counter()
    found: Outcome = Simulation(assets, draw, costs(), site, losses).run()
    return {
        "assets": assets,
        "gpus": gpus,
        "losses": losses is LOSSES,
        "at_once": site.at_once,
        "hours": round(found.seconds / 3600, 2),
        "gpu_fill": round(found.gpu_fill(gpus), 3),
        "cost": round(found.seconds / 3600 * gpus * GPU_PRICE),
        "quarantined": found.quarantined,
        "lost_machines": found.lost_machines,
        "simulated_in_s": round(time.perf_counter() - start, 1),
    }


def against_real(assets: int, gpus: int, speed: float) -> dict[str, float]:
    """The same assets through the flows and through the simulation."""
    seconds = [{stage: took / speed for stage, took in draw(asset).items()} for asset in range(assets)]
    registry.method = lambda stage, name: noop_method()
    with tempfile.TemporaryDirectory() as temporary, ray_here(num_cpus=128, num_gpus=gpus, _memory=100e9):
        folder = Path(temporary)
        keep_to(folder)
        plan = plan_of(folder / "real", [{str(stage): took for stage, took in each.items()} for each in seconds])
        on_gpu = sum(LINE_SECONDS[stage] for stage in GPU_SHARES)
        share = sum(LINE_SECONDS[stage] * share for stage, share in GPU_SHARES.items()) / on_gpu
        at_once = in_flight(gpus, CORES_A_GPU * gpus, share, on_gpu / sum(LINE_SECONDS.values()), 2.0)
        warm = plan_of(folder / "warm", [dict.fromkeys(LINE_SECONDS, 0.3)] * at_once)
        flows_seconds(folder / "warm", warm, at_once, gpu_memory_gb=FAKE_GPU_GB)
        alone = plan_of(folder / "alone", [{}] * 10)
        overhead = flows_seconds(folder / "alone", alone, 1, gpu_memory_gb=FAKE_GPU_GB) / (10 * len(STAGES))
        took = flows_seconds(folder / "real", plan, at_once, gpu_memory_gb=FAKE_GPU_GB)
    bench_costs = {stage: StageCost(1.0, GPU_SHARES.get(stage, 0.0)) for stage in STAGES}
    site = Site(gpus, 128.0, at_once, overhead_s=overhead)
    found = Simulation(assets, lambda asset: seconds[asset], bench_costs, site).run()
    return {
        "real_assets": assets,
        "real_s": round(took, 1),
        "simulated_s": round(found.seconds, 1),
        "overhead_ms": round(1e3 * overhead, 1),
        "real_fill": round(found.ideal_s(gpus) / took, 3),
        "sim_vs_real": round(found.seconds / took, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sim-only", action="store_true", help="without the real run")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load before: {load:.2f}, cores: {os.cpu_count()}")
    real = {} if arguments.sim_only else against_real(40, 2, 60.0) if arguments.quick else against_real(200, 4, 80.0)
    if real:
        print(real, flush=True)  # the simulations after it may take an hour
    rows = []
    for assets in (1000,) if arguments.quick else (1000, 100_000, 1_000_000):
        for gpus in (1, 10, 100, 1000):
            for losses in (Losses(), LOSSES):
                rows.append(row(assets, gpus, losses))
                print(rows[-1], flush=True)
    figures = {**real, "rows": rows, "assumed": {"gpu_price": GPU_PRICE, "gpu_mtbf_h": 200, "quarantined": 0.02}}
    head = {"bench": "capacity", "load_before": round(load, 2), **({"quick": True} if arguments.quick else {})}
    print(json.dumps({**head, "figures": figures}))


if __name__ == "__main__":
    main()
