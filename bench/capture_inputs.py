"""What the pose stage makes of a folder of photos, as a folder that `engine.py --data` takes.

    python -m bench.capture_inputs ../shared/data/scene_flowerpot DATA/pose_flowerpot

Needs the whole package (pycolmap); the machine that trains on what it writes does not.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import yaml

from flows.plan.batch_plan import plan_batch
from flows.plan.walk import walk
from flows.runner.make import make_runner
from infra.settings import RunSettings
from infra.storage import open_store
from models.spec_yaml import load_spec
from models.stage import Stage


def solve(photos: Path, target: Path, pixels: int) -> None:
    """Take the photos in, solve their cameras, and copy what the pose stage committed to `target`.

    Args:
        pixels: longer edge of the pictures.

    Raises:
        DigitizeError: as the stages do.
        RuntimeError: the capture is rejected.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "batch.yaml"
        spec.write_text(
            yaml.safe_dump(
                {
                    "name": "capture",
                    "stages": {"ingest": {"options": {"max_edge_px": pixels}}},
                    "assets": [{"id": "capture", "photos": str(photos.resolve()), "scale": {"kind": "none"}}],
                }
            )
        )
        spec_file = load_spec(spec)
        plan = plan_batch(spec_file).assets[0]
        uri = spec_file.resolve(spec_file.spec.store)
        store, runner = open_store(uri), make_runner(RunSettings(), uri)
        while (found := walk(plan, store)).request is not None and Stage.POSE not in found.done:
            runner.run(found.request, lambda share, message, facts: None, lambda: False)
        if found.rejected or Stage.POSE not in found.done:
            raise RuntimeError(f"expected a capture that can be used, found {found.reasons}")
        ref = found.done[Stage.POSE].ref
        for file in ref.files:
            path = target / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(f"{ref.uri.removeprefix('store:')}/{file.path}", path)
        if not (target / "poses.json").is_file():
            shutil.rmtree(target)
            raise RuntimeError("expected poses.json among the pose stage's files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pixels", type=int, default=960)
    arguments = parser.parse_args()
    solve(arguments.photos, arguments.target, arguments.pixels)


if __name__ == "__main__":
    main()
