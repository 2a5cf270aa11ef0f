"""What orchestration costs: this project's flows beside plain Ray tasks, and how full they keep the GPUs.

    python -m bench.orchestration            1, 100 and 1,000 assets of six no-op stages; 60 assets on 4 fake GPUs
    python -m bench.orchestration --against COMMIT    overhead and memory of an older commit beside these, in one run
    python -m bench.orchestration --quick    1 and 20 assets; 12 assets on 2 fake GPUs

Both sides run on one Ray in one process, no-op stages in the Ray worker's own process:
- `plain`: a chain of six Ray tasks an asset that do nothing, all submitted at once.
- `commit`: the same chain of tasks, each of which runs the door and commits to the store as a stage does.
- `flows`: `run_batch`: Prefect task runs, leases, statuses, ledger of the window, and the stages of `commit`.
`driver_cpu_ms`: CPU time of the flows' own process a stage, which other work on the machine hardly changes.
Not in these: the child process that every real stage has (`process_ms`, measured by itself).

`memory_rows`: resident MB of a process that does nothing but drive one batch, after a batch of four assets and with
the plan of this one made (`planned`), the most after any asset, and at the end.

`gpu_fill`: stages sleep for times drawn from the real line's shares, at a fraction of its speed; the ideal is
max(GPU work / GPUs, longest chain). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from bench.orchestration_against import measure_against
from bench.orchestration_doors import run as noop_door  # noqa: F401  # the stages name it: it must be importable
from flows.batch import run_batch
from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from flows.runner.job import Job
from flows.runner.make import make_runner
from flows.runner.ray_node import run_on_node
from flows.runner.stage_process import run_in_child
from flows.status.board import Board
from infra.settings import RunSettings
from models.errors import DigitizeError
from models.record import Record
from models.resources import Estimate, Resources
from models.results import ArtifactRef, StageRequest
from models.stage import Stage
from models.status import AssetStatus, Phase
from tasks import registry

ROOT = Path(__file__).resolve().parents[1]

DOOR = "bench.orchestration_doors:run"
SLOW_DOOR = "tests.flows.doors:run"
LINE_SECONDS = {
    "ingest": 3.0,
    "pose": 55.0,
    "mask": 75.0,  # beside other work
    "train": 132.0,
    "surface": 20.0,
    "scale": 1.0,
    "export": 2.0,
    "quality": 35.0,
    "publish": 2.0,
}
"""Of the sample capture, preset `preview`, on two cores (docs/benchmarks.md)."""
STAGES = tuple(stage for stage in registry.stages() if stage in LINE_SECONDS)
GPU_SHARES = {"train": 1.0, "surface": 0.5, "quality": 0.5}
"""Of one 8 GB GPU: what the methods declare."""
FAKE_GPU_GB = 8.0
SPREAD = 0.35
"""Standard deviation of the logarithm of an asset's size."""


def prepare_ray() -> None:
    """What Ray reads when it is imported, for this process and those that it starts."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_events_max_num_status_events_buffer_on_worker", "1000")  # as `flows.runner` sets it


def keep_to(folder: Path) -> None:
    """Keep Prefect's database and the catalogue of times in a folder of the bench."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ["DIGITIZE_DATABASE_URL"] = f"sqlite:///{folder / 'catalogue.db'}"


@contextmanager
def ray_here(**resources: float) -> Iterator[None]:
    """One Ray in this process."""
    prepare_ray()
    import ray

    ray.init(
        include_dashboard=False,
        logging_level=40,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=100 << 20,
        **resources,
    )
    try:
        yield
    finally:
        ray.shutdown()


def plan_of(folder: Path, seconds: list[dict[str, float]]) -> BatchPlan:
    """A batch of as many assets as `seconds` has, whose stages sleep for so long."""
    assets = []
    for number, each in enumerate(seconds):
        stages = {}
        for stage in STAGES:
            options = {"seconds": round(each[stage], 4)} if each.get(stage) else {}
            gpu = GPU_SHARES.get(stage, 0.0) * FAKE_GPU_GB if each else 0.0
            resources = Resources(cpus=1, memory_gb=0.05, scratch_gb=0.1, timeout_s=600, gpu_memory_gb=gpu)
            stages[stage] = StagePlan(stage, "noop", "1", options, resources, inputs=STAGES[: STAGES.index(stage)])
        photos = ArtifactRef(digest="0", uri="photos.zip")
        assets.append(AssetPlan(f"a{number:04d}", f"bench{len(seconds)}", 0, stages, {"photos": photos}))
    return BatchPlan(f"bench{len(seconds)}", str(folder / "store"), tuple(assets), {})


def noop_method() -> ModuleType:
    """A method whose estimate is what its stage will sleep for."""
    module = ModuleType("noop")
    module.Options = NoopOptions  # type: ignore[attr-defined]
    module.estimate = lambda options, photos, megapixels: Estimate(seconds=options.seconds, memory_gb=0.1)  # type: ignore[attr-defined]
    return module


class NoopOptions(Record):
    """Of the stages here."""

    seconds: float = 0.0


class Watch:
    """Wall seconds from the first asset that starts to the last one that ends."""

    def __init__(self) -> None:
        self.first, self.last = float("inf"), 0.0

    def __call__(self, status: AssetStatus) -> None:
        now = time.perf_counter()
        if status.phase is Phase.RUNNING:
            self.first = min(self.first, now)
        self.last = now

    @property
    def seconds(self) -> float:
        return self.last - self.first


def flows_seconds(folder: Path, plan: BatchPlan, at_once: int, watch: Watch | None = None, **settings: Any) -> float:
    """`run_batch` on the Ray of this process."""
    run = RunSettings(runner="ray", assets_at_once=at_once, scratch=folder, **settings)
    watch = watch or Watch()
    runner = make_runner(run, plan.store_uri, DOOR, isolated=False)
    outcome = run_batch(plan, run, board=Board(plan.name, listener=watch), runner=runner)
    runner.close()
    if outcome.counts != {Phase.DONE: len(plan.assets)}:
        sys.exit(f"expected every asset done, found {outcome.counts}")
    return watch.seconds


def plain_seconds(assets: int) -> float:
    """Chains of Ray tasks that do nothing."""
    import ray

    @ray.remote(num_cpus=1)
    def noop(before: object) -> object:
        return before

    ray.get([noop.remote(None) for _ in range(8)])  # workers have started
    start = time.perf_counter()
    refs = []
    for number in range(assets):
        ref = noop.remote(number)
        for _ in STAGES[1:]:
            ref = noop.remote(ref)
        refs.append(ref)
    ray.get(refs)
    return time.perf_counter() - start


def commit_seconds(folder: Path, assets: int, at_once: int) -> float:
    """Chains of Ray tasks that run the door and commit, driven by as many threads as the flows have."""
    import ray

    task = ray.remote(run_on_node).options(num_cpus=1)

    def chain(number: int) -> None:
        for stage in STAGES:
            request = StageRequest(asset=f"c{number:04d}", stage=stage, method="noop", version="1")
            job = Job(request=request, store_uri=str(folder / "commit"), door=DOOR, isolated=False)
            ray.get(task.remote(job.model_dump_json(), f"{request.prefix}/stop"))

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(chain, range(assets)))
    return time.perf_counter() - start


def process_seconds(folder: Path, times: int) -> float:
    """A stage that does nothing in a child process of its own, as every real stage is run."""
    taken = []
    for number in range(times):
        request = StageRequest(asset="p", stage=Stage.POSE, method="noop", version="1", seed=number)
        job = Job(request=request, store_uri=str(folder / "process"), scratch=str(folder), door=DOOR)
        start = time.perf_counter()
        run_in_child(job, lambda *progress: None, lambda: False)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[times // 2]


def cancel_seconds(folder: Path) -> float:
    """From cancelling to the end of a Ray stage in native code that ignores signals, its own children included."""
    pids, cancel = folder / "pids", threading.Event()
    options = {"do": "deaf", "pids": str(pids)}
    request = StageRequest(asset="x", stage=Stage.POSE, method="stub", version="1", options=options)
    runner = make_runner(RunSettings(runner="ray", scratch=folder), str(folder / "cancel"), SLOW_DOOR)

    def work() -> None:
        try:
            runner.run(request, lambda *progress: None, cancel.is_set)
        except DigitizeError:
            return

    thread = threading.Thread(target=work)
    thread.start()
    while not pids.exists():
        time.sleep(0.02)
    numbers = [int(pid) for pid in pids.read_text().split()]
    start = time.perf_counter()
    cancel.set()
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in numbers):
        time.sleep(0.02)
    taken = time.perf_counter() - start
    thread.join()
    runner.close()
    return taken


def overhead(folder: Path, sizes: list[int], at_once: int) -> list[dict[str, float]]:
    """Milliseconds a stage of each side for each number of assets."""
    rows = []
    with ray_here(num_cpus=2):
        flows_seconds(folder / "warm", plan_of(folder / "warm", [{}] * 4), 2)
        for size in sizes:
            stages, where = size * len(STAGES), folder / str(size)
            where.mkdir()
            row = {"assets": size, "plain_ms": round(1e3 * plain_seconds(size) / stages, 3)}
            row["commit_ms"] = round(1e3 * commit_seconds(where, size, at_once) / stages, 3)
            before = time.process_time()
            row["flows_ms"] = round(1e3 * flows_seconds(where, plan_of(where, [{}] * size), at_once) / stages, 3)
            row["driver_cpu_ms"] = round(1e3 * (time.process_time() - before) / stages, 3)
            rows.append(row)
            print(rows[-1], flush=True)
        print(f"cancel: {(cancelled := cancel_seconds(folder)):.2f} s")
    rows[-1]["cancel_s"] = round(cancelled, 2)
    return rows


class Memory(Watch):
    """Resident MB of this process, each time an asset ends."""

    def __init__(self) -> None:
        super().__init__()
        self.mb: list[float] = []

    def __call__(self, status: AssetStatus) -> None:
        super().__call__(status)
        if status.phase is Phase.DONE:
            self.mb.append(psutil.Process().memory_info().rss / 1e6)


def memory_mb(folder: Path, size: int, at_once: int) -> dict[str, float]:
    """Resident MB of a process that does nothing but drive one batch: with its plan made, at most, and at the end."""
    where, watch = folder / f"memory{size}", Memory()
    where.mkdir(parents=True)
    with ray_here(num_cpus=2):
        flows_seconds(where, plan_of(where, [{}] * 4), 2)
        plan = plan_of(where, [{}] * size)
        planned = psutil.Process().memory_info().rss / 1e6
        flows_seconds(where, plan, at_once, watch)
        ended = psutil.Process().memory_info().rss / 1e6
    return {"assets": size, "planned": round(planned), "most": round(max(watch.mb)), "ended": round(ended)}


def memory_rows(folder: Path, sizes: list[int], at_once: int) -> list[dict[str, float]]:
    """`memory_mb` for each size, each in a process of its own."""
    rows = []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(memory_mb, folder, size, at_once).result())
        print(rows[-1], flush=True)
    return rows


def gpu_fill(folder: Path, assets: int, gpus: int, speed: float) -> dict[str, float]:
    """How close the flows come to the ideal makespan on fake GPUs. `speed`: how much faster than the real line."""
    draw = random.Random(11)
    sizes = [draw.lognormvariate(0.0, SPREAD) / speed for _ in range(assets)]
    seconds = [{stage: took * size for stage, took in LINE_SECONDS.items()} for size in sizes]
    work = sum(each[stage] * share for each in seconds for stage, share in GPU_SHARES.items())
    ideal = max(work / gpus, *(sum(each.values()) for each in seconds))
    plan = plan_of(folder, seconds)
    registry.method = lambda stage, name: noop_method()
    with ray_here(num_cpus=128, num_gpus=gpus, _memory=100e9):
        warm = [dict.fromkeys(LINE_SECONDS, 0.3)] * 6 * gpus
        flows_seconds(folder / "warm", plan_of(folder / "warm", warm), 6 * gpus)  # the workers have started
        took = flows_seconds(folder, plan, 0, gpu_memory_gb=FAKE_GPU_GB)
    return {"ideal_s": round(ideal, 1), "took_s": round(took, 1), "gpu_fill": round(ideal / took, 3)}


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        keep_to(folder)
        (folder / "warm").mkdir()
        sizes = [1, 20] if quick else [1, 100, 1000]
        memory = [] if quick else memory_rows(folder, sizes[1:], 4)  # first: with no server of this process to join
        rows = overhead(folder, sizes, 4)
        process_ms = 1e3 * process_seconds(folder, 3 if quick else 9)
        fill = gpu_fill(folder / "fill", 12, 2, 100.0) if quick else gpu_fill(folder / "fill", 60, 4, 20.0)
    last = rows[-1]
    line = sum(LINE_SECONDS.values())
    over = last["flows_ms"] - last["plain_ms"]
    figures: dict[str, Any] = {
        "overhead_ms_per_stage": round(over, 2),
        "overhead_vs_plain_ray": round(last["flows_ms"] / last["plain_ms"], 2),
        "driver_cpu_ms_per_stage": last["driver_cpu_ms"],
        "overhead_over_commit_ms": round(last["flows_ms"] - last["commit_ms"], 2),
        "process_ms": round(process_ms),
        "share_of_line": round(len(STAGES) * (over + process_ms) / 1e3 / line, 4),
        "cancel_s": last["cancel_s"],
        "rows": rows,
        "memory_rows": memory,
        **fill,
    }
    if not quick:
        figures["flat_to_1000"] = round(rows[-1]["flows_ms"] / rows[-2]["flows_ms"], 3)
        figures["memory_1000_vs_100"] = round(memory[-1]["ended"] / memory[-2]["ended"], 3)
    return figures


def fill_alone() -> dict[str, Any]:
    """The figure `gpu_fill`."""
    with tempfile.TemporaryDirectory() as temporary:
        keep_to(Path(temporary))
        return gpu_fill(Path(temporary) / "fill", 60, 4, 20.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only-fill", action="store_true", help="gpu_fill alone")
    parser.add_argument("--against", metavar="COMMIT", help="an older commit beside this tree, in turns; nothing else")
    arguments = parser.parse_args()
    prepare_ray()
    load = os.getloadavg()[0]
    print(f"load before: {load:.2f}, cores: {os.cpu_count()}")
    if arguments.against:
        figures = measure_against(arguments.against, arguments.quick)
    else:
        figures = fill_alone() if arguments.only_fill else measure(arguments.quick)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    head = {"bench": "orchestration", "load_before": round(load, 2), **({"quick": True} if arguments.quick else {})}
    print(json.dumps({**head, "figures": figures}))


if __name__ == "__main__":
    main()
