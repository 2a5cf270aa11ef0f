"""Stages that cost nothing, or as long as they are told: what remains is orchestration."""

from __future__ import annotations

import time

from models.results import StageRequest, StageResult
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """Sleep for `options["seconds"]`, if given."""
    if seconds := request.options.get("seconds"):
        time.sleep(float(seconds))
    return StageResult()
