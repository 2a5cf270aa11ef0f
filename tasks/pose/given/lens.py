"""A lens as the file of another program describes it, in COLMAP's terms: scaled, turned, and handed to pycolmap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.errors import DigitizeError, ReasonCode

import pycolmap  # isort: skip

_VECTORS = {
    "OPENCV": (("p2", "p1"),),
    "FULL_OPENCV": (("p2", "p1"),),
    "THIN_PRISM_FISHEYE": (("p2", "p1"), ("sx1", "sy1")),
    "RAD_TAN_THIN_PRISM_FISHEYE": (("p0", "p1"), ("s0", "s2"), ("s1", "s3")),
}
"""Pairs of parameters that are a direction in the picture (x, y): they turn with it."""
FISHEYE = {"OPENCV_FISHEYE": "PINHOLE", "SIMPLE_RADIAL_FISHEYE": "SIMPLE_PINHOLE", "RADIAL_FISHEYE": "SIMPLE_PINHOLE"}
"""Fisheye models whose first parameters are those of a pinhole."""


@dataclass(frozen=True)
class GivenLens:
    """One lens. Lengths in pixels, pixel centres at +0.5."""

    model: str
    """COLMAP's name of the model."""
    params: tuple[float, ...]
    """COLMAP's parameters of that model."""
    width: float
    """Of the picture that the parameters are for."""
    height: float

    def camera(self, camera_id: int) -> Any:
        """A pycolmap.Camera of this lens."""
        size = {"width": round(self.width), "height": round(self.height)}
        return pycolmap.Camera(model=self.model, params=list(self.params), camera_id=camera_id, **size)

    def resized(self, width: int, height: int) -> GivenLens:
        """The lens of the same picture resampled to another size."""
        sx, sy = width / self.width, height / self.height
        scales = {"f": (sx + sy) / 2, "fx": sx, "fy": sy, "cx": sx, "cy": sy}
        names = param_names(self.model)
        params = tuple(value * scales.get(name, 1.0) for name, value in zip(names, self.params, strict=True))
        return GivenLens(self.model, params, width, height)

    def turned(self, quarters: int) -> GivenLens:
        """The lens after the picture is turned clockwise by that many quarters."""
        lens = self
        for _ in range(quarters % 4):
            lens = lens._turned_once()
        return lens

    def _turned_once(self) -> GivenLens:
        """A pixel (u, v) of the picture comes to (height - v, u)."""
        names = param_names(self.model)
        old = dict(zip(names, self.params, strict=True))
        new = dict(old)
        new["cx"], new["cy"] = self.height - old["cy"], old["cx"]
        if "fx" in old:
            new["fx"], new["fy"] = old["fy"], old["fx"]
        for x, y in _VECTORS.get(self.model, ()):
            new[x], new[y] = -old[y], old[x]
        return GivenLens(self.model, tuple(new[name] for name in names), self.height, self.width)

    @property
    def focal(self) -> float:
        """Mean focal length in pixels."""
        values = dict(zip(param_names(self.model), self.params, strict=True))
        return values["f"] if "f" in values else 0.5 * (values["fx"] + values["fy"])


_FIT_PX = 0.05

LensOf = Callable[[int, int], GivenLens]
"""The lens for a picture of a width and height, for files that do not tell the size themselves."""


def param_names(model: str) -> tuple[str, ...]:
    """The names of a COLMAP model's parameters, in order.

    Raises DigitizeError(poses_invalid) for a model that pycolmap does not know or cannot undistort.
    """
    known = [name for name in pycolmap.CameraModelId.__members__ if name not in ("INVALID", "EQUIRECTANGULAR")]
    if model not in known:
        message = f"expected one of the camera models {', '.join(known)}, found {model!r}"
        raise DigitizeError(ReasonCode.POSES_INVALID, message)
    info = pycolmap.Camera.create_from_model_name(1, model, 1.0, 2, 2).params_info
    return tuple(part.strip() for part in info.split(","))


def checked(lens: GivenLens, name: str) -> GivenLens:
    """The lens. Raises DigitizeError(poses_invalid) naming the frame when it is none that a photo can have."""
    expected = len(param_names(lens.model))
    if len(lens.params) != expected:
        raise _invalid(f"{name}: expected {expected} parameters of {lens.model}, found {len(lens.params)}")
    if not (lens.width > 0 and lens.height > 0 and lens.focal > 0):
        found = f"{lens.width:g} x {lens.height:g} pixels and a focal length of {lens.focal:g}"
        raise _invalid(f"{name}: expected a size and a focal length above 0, found {found}")
    return lens


def swapped_fisheye(lens: GivenLens) -> GivenLens | None:
    """The lens as a pinhole where it is a fisheye, and as an equidistant fisheye where it is none."""
    if lens.model in FISHEYE:
        model = FISHEYE[lens.model]
        return GivenLens(model, lens.params[: len(param_names(model))], lens.width, lens.height)
    if lens.model in ("OPENCV", "PINHOLE"):
        return GivenLens("OPENCV_FISHEYE", (*lens.params[:4], 0.0, 0.0, 0.0, 0.0), lens.width, lens.height)
    return None


def rational(k: tuple[float, ...], f: float, width: float, height: float, name: str) -> tuple[float, ...]:
    """k1..k6 of OpenCV's rational model nearest to a polynomial in r^2 of degree 4, over the picture.

    Raises DigitizeError(poses_invalid) where it is further than a twentieth of a pixel from it.
    """
    r2 = (np.linspace(0.0, 1.1, 200) * 0.5 * np.hypot(width, height) / f) ** 2
    wanted = 1 + sum(c * r2 ** (power + 1) for power, c in enumerate(k))
    powers = np.stack([r2, r2**2, r2**3], 1)
    # (1 + powers a) = wanted (1 + powers b), linear in a and b
    system = np.concatenate([powers, -wanted[:, None] * powers], 1)
    found, *_ = np.linalg.lstsq(system, wanted - 1, rcond=1e-12)
    made = (1 + powers @ found[:3]) / (1 + powers @ found[3:])
    off = float((np.abs(made - wanted) * np.sqrt(r2)).max() * f)
    if not off < _FIT_PX:
        raise _invalid(f"{name}: expected distortion that k1, k2, k3 describe, found k4 = {k[3]:g}: fix it to 0")
    return tuple(float(each) for each in found)


def _invalid(message: str) -> DigitizeError:
    return DigitizeError(ReasonCode.POSES_INVALID, message)
