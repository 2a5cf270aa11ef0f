"""Run the true line on a tiny sample capture, as a user does: through the command line, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "pose": {"options": {"max_features": 2000}},
    "train": {"options": {"steps": 600}},
    "surface": {"options": {"resolution": 128, "faces": 5000, "texture_size": 512}},
    "quality": {"options": {"samples": 20000, "max_views": 2}},
}
"""Options that make the sample small enough for a test; the stages are the real ones."""


def write_capture(folder: Path) -> Path:
    """A tiny sample capture with a specification to match; returns the specification's path."""
    from tasks.sample.capture import write_sample

    write_sample(folder, views=24, width=400, height=300, seed=0)
    batch = folder / "batch.yaml"
    spec = yaml.safe_load(batch.read_text())
    spec["stages"] = {**spec.get("stages", {}), **TINY}
    spec["publish"] = [{**target, "minimum_verdict": "review"} for target in spec["publish"]]
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))
    return batch


def copy_capture(batch: Path, folder: Path, **changes: Any) -> Path:
    """The capture with an empty store in another folder, its specification changed at the top level."""
    shutil.copytree(batch.parent / "photos", folder / "photos")
    shutil.copytree(batch.parent / "truth", folder / "truth")
    spec = {**yaml.safe_load(batch.read_text()), **changes}
    (folder / "batch.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder / "batch.yaml"


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`digitize ...` as a process in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def digitize(*arguments: str, expect: int = 0, **environment: str) -> dict[str, Any]:
    """`digitize ... --json` to its end: its document. Fails with its output on another exit code."""
    process = start(*arguments, "--json", **environment)
    output, errors = process.communicate(timeout=1500)
    assert process.returncode == expect, f"exit {process.returncode}\n{output}\n{errors}"
    document: dict[str, Any] = json.loads(output)
    return document
