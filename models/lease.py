"""Who works on a stage at this moment. File: `work/<asset>/<stage>/<key>/lease.json` in the work store.

A lease saves work, it protects nothing: the commit does that. So a lease that is lost, stolen or written by a clock
that jumps costs a stage run twice at the worst, and never a result.
"""

from __future__ import annotations

from models.record import Record

LEASE_FILE = "lease.json"


class Lease(Record):
    """One run's hold on one stage."""

    owner: str
    """The run's process, by a name that no other has."""
    host: str
    """Its machine since its last boot: process numbers mean nothing elsewhere."""
    pid: int
    born: str
    """When the process began, as the system counts: process numbers come back."""
    run: str | None = None
    """Prefect's id of the flow run."""
    beat: int = 0
    """Raised with each heartbeat. A lease whose beat stands still has lost its owner."""
    renewed_at: float = 0.0
    """Unix time of the last heartbeat, for people."""
