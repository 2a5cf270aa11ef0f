"""Many scenes in one process: what one leaves behind, the next must not carry."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from infra.storage import FolderStore
from tasks.train import task
from tests.tasks.train.train_capture import train_context, write_capture

SCENES, SETTLED = 20, 5
MOST_GROWTH_MB = 16.0
"""Of resident memory from the 5th scene to the 20th. One leaked table with its moments is 12 MB a scene here."""


def resident_mb() -> float:
    """Resident memory of this process now; skips where it cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        pytest.skip("no /proc here")
    return pages * 4096 / 1e6


@pytest.mark.slow
def test_twenty_scenes_in_a_row_leak_nothing(tmp_path: Path) -> None:
    store: FolderStore = write_capture(tmp_path / "ball", 16, 32)
    resident = []
    for number in range(SCENES):
        context = train_context(
            store,
            tmp_path / str(number),
            seed=number,
            steps=30,
            levels=8,
            log2_table=16,
            max_resolution=256,
            error_map=True,
            refine_cameras=True,
            photos="stream",
        )
        task.run(context.request, context)
        gc.collect()
        resident.append(resident_mb())
    assert resident[-1] - resident[SETTLED - 1] < MOST_GROWTH_MB, [round(each) for each in resident]
