"""How many photos an asset has and how large they are, before anything is taken in."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from flows.plan.committed import AssetPlan
from models.media import count_photos, is_archive, is_photo
from models.results import ArtifactRef, Done
from models.stage import Stage

_UNKNOWN_PHOTOS = 60
_UNKNOWN_MEGAPIXELS = 12.0


def asset_size(plan: AssetPlan, done: dict[Stage, Done]) -> tuple[int, float]:
    """How many photos an asset has and their megapixels as stages see them, guessed where nothing says."""
    source = plan.sources.get("photos")
    if source is None:
        return _UNKNOWN_PHOTOS, _UNKNOWN_MEGAPIXELS
    photos = committed_photos(done[Stage.INGEST]) if Stage.INGEST in done else _given_photos(source)
    megapixels = _first_megapixels(source)
    edge = plan.stages[Stage.INGEST].options.get("max_edge_px")
    if isinstance(edge, int | float) and edge > 0:
        megapixels = min(megapixels, edge * edge * 0.75 / 1e6)
    return photos, megapixels


def committed_photos(done: Done) -> int:
    """Photos of an ingest commit, guessed where it names none."""
    return sum(file.path.startswith("images/") for file in done.files) or _UNKNOWN_PHOTOS


def _given_photos(source: ArtifactRef) -> int:
    count = count_photos(file.path for file in source.files)
    if count == 0 and is_archive(source.uri) and "://" not in source.uri:
        try:
            with ZipFile(source.uri) as archive:
                count = count_photos(archive.namelist())
        except (BadZipFile, OSError):
            count = 0
    return count or _UNKNOWN_PHOTOS


def _first_megapixels(source: ArtifactRef) -> float:
    """Megapixels of the first photo, from its header."""
    name = next((file.path for file in source.files if is_photo(file.path)), None)
    if name is None or "://" in source.uri:
        return _UNKNOWN_MEGAPIXELS
    from PIL import Image

    path = Path(source.uri)
    try:
        with Image.open(path / name if path.is_dir() else path) as image:
            return image.width * image.height / 1e6
    except (OSError, ValueError, Image.DecompressionBombError):
        return _UNKNOWN_MEGAPIXELS
