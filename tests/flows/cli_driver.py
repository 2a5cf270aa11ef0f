"""`digitize` on stub stages, as a process of its own: `python -m tests.flows.cli_driver FOLDER ARGUMENTS...`.

At its end it writes the names of heavy libraries that were imported to `FOLDER/heavy.json`, and to
`FOLDER/followed.json` how often each commit was looked up to see how far an asset has got.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from flows.cli.main import main
from flows.plan import walk
from models.results import Done, StageRequest
from models.store import Store
from tasks.commit import find_done
from tests.flows.cli_stubs import install, install_runner

HEAVY = ("torch", "prefect", "ray", "open3d", "pycolmap", "boto3", "skimage", "scipy")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    install()
    if sys.argv[2] in ("run", "rerun", "nightly", "uploads"):
        install_runner(folder)
    followed = Counter[str]()

    def counting(store: Store, request: StageRequest) -> Done | None:
        followed[f"{request.asset} {request.stage} {request.key}"] += 1
        return find_done(store, request)

    walk.find_done = counting
    try:
        main(sys.argv[2:])
    finally:
        (folder / "followed.json").write_text(json.dumps(followed))
        (folder / "heavy.json").write_text(json.dumps([name for name in HEAVY if name in sys.modules]))
