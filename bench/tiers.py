"""Iso-surface and finishing: seconds and memory of a 512^3 extraction, and of all tiers in all formats.

    python -m bench.tiers                  about five minutes
    python -m bench.tiers --field FOLDER   extraction of a trained field as well (`field/` of a training's output)
    python -m bench.tiers --quick          small grids and few photos: shows that the script works, under 60 s

Each measurement runs in a process of its own with two threads. CPU seconds stand beside wall seconds: on a busy machine
only the former mean something. The body is a wavy torus known as a distance in closed form, photographed from 60
directions by ray casting; rendering is not counted. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.camera import Camera, PosedImage, matrix4
from models.fields import load_field
from models.fields.base import Field
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured
from tasks.export import exporters
from tasks.surface.extract import extract
from tasks.surface.make_tiers import Work, finish
from tasks.surface.methods.isosurface import Options
from tasks.surface.project import project
from tasks.surface.tiers import planned
from tasks.surface.views import View

ROOT = Path(__file__).resolve().parents[1]

THREADS = 2
FORMATS = ("glb", "glb_draco", "usdz", "obj", "ply", "stl")


class WavyTorus(Field):
    """A torus with ripples; the ripples are shallow enough for the value to be nearly a distance."""

    method = "bench_wavy_torus"
    quantity = "sdf"
    level = 0.0

    def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ring = x[:, :2].norm(dim=-1) - 0.55
        ripples = 0.006 * torch.sin(40 * x[:, 0]) * torch.sin(40 * x[:, 1]) * torch.sin(40 * x[:, 2])
        return torch.stack([ring, x[:, 2]], -1).norm(dim=-1) - 0.28 - ripples, x


def measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns, with its wall and CPU seconds and the process's peak memory in GB."""
    wall, cpu = time.monotonic(), time.process_time()
    figures = work()
    return {
        **figures,
        "seconds": round(time.monotonic() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def isosurface(resolution: int, folder: str | None) -> dict[str, Any]:
    """Extraction alone, as the surface stage does it for the field's kind."""
    field = WavyTorus() if folder is None else load_field(Path(folder))

    def work() -> dict[str, Any]:
        mesh = extract(field, resolution, smooth_cells=0.0 if field.quantity == "sdf" else 1.0)
        if field.quantity == "sdf":
            mesh, error = project(field, mesh, field.level, resolution)
            return {"faces": len(mesh.faces), "level_error_cells": error * resolution / 2}
        return {"faces": len(mesh.faces)}

    return measured(work)


def tiers(resolution: int, photos: int, width: int) -> dict[str, Any]:
    """All tiers but `full` in all formats."""
    mesh = extract(WavyTorus(), resolution)
    options = Options(
        tiers=("thumb", "low", "medium", "high", "ar"),
        faces=150_000 if resolution > 200 else 20_000,
        texture_size=4096 if resolution > 200 else 1024,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        views = photograph(mesh, photos, width, folder)
        box = np.array([[-1.0] * 3, [1.0] * 3])
        grey = np.full(3, 128, np.uint8)
        job = Work(mesh, views, lambda p, n: np.broadcast_to(grey, (len(p), 3)), box, options, THREADS, lambda: None)

        def work() -> dict[str, Any]:
            output = folder / "out"
            output.mkdir()
            plan = planned(options.tiers, options.faces, options.texture_size)
            steps: list[tuple[float, str]] = []
            start = time.monotonic()
            done, baked = finish(job, plan, lambda _, what: steps.append((time.monotonic() - start, what)))
            finished = time.monotonic() - start
            for item in done:
                for writer in (exporters.load(name) for name in FORMATS):
                    writer.write(output / f"asset-{item.tier.name}{writer.SUFFIX}", item.mesh, (0.0, 0.0, 1.0))
            for (begin, what), (end, _) in zip(steps, [*steps[1:], (finished, "")], strict=True):
                print(f"    {what:24} {end - begin:6.1f} s")
            print(f"    {'files':24} {time.monotonic() - start - finished:6.1f} s")
            return {
                "full_faces": len(mesh.faces),
                "faces": {item.tier.name: len(item.mesh.faces) for item in done},
                "self_intersections": sum(item.facts["self_intersections"] for item in done),
                "watertight": all(item.facts["watertight"] for item in done),
                "charts": done[0].facts["charts"],
                "baked_size": baked.baked_size,
                "photo_share": round(baked.photo_share, 3),
                "files": len(list(output.iterdir())),
                "megabytes": round(sum(p.stat().st_size for p in output.iterdir()) / 1e6, 1),
            }

        return measured(work)


def photograph(mesh: Mesh, count: int, width: int, folder: Path) -> list[View]:
    """Pictures of the body, painted by a function of place, from directions spread over the sphere."""
    waves = 0.5 + 0.45 * np.sin(60 * mesh.vertices[:, [0, 1, 2]] + np.sin(17 * mesh.vertices[:, [1, 2, 0]]))
    painted = replace(mesh, colors=(waves * 255).astype(np.uint8))
    caster = RayCaster(painted, THREADS)
    height = width * 3 // 4
    camera = Camera(width=width, height=height, fx=1.5 * width, fy=1.5 * width, cx=width / 2, cy=height / 2)
    views = []
    for k in range(count):
        z = 1 - (2 * k + 1) / count
        angle = k * np.pi * (3 - np.sqrt(5))
        eye = 3.6 * np.array([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z])
        forward = -eye / np.linalg.norm(eye)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        c2w = np.eye(4)
        c2w[:3] = np.stack([right, np.cross(forward, right), forward, eye], 1)
        picture = render_textured((painted, caster), camera, c2w, (0.6, 0.6, 0.6))
        Image.fromarray((picture.rgb * 255 + 0.5).astype(np.uint8)).save(folder / f"{k}.jpg", quality=95)
        image = PosedImage(name=f"{k}.jpg", image=f"{k}.jpg", camera=camera, c2w=matrix4(c2w))
        views.append(View(image, lambda path: folder / path))
    return views


def in_own_process(*arguments: object) -> dict[str, Any]:
    """One measurement of this script in a fresh process."""
    command = [sys.executable, "-m", "bench.tiers", "--one", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(THREADS)}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    *lines, last = run.stdout.splitlines()
    print("\n".join(lines)) if lines else None
    figures: dict[str, Any] = json.loads(last)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--field", help="folder of a trained field")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(THREADS)
        name, *rest = json.loads(arguments.one)
        print(json.dumps({"isosurface": isosurface, "tiers": tiers}[name](*rest)))
        return
    load = os.getloadavg()[0]
    print(f"load before: {load:.2f}, cores: {os.cpu_count()}, threads: {THREADS}")
    figures: dict[str, Any] = {}
    for resolution in (128,) if arguments.quick else (512, 1024):
        figures[f"isosurface_{resolution}"] = in_own_process("isosurface", resolution, None)
    if arguments.field:
        figures["isosurface_trained_512"] = in_own_process("isosurface", 512, arguments.field)
    figures["tiers"] = in_own_process("tiers", *((160, 8, 320) if arguments.quick else (512, 60, 1600)))
    for name, row in figures.items():
        print(f"{name:24} {row}")
    print(json.dumps({"bench": "tiers", "quick": arguments.quick, "load_before": round(load, 2), "figures": figures}))


if __name__ == "__main__":
    main()
