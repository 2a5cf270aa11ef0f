"""File formats of the finished asset, one module each; installed packages add more (`digitize.exporters`).

A module holds `SUFFIX`, `MEDIA_TYPES` (of the files that it writes, by suffix), `write(path, mesh, up)` and, where it
needs a package that may be missing, `REQUIRES`. Lengths of the mesh are metres where the scale is known.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache
from types import ModuleType

from models.errors import DigitizeError, ReasonCode
from models.installed import entry_points

ENTRY_POINTS = "digitize.exporters"


@cache
def names() -> tuple[str, ...]:
    """The formats that are built in and installed, sorted."""
    built_in = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(built_in | {entry.name for entry in entry_points(ENTRY_POINTS)}))


def load(name: str) -> ModuleType:
    """The module of a format. Raises DigitizeError(missing_dependency) when it, or a package that it needs, is gone."""
    for entry in entry_points(ENTRY_POINTS, name):
        module = entry.load()
        if isinstance(module, ModuleType):
            return _usable(module, name)
    if name not in names():
        message = f"expected a format among {', '.join(names())}, found '{name}'"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message)
    return _usable(importlib.import_module(f"{__name__}.{name}"), name)


def _usable(module: ModuleType, name: str) -> ModuleType:
    needed = getattr(module, "REQUIRES", None)
    if needed is not None and importlib.util.find_spec(needed) is None:
        message = f"expected the package '{needed}' for the format '{name}', found none"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message)
    return module
