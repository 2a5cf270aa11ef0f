"""`orchestration --against COMMIT`: overhead a stage and memory of an older commit and of this tree, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.older_commit import ROOT, checked_out

ASSETS = 100
REPEATS = 3
COMPARED = ("overhead_ms", "driver_cpu_ms", "memory_mb")


def measure_against(commit: str, quick: bool) -> dict[str, Any]:
    """Medians of both sides, their spread, and ours over theirs; the order changes each time."""
    assets, repeats = (10, 1) if quick else (ASSETS, REPEATS)
    rows: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as temporary, checked_out(commit, Path(temporary), kernels=False) as tree:
        for repeat in range(repeats):
            for side in ("before", "now") if repeat % 2 == 0 else ("now", "before"):
                found = {}
                for what in ("overhead", "memory"):
                    found |= one_side(tree if side == "before" else ROOT, what, assets)
                rows[side].append(found)
                print(side, found, flush=True)
    figures: dict[str, Any] = {"against": commit, "assets": assets, "repeats": repeats}
    for name in rows["now"][0]:
        for side, found in rows.items():
            values = [each[name] for each in found]
            figures[f"{name}_{side}"] = round(median(values), 3)
            figures[f"{name}_{side}_range"] = [round(min(values), 3), round(max(values), 3)]
    for name in COMPARED:
        figures[f"{name}_ratio"] = round(figures[f"{name}_now"] / figures[f"{name}_before"], 3)
    return figures


def one_side(tree: Path, what: str, assets: int) -> dict[str, float]:
    """What `orchestration_side` finds with the modules of a tree."""
    script = ROOT / "bench" / "orchestration_side.py"
    done = subprocess.run(
        [sys.executable, "-P", str(script), what, str(assets)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
