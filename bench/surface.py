"""Surfaces against the truth: hash_sdf with and without photometric consistency, the radiance field's mesh, the hull.

    python -m bench.surface                     every object and method, one object through the whole line: about an
                                                hour; rows that are there are kept
    python -m bench.surface --objects flask     some objects
    python -m bench.surface --published knot --solved flask,chair     further ones through the whole line
    python -m bench.surface --quick             one object for a few seconds: shows that the script works

Every method gets the same seconds, region and cleaning. The radiance field's mesh is the best of eight thresholds,
chosen with the truth; the hull has exact silhouettes and 512 cells. Rows lie in `--work`, named by the digest of all
that goes into them, so that the table can be built over several runs. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as flows/runner/stage_process.py

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

SECONDS = 150.0
SOLVED = "flask"
"""Goes through the whole line, from its photographs to what is published, in every full run."""
METHODS = ("hull", "hash_density", "hash_sdf_without_ncc", "hash_sdf")


def key(name: str, method: str, seconds: float) -> str:
    """Digest of what a row depends on; the fields' and methods' versions stand for their code."""
    from bench.surface_rows import CLEANING, DENSITIES, OPTIONS, RESOLUTION, SCENES
    from bench.surface_scenes import EDGE_PX, VIEWS
    from tasks.train.methods import hash_density, hash_sdf

    versions = {"hash_density": hash_density.VERSION, "hull": "1"}.get(method, hash_sdf.VERSION)
    kinds = {"hash_density": hash_density.Options, "hull": None}
    kind = kinds.get(method, hash_sdf.Options)
    options = kind.model_validate(OPTIONS[method]).model_dump() if kind else OPTIONS[method]
    parts = [name, method, seconds, options, RESOLUTION, DENSITIES, SCENES, CLEANING, EDGE_PX, VIEWS, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def row(name: str, method: str, seconds: float, data: Path, work: Path) -> dict[str, Any]:
    """A row that is kept, or a new one from a process of its own."""
    seconds = 0.0 if method == "hull" else seconds
    path = work / f"row-{key(name, method, seconds)}.json"
    if not path.is_file():
        command = [sys.executable, "-m", "bench.surface_rows", name, method, str(seconds)]
        done = subprocess.run(
            [*command, "--data", str(data), "--work", str(work)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(done.stdout.splitlines()[-1])
    found: dict[str, Any] = json.loads(path.read_text())
    print(json.dumps(found), flush=True)
    return found


def published(name: str, solve: bool, data: Path, work: Path) -> dict[str, Any]:
    """A row of surface_line: the published asset of an object."""
    command = [sys.executable, "-m", "bench.surface_line", name, "hash_sdf", *(["--solve"] if solve else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    paths = ["--data", str(data), "--work", str(work)]
    done = subprocess.run([*command, *paths], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is claimed, over the objects for which all that it needs was measured; `not measured` otherwise."""
    from bench.surface_scenes import CONCAVE, TEXTURED

    by: dict[str, dict[str, dict[str, Any]]] = {}
    for each in rows:
        if "chamfer" in each and "cameras" not in each:
            by.setdefault(each["method"], {})[each["object"]] = each

    def mean(method: str, figure: str, names: list[str]) -> float:
        return float(sum(by[method][name][figure] for name in names) / len(names))

    def both(one: str, other: str, among: tuple[str, ...] | None = None) -> list[str]:
        shared = by.get(one, {}).keys() & by.get(other, {}).keys()
        return sorted(name for name in shared if among is None or name in among)

    found: dict[str, Any] = dict.fromkeys(
        (
            "chamfer_vs_density",
            "chamfer_vs_hull",
            "fscore_0p5pct",
            "fscore_0p25pct",
            "normal_consistency",
            "ncc_gain",
            "texture_gap_db",
        ),
        "not measured",
    )
    ours = sorted(by.get("hash_sdf", {}))
    if ours:
        found["fscore_0p5pct"] = round(mean("hash_sdf", "fscore_0.005", ours), 4)
        found["fscore_0p25pct"] = round(mean("hash_sdf", "fscore_0.0025", ours), 4)
        found["normal_consistency"] = round(mean("hash_sdf", "normal_consistency", ours), 4)
        found["chamfer_pct"] = round(100 * mean("hash_sdf", "chamfer", ours), 4)
        found["objects"] = ours
    if gaps := [each["texture_gap_db"] for each in rows if "texture_gap_db" in each]:
        found["texture_gap_db"] = round(max(gaps), 2)
    if names := both("hash_sdf", "hash_density"):
        found["chamfer_vs_density"] = round(
            mean("hash_sdf", "chamfer", names) / mean("hash_density", "chamfer", names), 3
        )
    if names := both("hash_sdf", "hull", CONCAVE):
        found["chamfer_vs_hull"] = round(mean("hash_sdf", "chamfer", names) / mean("hull", "chamfer", names), 3)
        ratios = [by["hash_sdf"][n]["chamfer"] / by["hull"][n]["chamfer"] for n in both("hash_sdf", "hull")]
        found["worst_chamfer_vs_hull"] = round(max(ratios), 3)
    if names := both("hash_sdf", "hash_sdf_without_ncc", TEXTURED):
        found["ncc_gain"] = round(
            1 - mean("hash_sdf", "chamfer", names) / mean("hash_sdf_without_ncc", "chamfer", names), 3
        )
    return found


def main() -> None:
    from bench.surface_scenes import OBJECTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--objects", default=",".join(OBJECTS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--published", default="", help="objects that also go through the whole line, cameras given")
    parser.add_argument("--solved", default=SOLVED, help="the same with cameras that the pose stage solves")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / ".bench" / "surface")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    names, methods, seconds = arguments.objects.split(","), arguments.methods.split(","), arguments.seconds
    if arguments.quick:
        names, methods, seconds = ["chair"], ["hash_sdf"], 5.0
        arguments.solved = ""
    rows = [row(name, method, seconds, arguments.data, arguments.work) for method in methods for name in names]
    for wanted, solve in ((arguments.published, False), (arguments.solved, True)):
        rows += [published(name, solve, arguments.data, arguments.work) for name in filter(None, wanted.split(","))]
    result: dict[str, Any] = {"bench": "surface", "figures": figures(rows)}
    if arguments.quick:
        result["quick"] = True
    result |= {"seconds": seconds, "rows": rows, "machine": f"{os.cpu_count()} cores"}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
