"""What a stage needs of the machine it runs on."""

from __future__ import annotations

from pydantic import Field

from models.record import Record


class Resources(Record):
    """Declared needs of one stage. They place and limit the work; they are never part of a cache key."""

    cpus: float = Field(default=1.0, gt=0)
    """CPU cores the stage keeps busy."""
    gpu_memory_gb: float = Field(default=0.0, ge=0)
    """GPU memory in GB that the stage can use when there is a GPU; 0 for stages that never touch one."""
    memory_gb: float = Field(default=1.0, gt=0)
    """Main memory in GB at the peak."""
    scratch_gb: float = Field(default=1.0, gt=0)
    """Local disk in GB for the attempt."""
    timeout_s: float = Field(default=3600.0, gt=0)
    """Wall seconds after which the stage's process is killed."""


class Estimate(Record):
    """What a stage is expected to take, before it is started."""

    seconds: float = Field(ge=0)
    """Wall seconds on two CPU cores."""
    memory_gb: float = Field(ge=0)
    """Peak main memory in GB."""
