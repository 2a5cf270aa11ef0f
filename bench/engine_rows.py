"""One row of `engine.py`: a method trained on one scene for a number of seconds, its held-out PSNR over time.

    python -m bench.engine_rows lego hash_density 300 --data ../shared/data       the last line is one JSON object

Runs in a process of its own, so that memory and threads are its own. The clock stands still during evaluations.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from bench.baselines.eager_trainer import peak_rss_gb
from bench.posed import bank, load_views
from models.camera import PoseSet
from models.fields.hash_density import HashDensityField
from models.fields.kernels.ops import reference_backend
from models.fields.march import cube_interval
from models.fields.nerf import NerfField
from models.fields.render import trace
from models.fields.threads import threads_of
from models.malloc import keep_freed_memory
from tasks.train.inputs import forbid_hidden
from tasks.train.methods.hash_density import Options
from tasks.train.methods.nerf import PRESETS as NERF_PRESETS
from tasks.train.methods.nerf import Options as NerfOptions
from tasks.train.nerf_learner import NerfLearner
from tasks.train.nerf_learner import new_field as new_nerf
from tasks.train.pixel_bank import PixelBank, load_bank
from tasks.train.radiance_learner import RadianceLearner, new_field
from tasks.train.trainer import Learner

METHODS = ("hash_density", "hash_density_half", "torch", "nerf", "nerf_100px")
"""`hash_density_half` reads tables in float16, on a GPU alone; `torch` is hash_density with the kernels' plain torch
definitions; `nerf_100px` sees small pictures."""
LEGO_EXTENT = 1.2
TRACKED = 20_000
"""Held-out pixels that the PSNR is followed on."""
TILE = 4096
LEGO = Options(
    mask_use="empty",
    background_levels=0,
    near=0.05,
    levels=12,
    max_resolution=1024,
    log2_table=18,
    colour_layers=2,
    ray_steps=384,
    samples_per_step=1 << 16,
    max_rays=1 << 14,
    learning_rate=0.02,
)
CAPTURE = Options(exposure=True, levels=12, max_resolution=1024, log2_table=19, colour_layers=2)
MILESTONES_DB = (25.0, 28.0, 30.0, 31.4, 33.2, 35.0)


def psnr(squares: float, count: int) -> float:
    """dB."""
    return -10.0 * math.log10(max(squares / count, 1e-12))


class Lego:
    """The posed synthetic pictures: object alone, before white."""

    def __init__(self, data: Path, method: str, device: str) -> None:
        folder = data / "posed_lego_400"
        size = 100 if method == "nerf_100px" else None
        train, test = load_views(folder, "train", LEGO_EXTENT, size), load_views(folder, "test", LEGO_EXTENT, size)
        alone = not method.startswith("nerf")
        self.train = bank(train, masks=alone, straight=alone, device=device)
        self.test = bank(test, device=device)
        self.white = True
        self.field: HashDensityField | NerfField
        if method.startswith("nerf"):
            options = NerfOptions(**{**NERF_PRESETS["preview"], "white_background": True})
            self.field = new_nerf(options, 0).to(device)
            self.learner: Learner = NerfLearner(self.field, self.train, self.test, options, 0, device, 2)
        else:
            half = {"table_precision": "float16"} if method == "hash_density_half" else {}
            chosen = LEGO.model_copy(update=half)
            self.field = new_field(chosen, 0, outside=False).to(device)
            self.learner = RadianceLearner(self.field, self.train, None, chosen, 0, device)


class Capture:
    """A captured scene as the pose stage left it."""

    def __init__(self, folder: Path, method: str, device: str) -> None:
        poses = PoseSet.model_validate_json((folder / "poses.json").read_text())

        def load(split: Any) -> PixelBank:
            images = poses.of_split(split)
            return load_bank(images, lambda path: folder / path, poses.world_from_field, 4.0, device, lambda: None)

        self.train, self.test, self.white = load("train"), load("heldout"), False
        self.field = new_field(CAPTURE, 0, outside=True)
        forbid_hidden(self.field.cells, poses, CAPTURE.minimum_views, CAPTURE.near)
        self.field.to(device)
        self.learner = RadianceLearner(self.field, self.train, self.test, CAPTURE, 0, device)


@torch.no_grad()
def error(scene: Lego | Capture, index: torch.Tensor) -> tuple[float, float, int]:
    """Squared errors of pixels: of all, and of those whose rays meet the region; and how many of these there are."""
    total, inside_total, inside_count = 0.0, 0.0, 0
    for part in torch.split(index, TILE):
        pixels = scene.test.take(part)
        if isinstance(scene.field, NerfField):
            t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, 0.05)
            hit = t_out > t_in
            rgb = torch.ones_like(pixels.rgb)
            rays = (pixels.rays_o[hit], pixels.rays_d[hit], t_in[hit], t_out[hit])
            _, (light, through) = scene.field.render(*rays, (32, 32), None)
            rgb[hit] = light + through[:, None]
        else:
            seen = trace(scene.field, pixels.rays_o, pixels.rays_d)
            rgb = seen.rgb + (1.0 - seen.opacity[:, None]) * float(scene.white)
            t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, scene.field.near)
            hit = t_out > t_in
        squares = (rgb.clamp(0, 1) - pixels.rgb).square().mean(1)
        total += float(squares.sum())
        inside_total += float(squares[hit].sum())
        inside_count += int(hit.sum())
    return total, inside_total, inside_count


def averaged(learner: Learner) -> Any:
    """A context in which the field has the mean of its weights, where the learner keeps one."""
    average = getattr(learner, "average", None)
    return nullcontext() if average is None else average.used()


def follow(
    scene: Lego | Capture,
    seconds: float,
    synchronise: Callable[[], None],
    backend: Callable[[], AbstractContextManager[None]],
) -> dict[str, Any]:
    """Train for wall seconds, in the context that `backend` makes; the PSNR over time and of all held-out pixels."""
    generator = torch.Generator().manual_seed(9)
    tracked = torch.randperm(scene.test.pixels, generator=generator)[:TRACKED].to(scene.test.starts.device)
    spent, steps, samples, next_look = 0.0, 0, 0, seconds / 64
    history: list[tuple[float, float]] = []
    while spent < seconds:
        start = time.perf_counter()
        with backend():
            facts = scene.learner.step(min(1.0, spent / seconds), 1.0)
        synchronise()
        spent += time.perf_counter() - start
        steps, samples = steps + 1, samples + facts.samples
        if spent >= next_look:
            with averaged(scene.learner):
                found = psnr(error(scene, tracked)[0], len(tracked))
            history.append((round(spent, 2), round(found, 2)))
            next_look = spent * 1.25
    with averaged(scene.learner):
        total, inside, count = error(scene, torch.arange(scene.test.pixels, device=tracked.device))
    return {
        "steps": steps,
        "samples_per_s": round(samples / spent),
        "psnr": round(psnr(total, scene.test.pixels), 2),
        "psnr_inside_region": round(psnr(inside, count), 2),
        "history": history,
        "seconds_to_db": {
            f"{level:g}": next((t for t, value in history if value >= level), None) for level in MILESTONES_DB
        },
    }


def row(scene: str, method: str, seconds: float, data: Path) -> dict[str, Any]:
    """One row's figures."""
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    threads, plain = torch.get_num_threads(), method == "torch"
    with threads_of(threads):
        if plain:
            torch.set_num_threads(threads)
        made = Lego(data, method, device) if scene == "lego" else Capture(data / scene, method, device)
        found = follow(made, seconds, synchronise, reference_backend if plain else nullcontext)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_rss_gb()
    return {"scene": scene, "method": method, "device": device, "seconds": seconds, "peak_gb": round(peak, 2), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", help="lego, or a folder below --data with the outputs of a pose stage")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    print(json.dumps(row(arguments.scene, arguments.method, arguments.seconds, arguments.data)))


if __name__ == "__main__":
    main()
