"""Why fields need an encoding, in two dimensions: one small network learns a picture from raw and encoded positions.

    python examples/fit_image.py                     a synthetic picture, a few seconds
    python examples/fit_image.py photo.jpg --size 256 --steps 2000 --output fit.png

Raw coordinates leave a blur: networks learn slow waves first (Tancik et al. 2020). Sines and cosines of rising
frequency (NeRF, Mildenhall et al. 2020) or a hash grid's trained features (Instant-NGP, Mueller et al. 2022) bring the
detail within reach. Prints the PSNR of each and writes original and fits side by side.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from models.fields.frequency import frequencies_for, frequency_encode, frequency_width
from models.fields.hash_encoding import HashEncoding

Encoding = Literal["raw", "frequency", "hash"]
ENCODINGS: tuple[Encoding, ...] = ("raw", "frequency", "hash")
Picture = npt.NDArray[np.float32]

HIDDEN = 64
BATCH = 4096
RATE, TABLE_RATE = 2e-3, 1e-2
BASE_RESOLUTION = 4
"""Cells along an edge of the picture at the hash grid's coarsest level; each level doubles them."""
LOG2_TABLE = 15


class Fit(NamedTuple):
    """What a network made of a picture."""

    picture: Picture
    """[H, W, 3] in [0, 1]."""
    psnr: float
    """dB over all pixels."""


def synthetic_picture(size: int) -> Picture:
    """[size, size, 3]: a smooth gradient, a disc with a sharp rim, and stripes four pixels wide."""
    v, u = (np.mgrid[0:size, 0:size] + 0.5) / size
    rgb = np.stack([u, v, 0.5 + 0.4 * np.sin(3.0 * (u + v))], -1)
    rgb[np.hypot(u - 0.35, v - 0.4) < 0.22] = (0.95, 0.8, 0.1)
    pixel = np.arange(size)
    stripes = ((pixel[:, None] + pixel) // 4 % 2 == 0) & (u > 0.6) & (v > 0.5)
    rgb[stripes] = (0.05, 0.05, 0.1)
    return rgb.astype(np.float32)


def fit(picture: Picture, encoding: Encoding, steps: int, seed: int = 0) -> Fit:
    """Train a network of three hidden layers to give the colour of each pixel [H, W, 3] from its position."""
    height, width, _ = picture.shape
    generator = torch.Generator().manual_seed(seed)
    encode, channels, tables = _encoder(encoding, max(height, width), generator)
    net = _network(channels, generator)
    optimiser = torch.optim.Adam(
        [{"params": net.parameters(), "lr": RATE}, {"params": tables, "lr": TABLE_RATE}], betas=(0.9, 0.99), eps=1e-15
    )
    positions, target = _positions(height, width), torch.from_numpy(picture.reshape(-1, 3))
    for _ in range(steps):
        chosen = torch.randint(len(positions), (BATCH,), generator=generator)
        loss = (net(encode(positions[chosen])) - target[chosen]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = torch.cat([net(encode(part)) for part in torch.split(positions, 1 << 16)]).clamp(0.0, 1.0)
    error = float((found - target).square().mean())
    return Fit(found.view(height, width, 3).numpy(), -10.0 * math.log10(max(error, 1e-10)))


def _positions(height: int, width: int) -> Tensor:
    """[H W, 2] centres of the pixels, row by row; the longer edge spans [-1, 1]."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([u, v], -1).view(-1, 2) * (2.0 / max(height, width)) - 1.0


def _encoder(
    encoding: Encoding, size: int, generator: torch.Generator
) -> tuple[Callable[[Tensor], Tensor], int, list[nn.Parameter]]:
    """What is made of positions [N, 2], its width, and what of it is trained."""
    if encoding == "raw":
        return (lambda x: x), 2, []
    if encoding == "frequency":
        frequencies = frequencies_for(size)
        return (lambda x: frequency_encode(x, frequencies)), frequency_width(2, frequencies), []
    levels = max(1, math.ceil(math.log2(size / BASE_RESOLUTION)))
    grid = HashEncoding(levels, BASE_RESOLUTION, BASE_RESOLUTION << (levels - 1), LOG2_TABLE)
    grid.reset(generator)

    def encode(x: Tensor) -> Tensor:
        # The grid is three-dimensional: the picture is its side z = 0.
        encoded: Tensor = grid(torch.cat([(x + 1.0) * 0.5, torch.zeros_like(x[:, :1])], 1))
        return encoded

    return encode, grid.width, list(grid.parameters())


def _network(channels: int, generator: torch.Generator) -> nn.Sequential:
    """Three hidden layers with biases, a sigmoid at the end."""
    widths = (channels, HIDDEN, HIDDEN, HIDDEN)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(HIDDEN, 3), nn.Sigmoid())
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
    return net


def _read(path: Path, size: int) -> Picture:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((size, size))
        return np.asarray(small, dtype=np.float32) / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, help="any picture; a synthetic one without")
    parser.add_argument("--size", type=int, default=128, help="longer edge in pixels")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("fit_image.png"))
    arguments = parser.parse_args()
    size = arguments.size
    picture = synthetic_picture(size) if arguments.picture is None else _read(arguments.picture, size)
    panels = [picture]
    for encoding in ENCODINGS:
        found = fit(picture, encoding, arguments.steps)
        print(f"{encoding:10} {found.psnr:6.2f} dB")
        panels.append(found.picture)
    Image.fromarray(np.round(np.concatenate(panels, 1) * 255).astype(np.uint8)).save(arguments.output)
    print(f"original, {', '.join(ENCODINGS)}: {arguments.output}")


if __name__ == "__main__":
    main()
