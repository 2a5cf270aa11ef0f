"""A video as a source: sharp frames that lie evenly along the way of the camera, or of the object before it.

The video is decoded twice and never held: first to measure each frame, then to write those that were chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DigitizeError, ReasonCode
from tasks.ingest.key_frames import FrameTable, choose
from tasks.ingest.measure import SHARPNESS_EDGE_PX, FloatArray, sharpness
from tasks.ingest.video_colour import hdr_name, srgb_of
from tasks.ingest.video_motion import MotionMeter
from tasks.ingest.video_stream import VideoStream, no_frames, opened


@dataclass(frozen=True)
class VideoLimits:
    """How many photos a video gives, and how large its frames may be."""

    max_photos: int
    photos_per_second: float
    max_pixels: int


@dataclass(frozen=True)
class KeyFrames:
    """The photos of a video."""

    paths: list[Path]
    """In order of time."""
    note: str
    """What was found and chosen, for people."""


@dataclass
class _Look:
    """What the frames are beside their pictures."""

    deinterlaced: bool = False
    curves: set[str] = field(default_factory=set)
    """Of high dynamic range."""
    stretched: bool = False


def extract_frames(
    path: Path, folder: Path, limits: VideoLimits, check: Callable[[], None], threads: int = 1
) -> KeyFrames:
    """Write the chosen frames, upright sRGB with square pixels, as `frame_<number>.png`.

    Args:
        folder: where to write; made when missing.
        check: called for each frame; raises to stop.

    Raises DigitizeError(undecodable, source_empty or image_bomb).
    """
    import av

    folder.mkdir(parents=True, exist_ok=True)
    try:
        look = _Look()
        with opened(path, limits.max_pixels, threads) as video:
            table = _measured(video, look, check)
        chosen = choose(table, limits.max_photos, limits.photos_per_second)
        if not chosen:
            raise no_frames(path)
        with opened(path, limits.max_pixels, threads) as video:
            written = _written(video, chosen, folder, check)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise DigitizeError(
            ReasonCode.UNDECODABLE, f"expected a video that can be decoded, found: {error}", path=str(path)
        ) from error
    if not written:
        raise no_frames(path)
    return KeyFrames(written, _note(path.name, table, len(written), look))


def _measured(video: VideoStream, look: _Look, check: Callable[[], None]) -> FrameTable:
    """The first pass."""
    meter = MotionMeter()
    times: list[float | None] = []
    values: list[tuple[float, float]] = []
    for frame in video.frames(check):
        size = video.shown_size(frame)
        grey = _grey(frame, size)
        times.append(frame.time)
        values.append((sharpness(grey), meter.add(grey)))
        look.stretched |= size != (frame.width, frame.height)
        look.curves |= {hdr_name(frame)} - {""}
    look.deinterlaced = video.deinterlaced
    known = [time for time in times if time is not None]
    shown = known if len(known) == len(times) else [number / video.rate for number in range(len(times))]
    sharp, motion = np.array(values, np.float64).reshape(-1, 2).T
    return FrameTable(np.array(shown, np.float64), sharp, motion)


def _written(video: VideoStream, chosen: list[int], folder: Path, check: Callable[[], None]) -> list[Path]:
    """The second pass, up to the last frame that is wanted."""
    written, wanted = [], set(chosen)
    for number, frame in enumerate(video.frames(check)):
        if number in wanted:
            target = folder / f"frame_{number:05d}.png"
            _save(frame, video.shown_size(frame), target)
            written.append(target)
        if number >= chosen[-1]:
            break
    return written


def _grey(frame: Any, size: tuple[int, int]) -> FloatArray:
    """[H, W] grey levels of a frame with square pixels, at most `SHARPNESS_EDGE_PX` long."""
    scale = min(1.0, SHARPNESS_EDGE_PX / max(size))
    width, height = (max(2, round(side * scale / 2) * 2) for side in size)
    grey: FloatArray = frame.reformat(width=width, height=height, format="gray").to_ndarray().astype(np.float32)
    return grey


def _save(frame: Any, size: tuple[int, int], target: Path) -> None:
    from PIL import Image

    quarter_turns = round(frame.rotation / 90.0) % 4
    pixels = np.rot90(srgb_of(frame, *size), quarter_turns)
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, compress_level=1)


def _note(name: str, table: FrameTable, photos: int, look: _Look) -> str:
    """`clip.mp4: 900 frames in 30.0 s at a variable rate, 60 photos: 12 s without motion passed over; HDR (PQ)
    tone-mapped`."""
    rate = " at a variable rate" if table.variable_rate else ""
    head = f"{name}: {len(table.times)} frames in {table.duration:.1f} s{rate}, {photos} photos"
    cuts = int(np.count_nonzero(np.isnan(table.motion)))
    rest = table.resting_seconds
    parts = [f"{rest:.0f} s without motion passed over"] if rest else []
    parts += [f"{cuts} jumps of the picture"] if cuts else []
    parts += [f"HDR ({', '.join(sorted(look.curves))}) tone-mapped"] if look.curves else []
    parts += ["deinterlaced"] if look.deinterlaced else []
    parts += ["pixels made square"] if look.stretched else []
    return f"{head}: {'; '.join(parts)}" if parts else head
