"""Captures with known truth: a patterned box on a patterned table, rendered, committed as ingest would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.storage import FolderStore
from models.camera import PosedImage
from models.digest import sha256_file
from models.mesh.mesh import Mesh
from models.mesh.raycast import render_textured
from models.results import ArtifactRef, FileRef, StageRequest
from models.stage import Stage
from tasks import registry
from tasks.context import Context
from tasks.sample.scenes import ring_cameras
from tests.support import make_context

BOX = np.array([[-0.5, -0.4, 0.0], [0.5, 0.4, 0.7]])
"""The box on the table z = 0, in metres."""
SIZE = (360, 270)


def box_on_table() -> Mesh:
    """A box and a table of 3 x 3 m with a texture of noise at several scales."""
    x, y, z = (BOX[:, k] for k in range(3))
    quads = [
        [(-1.5, -1.5, 0), (1.5, -1.5, 0), (1.5, 1.5, 0), (-1.5, 1.5, 0)],
        [(x[0], y[0], z[1]), (x[1], y[0], z[1]), (x[1], y[1], z[1]), (x[0], y[1], z[1])],
        [(x[0], y[0], 0), (x[1], y[0], 0), (x[1], y[0], z[1]), (x[0], y[0], z[1])],
        [(x[1], y[0], 0), (x[1], y[1], 0), (x[1], y[1], z[1]), (x[1], y[0], z[1])],
        [(x[1], y[1], 0), (x[0], y[1], 0), (x[0], y[1], z[1]), (x[1], y[1], z[1])],
        [(x[0], y[1], 0), (x[0], y[0], 0), (x[0], y[0], z[1]), (x[0], y[1], z[1])],
    ]
    corners = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5)]
    places = [(0.5, 0.5), (0.0, 0.0), (0.25, 0.0), (0.0, 0.25), (0.25, 0.25), (0.5, 0.0)]
    sizes = [1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    uv = [(u * s + a, v * s + b) for (a, b), s in zip(places, sizes, strict=True) for u, v in corners]
    faces = [(4 * k + a, 4 * k + b, 4 * k + c) for k in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    vertices = np.array(quads, dtype=np.float64).reshape(-1, 3)
    return Mesh(vertices, np.array(faces), uv=np.array(uv), texture=_noise())


def _noise() -> Any:
    rng = np.random.default_rng(7)
    total = np.zeros((512, 512, 3))
    for cells, weight in ((16, 0.5), (48, 0.8), (128, 1.0)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += weight * np.asarray(coarse.resize((512, 512), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(total / 2.3 * 1.3 - 38, 0, 255).astype(np.uint8)


def ring(views: int) -> tuple[PosedImage, ...]:
    """Cameras on two rings around the box."""
    return ring_cameras(views, *SIZE, 3.0, (25.0, 45.0), (0.0, 0.0, 0.25))


def write_photos(folder: Path, images: tuple[PosedImage, ...]) -> None:
    """The rendered photos as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    mesh = box_on_table()
    for image in images:
        view = render_textured(mesh, image.camera, image.c2w, (0.6, 0.6, 0.6), 2)
        picture = Image.fromarray(np.round(np.clip(view.rgb, 0, 1) * 255).astype(np.uint8))
        picture.save(folder / image.name, quality=97, subsampling=0)


def commit_ingest(
    root: Path,
    photos: Path,
    focal_px: float | None,
    masks: dict[str, Any] | None = None,
    alignment_only: tuple[str, ...] = (),
) -> ArtifactRef:
    """Commit photos to the folder store at `root` as the ingest stage would have."""
    out = root / "work/box/ingest/key/attempts/one"
    (out / "images").mkdir(parents=True)
    listed = []
    for path in sorted(photos.iterdir()):
        with Image.open(path) as image:
            width, height = image.size
            image.convert("RGB").save(out / "images" / f"{path.stem}.jpg", quality=97, subsampling=0)
        mask = None
        if masks is not None:
            (out / "masks").mkdir(exist_ok=True)
            mask = f"masks/{path.stem}.png"
            Image.fromarray(masks[path.name]).save(out / mask)
        listed.append(
            {
                "name": path.name,
                "file": f"images/{path.stem}.jpg",
                "mask": mask,
                "width": width,
                "height": height,
                "source_width": 2 * width,
                "source_height": 2 * height,
                "focal_px": focal_px,
                "camera_key": f"test|{width}x{height}",
                "sharpness": 0.5,
                "alignment_only": path.name in alignment_only,
                "source_sha256": "0" * 64,
            }
        )
    (out / "photos.json").write_text(json.dumps({"photos": listed}))
    files = tuple(
        FileRef(path=p.relative_to(out).as_posix(), sha256=sha256_file(p), bytes=p.stat().st_size)
        for p in sorted(out.rglob("*"))
        if p.is_file()
    )
    return ArtifactRef(
        digest=ArtifactRef.content_digest(files), uri=f"store:{out.relative_to(root).as_posix()}", files=files
    )


def pose_context(
    folder: Path,
    root: Path,
    ingest: ArtifactRef,
    method: str,
    poses: Path | None = None,
    threads: int = 2,
    **options: Any,
) -> Context:
    """A context for the pose stage on committed photos."""
    effective = registry.effective_options(Stage.POSE, method, "preview", options)
    inputs = {"ingest": ingest}
    if poses is not None:
        inputs["poses"] = ArtifactRef(digest="0", uri=str(poses))
    request = StageRequest(
        asset="box",
        stage=Stage.POSE,
        method=method,
        version="1",
        options=effective.model_dump(mode="json"),
        inputs=inputs,
    )
    return make_context(request, folder, FolderStore(root), threads=threads)
