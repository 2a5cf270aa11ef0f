"""`digitize` on stub stages, as a process of its own: `python -m tests.flows.cli_driver FOLDER ARGUMENTS...`.

At its end it writes the names of heavy libraries that were imported to `FOLDER/heavy.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flows.cli.main import main
from tests.flows.cli_stubs import install, install_runner

HEAVY = ("torch", "prefect", "ray", "open3d", "pycolmap", "boto3", "skimage", "scipy")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    install()
    if sys.argv[2] in ("run", "rerun", "nightly", "uploads"):
        install_runner(folder)
    try:
        main(sys.argv[2:])
    finally:
        (folder / "heavy.json").write_text(json.dumps([name for name in HEAVY if name in sys.modules]))
