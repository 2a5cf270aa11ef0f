"""The whole line on the sample capture: time, memory, fidelity and geometry, the visual hull beside it.

    python -m bench.line                    what `make demo` does, into a fresh folder: photos as a phone takes them
    python -m bench.line --style studio     the same on the studio-style sample
    python -m bench.line --quick            a small capture and few steps: shows that the script works, under 60 s
    python -m bench.line --against COMMIT   the same with an older commit beside it, on the same photographs

The last line is one JSON object. Wall time counts as a budget only on a machine whose load was below 0.5 before the
start; the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.older_commit import ROOT, checked_out

QUICK_STAGES = {
    "pose": {"options": {"max_features": 1500}},
    "train": {"options": {"steps": 300}},
    "surface": {"options": {"resolution": 64, "faces": 2000, "texture_size": 512}},
    "quality": {"options": {"samples": 20000, "max_views": 1}},
}


class MemoryWatch(threading.Thread):
    """Peak of the proportional memory of a process and everything below it, sampled twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak_gb = psutil.Process(pid), 0.0

    def run(self) -> None:
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in [self.root, *self.root.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_gb = max(self.peak_gb, total / 1e9)
            time.sleep(0.5)


def digitize(*arguments: str, tree: Path = ROOT) -> tuple[dict[str, Any], float]:
    """One `digitize ... --json` of a tree in a process of its own: its document, and the peak memory below it in GB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments, "--json"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = MemoryWatch(process.pid)
    watch.start()
    output, _ = process.communicate()
    if process.returncode not in (0, 3):
        sys.exit(f"digitize {' '.join(arguments)} ended with {process.returncode}")
    return json.loads(output), watch.peak_gb


def shrink(batch: Path) -> None:
    """Few steps and small outputs, for `--quick`."""
    spec = yaml.safe_load(batch.read_text())
    spec["stages"] = {**spec.get("stages", {}), **QUICK_STAGES}
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))


def measure(folder: Path, quick: bool, style: str, tree: Path = ROOT) -> dict[str, Any]:
    """Run sample and line of a tree in `folder` and collect the figures. A sample that is there is used.

    `psnr_mesh` is taken after one affine colour correction of each photo, where the tree measures that.
    """
    size = ["--views", "24", "--width", "400", "--height", "300"] if quick else ["--style", style]
    cpu_before, start = _cpu(), time.monotonic()
    batch, sample_gb = folder / "demo" / "batch.yaml", 0.0
    if not batch.is_file():
        _, sample_gb = digitize("sample", str(folder / "demo"), *size, tree=tree)
        if quick:
            shrink(batch)
    cpu_run = _cpu()
    outcome, run_gb = digitize("run", str(batch), tree=tree)
    cpu_run = _cpu() - cpu_run
    seconds, cpu_seconds = time.monotonic() - start, _cpu() - cpu_before
    status, _ = digitize("status", str(batch), tree=tree)
    asset = status["assets"][0]
    stages = {name: stage["seconds"] for name, stage in asset["stages"].items() if stage["seconds"]}
    metrics = json.loads((Path(asset["model"]).parent / "manifest.json").read_text())["metrics"]
    keys = ("fscore_1pct", "fscore_0_5pct", "chamfer", "fscore_hull", "psnr_model")
    likeness = metrics.get("psnr_mesh_corrected", metrics.get("psnr_mesh"))
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "run_cpu_seconds": round(cpu_run, 1),
        "peak_gb": round(max(sample_gb, run_gb), 2),
        **{key: metrics.get(key) for key in keys},
        "psnr_mesh": likeness,
        **{f"share_{name}": round(took / seconds, 3) for name, took in stages.items()},
        "verdict": outcome["assets"][0]["verdict"],
        "metrics": metrics,
    }


def measure_against(commit: str, folder: Path, quick: bool, style: str) -> dict[str, Any]:
    """The line of another commit on the photographs that `measure` left in `folder`, and how far ours falls behind."""
    with checked_out(commit, folder) as tree:
        other = folder / "other"
        shutil.copytree(folder / "demo", other / "demo", ignore=shutil.ignore_patterns("store", "published"))
        return measure(other, quick, style, tree)


def _behind(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """By how much ours is below theirs; negative where it is above."""
    return {
        "fscore_1pct_loss": round(theirs["fscore_1pct"] - ours["fscore_1pct"], 4),
        "psnr_mesh_loss_db": round(theirs["psnr_mesh"] - ours["psnr_mesh"], 3),
        "run_cpu_ratio": round(ours["run_cpu_seconds"] / theirs["run_cpu_seconds"], 3),
    }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--style", choices=["phone", "studio"], default="phone", help="of the sample; `--quick`: studio"
    )
    parser.add_argument("--keep", type=Path, help="keep the capture, the store and the published asset here")
    parser.add_argument("--against", metavar="COMMIT", help="run an older commit on the same photographs as well")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load before: {load:.2f}, cores: {os.cpu_count()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        figures = measure(folder, arguments.quick, arguments.style)
        if arguments.against:
            before = measure_against(arguments.against, folder, arguments.quick, arguments.style)
            figures = {**figures, **_behind(figures, before), "before": before}
    for name, value in figures.items():
        print(f"{name:16} {value}")
    print(json.dumps({"bench": "line", "quick": arguments.quick, "load_before": round(load, 2), "figures": figures}))


if __name__ == "__main__":
    main()
