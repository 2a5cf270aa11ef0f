"""The local disk of one attempt: how much a stage may fill, and how much it has filled."""

from __future__ import annotations

import os
import time
from pathlib import Path

from models.results import StageRequest

QUOTA_LOOK_S = 2.0
"""Between two looks at the folder."""
_BLOCK = 512
"""Bytes of a block as `stat` counts them, whatever the disk's own."""


def quota_gb(request: StageRequest) -> float:
    """GB that an attempt may fill: what the stage declares, and its inputs, which a remote store copies there."""
    inputs = sum(file.bytes for ref in request.inputs.values() for file in ref.files)
    return request.resources.scratch_gb + inputs / 1e9


def filled_gb(folder: Path) -> float:
    """GB that the files below a folder take on the disk. Links are not followed; what vanishes meanwhile is nothing."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        total += _BLOCK * status.st_blocks // max(1, status.st_nlink)
        except OSError:
            continue
    return total / 1e9


class ScratchQuota:
    """Watches the folder of one attempt."""

    def __init__(self, folder: Path, request: StageRequest) -> None:
        self._folder = folder
        self._limit_gb = quota_gb(request)
        self._next = time.monotonic() + QUOTA_LOOK_S
        self.exceeded_with_gb: float | None = None
        """What the folder held when it was found over the quota."""

    def is_exceeded(self) -> bool:
        """Whether the folder is over the quota. Looks now and then only: many files take long to count."""
        now = time.monotonic()
        if now < self._next:
            return False
        found = filled_gb(self._folder)
        self._next = time.monotonic() + max(QUOTA_LOOK_S, 20 * (time.monotonic() - now))
        if found > self._limit_gb:
            self.exceeded_with_gb = round(found, 3)
        return self.exceeded_with_gb is not None
