"""The interface of every field: the surface and quality stages see a `Field` and the pose result, nothing else."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.fields.march import Samples
from models.fields.occupancy import OccupancyGrid
from models.installed import entry_points

FIELD_FILE = "field.json"
WEIGHTS_FILE = "field.safetensors"
FORMAT = 1
ENTRY_POINTS = "digitize.fields"
"""Modules of installed packages that define further fields, by their `method`."""
SDF_SHARPNESS = 0.004
"""Scale of the Laplace distribution that turns a signed distance into a density for rendering, in field units."""

_known: dict[str, type[Field]] = {}


class Field(nn.Module):
    """A shape and its colours inside the cube [-1, 1]^3 (field coordinates; world = PoseSet.world_from_field).

    A subclass names itself by `method`; `load_field` finds it in `models/fields/<method>.py`, among the entry points
    of `digitize.fields`, or among the classes that are already imported. Calls are differentiable and handle any number
    of points; large counts are the caller's to chunk. Points outside the cube are the caller's to avoid.
    """

    method: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    quantity: Literal["density", "sdf"]
    """`density`: value >= 0 in 1 / field unit. `sdf`: signed distance in field units, negative inside."""
    level: float
    """The value at which the surface lies; inside is `value > level` for densities, `value < level` for distances."""
    step: float = 2.0 * math.sqrt(3.0) / 512.0
    """Length of a rendering step in field units."""
    extent: float = 1.0
    """Half the edge of the cube that is rendered; what is published lies in [-1, 1]^3."""
    near: float = 0.0
    """Distance from a camera in field units within which nothing is rendered."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.method:
            _known[cls.method] = cls

    @property
    def surrounded(self) -> bool:
        """Whether the field knows what lies outside its cube; if not, that is black."""
        return False

    @property
    def grid(self) -> OccupancyGrid | None:
        """The cells that may hold something; None for all."""
        return None

    @property
    def occupancy(self) -> Tensor | None:
        """[G, G, G] uint8, index (z, y, x): 1 in cells of the cube that may hold something; None for all."""
        return None if self.grid is None else self.grid.occupied_cells[0]

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and appearance feature.

        Args:
            x: [N, 3] field coordinates.

        Returns:
            value [N] (see `quantity`) and feature [N, F], to be handed to `color`.
        """
        raise NotImplementedError

    def color(self, x: Tensor, d: Tensor, feature: Tensor) -> Tensor:
        """[N, 3] sRGB in [0, 1] of points `x` [N, 3] seen along unit directions `d` [N, 3] (camera to point)."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's keyword arguments as JSON values, `level` apart."""
        raise NotImplementedError

    def density_of(self, value: Tensor) -> Tensor:
        """[N] volume density in 1 / field unit of values [N]; distances by VolSDF's Laplace transform (eq. 2)."""
        if self.quantity == "density":
            return value
        tail = 0.5 * torch.exp(-value.abs() / SDF_SHARPNESS)
        return torch.where(value > 0, tail, 1.0 - tail) / SDF_SHARPNESS

    def density_along(self, value: Tensor, samples: Samples) -> Tensor:
        """[N] volume density of samples along rays whose values [N] are known; by default each by its own value."""
        return self.density_of(value)

    def gradient(self, x: Tensor) -> Tensor:
        """[N, 3] derivative of `query`'s value by position. Surface normals point along -gradient for densities."""
        with torch.enable_grad():
            points = x.detach().requires_grad_(True)
            value, _ = self.query(points)
            (slope,) = torch.autograd.grad(value.sum(), points)
        return slope

    def surroundings(
        self, rays_o: Tensor, rays_d: Tensor, t_in: Tensor, t_out: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What lies outside the cube along rays; by default nothing, on black.

        Args:
            rays_o, rays_d: [R, 3] in field coordinates.
            t_in, t_out: [R] where the rays enter and leave the cube (`march.cube_interval`).
            visible: [R] bool, whether what is behind the cube is asked for.

        Returns:
            front [R, 3], the sRGB light from in front of the cube; transmittance [R] of what is in front;
            behind [R, 3], the sRGB light from behind it, black where not asked for.
        """
        return torch.zeros_like(rays_d), torch.ones_like(t_in), torch.zeros_like(rays_d)

    def save(self, folder: Path) -> None:
        """Write `field.json` and `field.safetensors`. Equal fields give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS_FILE)
        header = {
            "format": FORMAT,
            "method": self.method,
            "version": self.version,
            "quantity": self.quantity,
            "level": self.level,
            "config": self.config(),
            "weights": WEIGHTS_FILE,
        }
        (folder / FIELD_FILE).write_bytes(canonical_json(header) + b"\n")


def load_field(folder: Path, device: str = "cpu") -> Field:
    """The field that `Field.save` wrote, in evaluation mode.

    Raises:
        DigitizeError(source_not_found): no field there.
        DigitizeError(unsupported_format): another format or version, or damaged files.
    """
    path = folder / FIELD_FILE
    if not path.is_file():
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected {FIELD_FILE}, found none", path=str(folder))
    try:
        header = json.loads(path.read_text())
        kind = _field_class(header["method"])
        if (header["format"], header["version"]) != (FORMAT, kind.version):
            raise ValueError(
                f"expected format {FORMAT} version {kind.version}, "
                f"found format {header['format']} version {header['version']}"
            )
        field = kind(**header["config"])
        field.level = float(header["level"])
        if not math.isfinite(field.level):
            raise ValueError(f"expected a finite level, found {field.level}")
        field.load_state_dict(load_file(folder / header["weights"], device="cpu"))
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, f"not a readable field: {error}", path=str(path)) from error
    return field.to(device).eval()


def _field_class(method: str) -> type[Field]:
    for entry in entry_points(ENTRY_POINTS, method) if method not in _known else ():
        entry.load()
    if method not in _known and method.isidentifier():
        try:
            importlib.import_module(f"models.fields.{method}")
        except ModuleNotFoundError as error:
            raise ValueError(f"expected a field method that is built, found '{method}'") from error
    if method not in _known:
        raise ValueError(f"expected one of {', '.join(sorted(_known))}, found '{method}'")
    return _known[method]
