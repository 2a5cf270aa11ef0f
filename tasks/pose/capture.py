"""Read what ingest committed, and lay it out as COLMAP wants to find it."""

from __future__ import annotations

from pathlib import Path

from models.stage import Stage
from tasks.context import Context
from tasks.pose.base import Capture, Photo
from tasks.stage_files import fetch, read_photos


def load_capture(context: Context) -> Capture:
    """The capture of the `ingest` input, photos in the index's order, linked into one folder of scratch.

    COLMAP finds the mask of `a.jpg` as `a.jpg.png`.
    """
    index = read_photos(context)
    image_dir, mask_dir = context.scratch / "photos", context.scratch / "masks"
    image_dir.mkdir(parents=True, exist_ok=True)
    mask_dir.mkdir(parents=True, exist_ok=True)
    photos = []
    for item in index.photos:
        context.check()
        key = Path(item.file).name
        path = _link(fetch(context, Stage.INGEST, item.file), image_dir / key)
        mask = _link(fetch(context, Stage.INGEST, item.mask), mask_dir / f"{key}.png") if item.mask else None
        photos.append(
            Photo(
                name=item.name,
                key=key,
                path=path,
                mask=mask,
                width=item.width,
                height=item.height,
                source_width=item.source_width,
                source_height=item.source_height,
                focal_px=item.focal_px,
                camera_key=item.camera_key,
                orientation=item.orientation,
                alignment_only=item.alignment_only,
                twins=tuple(twin.name for twin in index.rejected if twin.same_as == item.name),
            )
        )
    has_masks = any(photo.mask for photo in photos)
    return Capture(tuple(photos), image_dir, mask_dir if has_masks else None)


def _link(source: Path, target: Path) -> Path:
    if not target.exists():
        target.symlink_to(source.resolve())
    return target
