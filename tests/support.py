"""Small helpers that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.storage import FolderStore, open_store
from models.results import StageRequest
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
