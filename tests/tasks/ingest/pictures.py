"""Pictures with known content, and a run of the stage on a folder of them."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.storage import FolderStore, open_store
from models.photos import PhotoIndex
from models.results import ArtifactRef, StageRequest, StageResult
from models.stage import Stage
from tasks.context import Context
from tasks.ingest import task
from tasks.ingest.methods import photos

SIZE = (640, 480)


def scene(view: float = 0.0, size: tuple[int, int] = SIZE, seed: int = 7) -> Image.Image:
    """A textured wall seen from a camera that slides by `view` pixels: two depths, so that views differ truly."""
    width, height = size
    rng = np.random.default_rng(seed)
    far = rng.integers(0, 256, (height // 4 + 2, width // 2, 3))
    far = np.asarray(Image.fromarray(far.astype(np.uint8)).resize((width * 2, height), Image.Resampling.BICUBIC))
    fine = rng.integers(-25, 26, (height, width * 2, 1))
    wall = np.clip(far.astype(np.int64) + fine, 0, 255).astype(np.uint8)
    shift = round(view)
    picture = wall[:, shift : shift + width].copy()
    top, bottom, left, right = height // 3, 2 * height // 3, width // 3, 2 * width // 3
    picture[top:bottom, left:right] = wall[top:bottom, left + 2 * shift : right + 2 * shift][:, :, ::-1]
    return Image.fromarray(picture)


def save_set(folder: Path, count: int = 6, size: tuple[int, int] = SIZE, **save: Any) -> list[Path]:
    """`count` neighbouring views as photo_0.jpg, photo_1.jpg, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo_{index}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        scene(12.0 * index, size).save(path, quality=95, **save)
    return paths


def request_for(source: Path | str, masks: Path | None = None, **options: Any) -> StageRequest:
    """A request of the `photos` method."""
    inputs = {"photos": ArtifactRef(digest="0" * 64, uri=str(source))}
    if masks is not None:
        inputs["masks"] = ArtifactRef(digest="1" * 64, uri=str(masks))
    effective = photos.Options.model_validate(options).model_dump(mode="json")
    return StageRequest(
        asset="thing", stage=Stage.INGEST, method="photos", version=photos.VERSION, options=effective, inputs=inputs
    )


def context_for(request: StageRequest, work: Path, threads: int = 2, **more: Any) -> Context:
    """A context with fresh folders below `work`."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "scratch").mkdir(parents=True)
    return Context(
        request=request,
        scratch=work / "scratch",
        output=work / "output",
        store=FolderStore(work / "store"),
        open_store=open_store,
        threads=threads,
        **more,
    )


def ingest(
    source: Path | str, work: Path, masks: Path | None = None, threads: int = 2, **options: Any
) -> tuple[StageResult, PhotoIndex, Path]:
    """Run the stage through its door: the result, the index it wrote, and its outputs."""
    request = request_for(source, masks, **options)
    context = context_for(request, work, threads)
    result = task.run(request, context)
    return result, PhotoIndex.read(context.output / "photos.json"), context.output


def codes(index: PhotoIndex) -> dict[str, str]:
    """Rejected name -> reason code."""
    return {photo.name: str(photo.code) for photo in index.rejected}


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file written by hand. `rows` without filter bytes; may be too short on purpose."""
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height)) if stride else b""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
