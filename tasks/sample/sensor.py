"""What a camera does to light before it is a file: blur, glare, vignette, sensor noise, tone curve, JPEG with EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.sample.colour import to_srgb
from tasks.sample.noise import Float32Array

_VIGNETTE = 0.38
"""Share of the light that is missing in the corners."""


@dataclass(frozen=True)
class Shot:
    """What differs from photo to photo of a camera that sets everything by itself."""

    exposure_ev: float = 0.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue."""
    defocus_px: float = 0.0
    """Standard deviation of the blur; 0 for a sharp photo."""
    motion_px: tuple[float, float] = (0.0, 0.0)
    """How far the picture moved while the shutter was open (right, down)."""
    glare: float = 0.0
    """Brightness of the veil in its middle."""
    glare_at: tuple[float, float] = (0.5, 0.0)
    """The veil's middle as shares of width and height."""


def draw_shots(count: int, width: int, seed: int) -> list[Shot]:
    """The shots of a capture: exposure within 0.5 EV, white that drifts, a few blurred, a few with glare.

    Args:
        width: of the photos in pixels; blur grows with it.
    """
    rng = np.random.default_rng(seed + 20)
    drift = np.cumsum(rng.normal(0.0, 0.012, (count, 2)), 0)
    drift = np.clip(drift - drift.mean(0), -0.07, 0.07)
    blurred = rng.random(count)
    veiled = set(rng.choice(count, max(1, count // 12), replace=False).tolist())
    scale = width / 1024.0
    shots: list[Shot] = []
    for k in range(count):
        turn, reach = rng.uniform(0, 2 * np.pi), float(rng.uniform(1.0, 2.6)) * scale
        moved = (reach * float(np.cos(turn)), reach * float(np.sin(turn)))
        shots.append(
            Shot(
                exposure_ev=float(rng.uniform(-0.5, 0.5)),
                white=(1.0 + float(drift[k, 0]), 1.0, 1.0 + float(drift[k, 1])),
                defocus_px=float(rng.uniform(0.5, 1.1)) * scale if blurred[k] < 0.15 else 0.0,
                motion_px=moved if blurred[k] > 0.88 else (0.0, 0.0),
                glare=float(rng.uniform(0.12, 0.28)) if k in veiled else 0.0,
                glare_at=(float(rng.uniform(0.1, 0.9)), float(rng.uniform(-0.1, 0.3))),
            )
        )
    return shots


def take(linear: Float32Array, shot: Shot) -> Float32Array:
    """[H, W, 3] light on the sensor from light [H, W, 3] before the lens: blur, glare, vignette, exposure and white."""
    height, width = linear.shape[:2]
    light = _blur(linear, shot)
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    if shot.glare:
        reach2 = ((u / width - shot.glare_at[0]) ** 2 + (v / height - shot.glare_at[1]) ** 2) / 0.30**2
        light = light + shot.glare * (0.12 + np.exp(-reach2))[..., None] * np.array([1.0, 0.97, 0.90], np.float32)
    radius2 = ((u - width / 2) ** 2 + (v - height / 2) ** 2) / ((width**2 + height**2) / 4)
    gain = (1.0 - _VIGNETTE * radius2 * (0.6 + 0.4 * radius2))[..., None]
    return np.asarray(light * gain * (2.0**shot.exposure_ev * np.array(shot.white, np.float32)), dtype=np.float32)


def develop(linear: Float32Array, seed: int, gain: float = 1.0) -> npt.NDArray[np.uint8]:
    """[H, W, 3] sRGB: sensor noise (photons and read-out), then the sRGB curve with a soft shoulder for bright tones.

    Args:
        linear: [H, W, 3] light, 1 is white.
        seed: chooses the noise.
        gain: of the sensor; the noise's variance grows with it.
    """
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(gain * (6e-5 * np.clip(linear, 0, None) + 2e-6))
    noisy = linear + sigma * rng.standard_normal(linear.shape, dtype=np.float32)
    shoulder = np.where(noisy > 0.7, 0.7 + 0.3 * np.tanh((noisy - 0.7) / 0.3), noisy)
    return np.asarray(np.round(to_srgb(shoulder) * 255.0), dtype=np.uint8)


def save_photo(
    path: Path, picture: npt.NDArray[np.uint8], focal_35mm: int, model: str, quality: int, subsampling: int
) -> None:
    """Write a JPEG as a camera does, with the EXIF tags that name the camera and its focal length.

    Args:
        picture: [H, W, 3] sRGB.
        focal_35mm: equivalent focal length in mm.
        quality, subsampling: Pillow's, of the JPEG; subsampling 0 keeps all colour, 2 is 4:2:0.
    """
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Digitize", model
    details = exif.get_ifd(0x8769)
    height, width = picture.shape[:2]
    details.update({0x829A: 1 / 60, 0x829D: 11.0, 0x8827: 100, 0x920A: float(focal_35mm), 0xA405: focal_35mm})
    details.update({0xA002: width, 0xA003: height})
    Image.fromarray(picture).save(path, quality=quality, subsampling=subsampling, exif=exif)


def _blur(linear: Float32Array, shot: Shot) -> Float32Array:
    from scipy.ndimage import gaussian_filter, shift

    light = linear
    if shot.defocus_px:
        light = gaussian_filter(light, (shot.defocus_px, shot.defocus_px, 0.0), mode="nearest")
    right, down = shot.motion_px
    if right or down:
        steps = np.linspace(-0.5, 0.5, 4)
        light = sum(shift(light, (s * down, s * right, 0.0), order=1, mode="nearest") for s in steps) / len(steps)
    return np.asarray(light, dtype=np.float32)
