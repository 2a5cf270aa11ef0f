"""The public peer beside our line on the same photos: shape and CPU seconds (`bench.peers.photogrammetry`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.photogrammetry import BACKENDS, peer_row

PEERED = ("flask", "spot")
"""Objects whose photos the peer gets as well."""
NAMES = (
    "peer_chamfer_ratio",
    "peer_time_ratio",
    "peer_chamfer_pct",
    "peer_cpu_s_patchmatch",
    "peer_cpu_s_sgbm",
)


def peer_rows(photos: Path, truth: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """One row a setting: PatchMatch of half the size, two-view matching of whole photos."""
    return {backend: peer_row(photos, truth, folder / backend, backend) for backend in BACKENDS}


def peer_figures(phone: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Our mean Chamfer distance over that of the peer's better setting, and the CPU seconds of `mvs` (photos to
    published) over those of its PatchMatch setting; nothing where a row is missing.

    Args:
        phone: rows by object; those with a `peer` count.
    """
    rows = [row for row in phone.values() if "peer" in row and row.get("chamfer") is not None]
    if not rows:
        return {}
    seconds = {name: float(np.mean([row["peer"][name]["cpu_seconds"] for row in rows])) for name in BACKENDS}
    ours = float(np.mean([row["mvs_cpu_seconds"]["all"] for row in rows]))
    found = {
        "peer_time_ratio": round(ours / seconds["patchmatch"], 3),
        "peer_cpu_s_patchmatch": round(seconds["patchmatch"], 1),
        "peer_cpu_s_sgbm": round(seconds["sgbm"], 1),
    }
    means = []
    for name in BACKENDS:
        distances = [row["peer"][name].get("chamfer") for row in rows]
        if None not in distances:
            means.append(float(np.mean(distances)))
    if means:
        found["peer_chamfer_pct"] = round(100.0 * min(means), 4)
        found["peer_chamfer_ratio"] = round(float(np.mean([row["chamfer"] for row in rows])) / min(means), 3)
    return found
