"""Faults of the environment and of settings, told as such: `internal` means a defect of digitize and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import DigitizeError, ReasonCode

if TYPE_CHECKING:
    from pydantic import ValidationError

_PLACES = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE),
    }
)
"""What a place says that cannot be used, wherever it is."""
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
"""What it says where a folder above it is missing: a fault of the machine in the places of `_own_places` alone."""


def as_fault(error: Exception) -> DigitizeError | None:
    """What went wrong around digitize, with what to set; None for what is a defect of its own."""
    if type(error).__name__ == "ValidationError" and str(getattr(error, "title", "")).endswith("Settings"):
        return _wrong_settings(error)  # type: ignore[arg-type]
    if isinstance(error, OSError):
        return _unusable_place(error)
    return None


def _wrong_settings(error: ValidationError) -> DigitizeError:
    lines = []
    for each in error.errors(include_url=False):
        name = "_".join(map(str, each["loc"])).upper()
        variable = next((key for key in os.environ if key.upper().endswith(f"_{name}")), f"DIGITIZE_{name}")
        wanted = str(each["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
        lines.append(f"{variable}: {wanted}, found {os.environ.get(variable, '')!r}")
    hint = "Correct the variable, or unset it; docs/operations.md lists all with their values."
    return DigitizeError(ReasonCode.SPEC_INVALID, "\n".join(lines), hint)


def _unusable_place(error: OSError) -> DigitizeError | None:
    if error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    variable = next((name for name, place in _own_places() if path.is_relative_to(place)), "")
    if error.errno not in _PLACES and not (error.errno in _MISSING and variable):
        return None
    hint = f"Set {variable} to a folder that you can write." if variable else "Choose a place that you can write."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DigitizeError(ReasonCode.OUT_OF_DISK, f"expected room, found: {error.strerror}", path=str(path))
    message = f"expected a place that can be used, found: {error.strerror}"
    return DigitizeError(ReasonCode.ENVIRONMENT, message, hint, path=str(path))


def _own_places() -> list[tuple[str, Path]]:
    """Folders that digitize uses without being asked, by the variable that names them."""
    names = ("DIGITIZE_SCRATCH", "PREFECT_HOME", "XDG_DATA_HOME", "HOME")
    return [(name, Path(place).absolute()) for name in names if (place := os.environ.get(name))]
