"""The version of this distribution."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """The installed version; `0+unknown` where the distribution's metadata is missing."""
    try:
        return version("asset-digitizer")
    except PackageNotFoundError:
        return "0+unknown"
