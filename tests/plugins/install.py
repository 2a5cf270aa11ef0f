"""Install a module as another distribution would: the file, and the metadata with its entry point."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def install(site: Path, name: str, group: str) -> dict[str, str]:
    """Copy `tests/plugins/<name>.py` and register it in an entry-point group. Returns the environment that finds it."""
    site.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / f"{name}.py", site / f"digitize_{name}.py")
    metadata = site / f"digitize_{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: digitize-{name.replace('_', '-')}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = digitize_{name}\n")
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}
