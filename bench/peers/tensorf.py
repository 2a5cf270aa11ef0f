"""The peer row of `engine.py`: TensoRF as nerfstudio has it, on this machine's CPU cores.

    PEER/bin/python bench/peers/tensorf.py 300 --data ../shared/data         the last line is one JSON object

It runs in an interpreter of its own, which needs nothing of ours: nerfstudio 1.1.5 pins versions that cannot stand
beside this project's (protobuf 3, viser 0.2.7) and asks for much that training does not use. `install()` says how.

All that trains is nerfstudio's, from its registered `tensorf` configuration, which is made for Blender scenes: data
parser, data manager, rays, networks, losses, optimisers, `Trainer.train_iteration`. Set here: the cube that the object
is in (that of our rows), the data manager without worker processes, rays a batch. Replaced: LPIPS, a metric whose
weights would be downloaded, and torchvision, which only saves pictures, where it is not installed. Freed memory is
kept, as in our trainers. The pixels scored, their white background and the clock that stands still meanwhile are those
of `engine_rows.py`.

Why not nerfacto, nerfstudio's best known method: its hash grids in eager torch take seconds a step; after 47 s it had
10.7 dB where this had 16 or more. nerfstudio's instant-ngp needs nerfacc's occupancy grids, which are CUDA kernels.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib.metadata
import json
import math
import os
import random
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

PINNED = "nerfstudio==1.1.5 gsplat==1.4.0 nerfacc==0.5.2 viser==0.2.7 splines==0.3.0 opencv-python-headless==4.10.0.84"
"""Without what they depend on."""
NEEDED = (
    "appdirs av fpsample gdown h5py imageio jaxtyping mediapy msgpack-numpy msgspec pathos pyquaternion pytorch-msssim "
    "pyyaml rawpy rich tensorboard tensorly torchmetrics tyro websockets"
)
"""What is imported on the way to the trainer."""
METHOD = "tensorf (nerfstudio)"
HALF_EXTENT = 1.2
"""Half the edge of the object's cube: `LEGO_EXTENT` of engine_rows."""
RAYS = 512
"""A batch: after 30 s on two cores the best of 256, 512, 1024 and 2048; the configuration has 4096, for a GPU."""
TRACKED, TILE = 20_000, 4096
"""As engine_rows has them."""


def install() -> str:
    """Commands that make the interpreter; a CPU build of torch will do."""
    pip = "PEER/bin/pip install"
    return f"python -m venv PEER && {pip} torch && {pip} --no-deps {PINNED} && {pip} {NEEDED}"


def stand_ins() -> None:
    """Put what is imported and not used in training in place of what is missing."""
    import torch
    from torchmetrics.image import lpip  # before the stand-in: it looks for torchvision's version

    try:
        import torchvision.utils  # noqa: F401
    except ModuleNotFoundError:
        package = types.ModuleType("torchvision")
        package.utils = types.ModuleType("torchvision.utils")  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": package, "torchvision.utils": package.utils}
    lpip.LearnedPerceptualImagePatchSimilarity = lambda **_: torch.nn.Identity()


def trainer(data: Path, rays: int) -> Any:
    """nerfstudio's trainer with its pipeline set up on the pictures in `data`, without viewer or log."""
    import torch
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
    from nerfstudio.data.dataparsers.blender_dataparser import Blender, BlenderDataParserConfig
    from nerfstudio.data.scene_box import SceneBox
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes
    from nerfstudio.engine.trainer import Trainer

    class Cube(Blender):  # type: ignore[misc]
        """nerfstudio's Blender scenes, with our cube."""

        def _generate_dataparser_outputs(self, split: str = "train") -> Any:
            found = super()._generate_dataparser_outputs(split)
            found.scene_box = SceneBox(aabb=HALF_EXTENT * torch.tensor([[-1.0] * 3, [1.0] * 3]))
            return found

    config = copy.deepcopy(method_configs["tensorf"])
    config.machine.device_type = "cpu"
    parser = BlenderDataParserConfig(_target=Cube, data=data)
    config.pipeline.datamanager = VanillaDataManagerConfig(dataparser=parser, train_num_rays_per_batch=rays)
    config.set_timestamp()
    made = Trainer(config)
    made.pipeline = config.pipeline.setup(device="cpu", test_mode="test", grad_scaler=made.grad_scaler)
    made.optimizers = made.setup_optimizers()
    made.callbacks = made.pipeline.get_training_callbacks(
        TrainingCallbackAttributes(made.optimizers, made.grad_scaler, made.pipeline, made)
    )
    return made


def step(made: Any, number: int) -> None:
    """One turn of `Trainer.train`."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation
    from nerfstudio.utils import writer

    made.step = number
    made.pipeline.train()
    for callback in made.callbacks:
        callback.run_callback_at_location(number, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    made.train_iteration(number)
    for callback in made.callbacks:
        callback.run_callback_at_location(number, location=TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
    writer.EVENT_STORAGE.clear()


class HeldOut:
    """The pixels of the test pictures, in the files' order, over white, as `bench.posed.bank` has them."""

    def __init__(self, made: Any) -> None:
        import numpy as np
        import torch
        from PIL import Image

        manager = made.pipeline.datamanager
        self.model, self.rays = made.pipeline.model, manager.eval_ray_generator
        pictures = []
        for path in manager.eval_dataset.image_filenames:
            with Image.open(path) as picture:
                rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255.0
            white = rgba[..., :3] * rgba[..., 3:] + (1.0 - rgba[..., 3:])
            pictures.append(np.round(white * 255.0).astype(np.uint8))
        self.rgb = torch.from_numpy(np.stack(pictures))

    def psnr(self, index: Any) -> float:
        """dB over the pixels of numbers [R]."""
        import torch

        total = 0.0
        columns, area = self.rgb.shape[2], self.rgb.shape[1] * self.rgb.shape[2]
        self.model.eval()
        with torch.no_grad():
            for part in torch.split(index, TILE):
                photo, local = part // area, part % area
                row, column = local // columns, local % columns
                rgb = self.model(self.rays(torch.stack([photo, row, column], 1)))["rgb"]
                truth = self.rgb[photo, row, column].float() / 255.0
                total += float((rgb.clamp(0, 1) - truth).square().mean(1).sum())
        return -10.0 * math.log10(max(total / len(index), 1e-12))


def keep_freed_memory() -> None:
    """What our trainers tell glibc (`tasks.train.trainer`)."""
    for option, value in ((-3, 32 << 20), (-1, 2**31 - 1), (-2, 64 << 20)):
        ctypes.CDLL(None).mallopt(option, value)


def peak_rss_gb() -> float:
    """Peak resident memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e9


def row(seconds: float, data: Path, rays: int, clock: str) -> dict[str, Any]:
    """Train for seconds of the clock; the PSNR over time and of all held-out pixels at the end."""
    import numpy as np
    import torch

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    made = trainer(data / "posed_lego_400", rays)
    heldout = HeldOut(made)
    count = heldout.rgb[..., 0].numel()
    tracked = torch.randperm(count, generator=torch.Generator().manual_seed(9))[:TRACKED]
    spent = {"wall": 0.0, "cpu": 0.0}
    steps, next_look = 0, seconds / 64
    history: list[tuple[float, float]] = []
    while spent[clock] < seconds:
        start, cpu_start = time.perf_counter(), time.process_time()
        step(made, steps)
        spent["wall"] += time.perf_counter() - start
        spent["cpu"] += (time.process_time() - cpu_start) / cores
        steps += 1
        if spent[clock] >= next_look:
            history.append((round(spent[clock], 2), round(heldout.psnr(tracked), 2)))
            next_look = spent[clock] * 1.25
            print(f"{steps} steps, {history[-1][0]} s: {history[-1][1]} dB", file=sys.stderr, flush=True)
    samples = made.config.pipeline.model.num_uniform_samples + made.config.pipeline.model.num_samples
    return {
        "scene": "lego",
        "method": METHOD,
        "device": "cpu",
        "seconds": seconds,
        "clock": clock,
        "peak_gb": round(peak_rss_gb(), 2),
        "rays_a_step": rays,
        "steps": steps,
        "samples_per_s": round(steps * rays * samples / spent[clock]),
        "share_of_cores": round(spent["cpu"] / spent["wall"], 2),
        "psnr": round(heldout.psnr(torch.arange(count)), 2),
        "history": history,
        "versions": {name: importlib.metadata.version(name) for name in ("nerfstudio", "torch")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--data", type=Path, required=True, help="holds posed_lego_400")
    parser.add_argument("--rays", type=int, default=RAYS)
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: this process's CPU seconds over the number of cores, for a machine with other work; at most wall",
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # nerfstudio's, about names that torch has renamed
    keep_freed_memory()
    stand_ins()
    print(json.dumps(row(arguments.seconds, arguments.data, arguments.rays, arguments.clock)))


if __name__ == "__main__":
    main()
