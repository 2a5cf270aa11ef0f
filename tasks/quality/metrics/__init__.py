"""Metrics as pure functions, one file each, and the names of all that the quality stage may report.

Installed packages add metrics (`digitize.metrics`); `tasks/quality/installed.py` says what theirs hold.
"""

from __future__ import annotations

from types import ModuleType

from models.errors import DigitizeError, ReasonCode
from models.installed import entry_points

ENTRY_POINTS = "digitize.metrics"
BUILT_IN = (
    *("psnr_mesh", "psnr_mesh_corrected", "ssim_mesh", "coverage_mesh", "heldout_views", "mesh_gap"),
    *("psnr_model", "psnr_model_corrected", "psnr_model_full", "ssim_model"),
    *("fscore_0_25pct", "fscore_0_5pct", "fscore_1pct", "chamfer", "precision_1pct", "recall_1pct"),
    *("fscore_hull_0_25pct", "fscore_hull_0_5pct", "fscore_hull_1pct", "fscore_hull"),
    *("chamfer_hull", "normal_consistency", "camera_centre_error", "camera_rotation_error_deg"),
    *("completeness_dense", "precision_dense"),
    *("components", "boundary_edges", "non_manifold_share", "degenerate_share", "outside_share", "watertight"),
)
_NEEDS = ("VERSION", "UNIT", "BETTER", "ABOUT", "measure")


def names() -> tuple[str, ...]:
    """All metrics that the stage may report, built in and installed."""
    return (*BUILT_IN, *installed())


def installed() -> dict[str, str]:
    """The versions of installed metrics by name. Raises DigitizeError as `load` does."""
    found = sorted(entry.name for entry in entry_points(ENTRY_POINTS))
    return {name: str(load(name).VERSION) for name in found}


def load(name: str) -> ModuleType:
    """The module of an installed metric.

    Raises DigitizeError(missing_dependency) when it is not installed, incomplete, or has a built-in metric's name.
    """
    for entry in entry_points(ENTRY_POINTS, name):
        module = entry.load()
        missing = [each for each in _NEEDS if not hasattr(module, each)]
        if name in BUILT_IN or missing or not isinstance(module, ModuleType):
            what = "a name of its own" if name in BUILT_IN else ", ".join(missing) or "a module"
            message = f"expected {what} of the metric '{name}' from {entry.value}, found none"
            raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message)
        return module
    raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, f"expected an installed metric '{name}', found none")
