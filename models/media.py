"""Which files are photos, videos and archives, by their suffix in lower case."""

from __future__ import annotations

from pathlib import PurePath

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv"}
)
ARCHIVE_SUFFIXES = frozenset({".zip"})
"""Archives that are read; others are refused by name."""


def is_photo(name: str | PurePath) -> bool:
    """Whether a file's name is that of a photo."""
    return PurePath(name).suffix.lower() in PHOTO_SUFFIXES


def is_video(name: str | PurePath) -> bool:
    """Whether a file's name is that of a video."""
    return PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def is_archive(name: str | PurePath) -> bool:
    """Whether a file's name is that of an archive that is read."""
    return PurePath(name).suffix.lower() in ARCHIVE_SUFFIXES
