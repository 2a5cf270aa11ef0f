"""Small helpers that several tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from infra.storage import FolderStore, open_store
from models.digest import sha256_file
from models.results import ArtifactRef, FileRef, StageRequest
from models.stage import Stage
from models.store import Store
from tasks.context import Context


def make_context(request: StageRequest, folder: Path, store: Store | None = None, **changes: Any) -> Context:
    """A context below `folder`, on a folder store unless another is given."""
    scratch, output = folder / "scratch", folder / "output"
    scratch.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    return Context(
        request=request,
        scratch=scratch,
        output=output,
        store=store or FolderStore(folder / "store"),
        open_store=open_store,
        **changes,
    )


def ref_of(folder: Path, uri: str) -> ArtifactRef:
    """A reference to the files of a folder, links followed, under another uri."""
    paths = [Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names]
    files = [FileRef(path=p.relative_to(folder).as_posix(), sha256=sha256_file(p), bytes=1) for p in sorted(paths)]
    return ArtifactRef(digest="0", uri=uri, files=tuple(files))


STAGES = tuple(
    Stage(name) for name in ("ingest", "pose", "mask", "train", "surface", "scale", "export", "quality", "publish")
)
"""The stages that run by default; the rest of `registry.stages()` is skipped then."""


def before(stage: Stage) -> tuple[Stage, ...]:
    """All stages that come before one."""
    return STAGES[: STAGES.index(stage)]
