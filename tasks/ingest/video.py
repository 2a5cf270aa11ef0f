"""A video as a source: the sharpest frame of each of a number of equal stretches of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DigitizeError, ReasonCode
from tasks.ingest.measure import SHARPNESS_EDGE_PX, sharpness

_MATRIX_UNSPECIFIED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED."""
_HD_LINES = 720
"""Videos of that many lines and more that do not name their colour matrix use BT.709, smaller ones BT.601."""


@dataclass(frozen=True)
class VideoLimits:
    """How many photos a video gives, and how large its frames may be."""

    max_photos: int
    photos_per_second: float
    max_pixels: int


@dataclass(frozen=True)
class _Timeline:
    frames: int
    start: float
    """Time of the first frame in seconds."""
    duration: float
    """Seconds from the first frame to the end of the last."""

    def windows(self, limits: VideoLimits) -> int:
        """How many stretches of time the video is cut into."""
        wanted = math.ceil(self.duration * limits.photos_per_second)
        return max(1, min(limits.max_photos, self.frames, wanted))


def extract_frames(
    path: Path, folder: Path, limits: VideoLimits, check: Callable[[], None], threads: int = 1
) -> list[Path]:
    """Write the chosen frames, upright, as `frame_<number>.png` and return them in order of time.

    Args:
        folder: where to write; made when missing.
        check: called for each frame; raises to stop.

    Raises DigitizeError(undecodable, source_empty or image_bomb).
    """
    import av

    folder.mkdir(parents=True, exist_ok=True)
    try:
        timeline = _read_timeline(path, limits)
        written: list[Path] = []
        with _opened(path) as container:
            stream = _main_stream(container, path)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", max(1, threads)
            for number, frame in _best_of_windows(_decoded(container, stream, check), timeline, limits):
                target = folder / f"frame_{number:05d}.png"
                _save(frame, target)
                written.append(target)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise DigitizeError(
            ReasonCode.UNDECODABLE, f"expected a video that can be decoded, found: {error}", path=str(path)
        ) from error
    if not written:
        raise _no_frames(path)
    return written


def _opened(path: Path) -> Any:
    """The container; names and titles in other encodings do not matter."""
    import av

    return av.open(str(path), metadata_errors="ignore")


def _main_stream(container: Any, path: Path) -> Any:
    """The video stream to read: not the picture of a cover, and of several the one with the most pixels.

    Raises DigitizeError(source_empty or undecodable) where there is none that can be decoded.
    """
    from av.stream import Disposition

    known = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not known and container.streams.video:
        message = "expected a video whose codec is known, found one that is not"
        raise DigitizeError(ReasonCode.UNDECODABLE, message, path=str(path))
    moving = [stream for stream in known if not stream.disposition & Disposition.attached_pic] or known
    if not moving:
        raise _no_frames(path)
    return max(moving, key=lambda stream: ((stream.width or 0) * (stream.height or 0), -stream.index))


def _read_timeline(path: Path, limits: VideoLimits) -> _Timeline:
    """Frame count and times from the packets alone: headers of recordings that were cut off lie about both."""
    with _opened(path) as container:
        stream = _main_stream(container, path)
        pixels = (stream.width or 0) * (stream.height or 0)
        if pixels > limits.max_pixels:
            raise DigitizeError(
                ReasonCode.IMAGE_BOMB,
                f"expected at most {limits.max_pixels} pixels a frame, found {stream.width} x {stream.height}",
                path=str(path),
            )
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = [float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None]
        rate = float(stream.average_rate or 25)
    if not packets:
        raise _no_frames(path)
    if len(times) < len(packets):
        return _Timeline(len(packets), 0.0, len(packets) / rate)
    return _Timeline(len(packets), min(times), max(times) - min(times) + 1.0 / rate)


def _decoded(container: Any, stream: Any, check: Callable[[], None]) -> Iterator[Any]:
    """All frames that decode; damaged packets in the middle cost their own frames only."""
    import av

    for packet in container.demux(stream):
        check()
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)


def _best_of_windows(frames: Iterator[Any], timeline: _Timeline, limits: VideoLimits) -> Iterator[tuple[int, Any]]:
    """(number, frame) of the sharpest frame of each window, in order of time; one frame is held at a time."""
    windows = timeline.windows(limits)
    current, best, best_number, best_sharpness = -1, None, 0, -1.0
    for number, frame in enumerate(frames):
        share = number / timeline.frames if frame.time is None else (frame.time - timeline.start) / timeline.duration
        window = max(current, min(windows - 1, int(share * windows + 1e-9)))
        if window != current:
            if best is not None:
                yield best_number, best
            current, best, best_sharpness = window, None, -1.0
        value = sharpness(_grey(frame))
        if value > best_sharpness:
            best, best_number, best_sharpness = frame, number, value
    if best is not None:
        yield best_number, best


def _grey(frame: Any) -> Any:
    scale = min(1.0, SHARPNESS_EDGE_PX / max(frame.width, frame.height))
    width, height = max(2, round(frame.width * scale / 2) * 2), max(2, round(frame.height * scale / 2) * 2)
    return frame.reformat(width=width, height=height, format="gray").to_ndarray().astype(np.float32)


def _save(frame: Any, target: Path) -> None:
    from av.video.reformatter import ColorRange, Colorspace
    from PIL import Image

    matrix = None
    if int(frame.colorspace) == _MATRIX_UNSPECIFIED:
        matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG).to_ndarray()
    quarter_turns = round(frame.rotation / 90.0) % 4
    Image.fromarray(np.ascontiguousarray(np.rot90(rgb, quarter_turns))).save(target, compress_level=1)


def _no_frames(path: Path) -> DigitizeError:
    return DigitizeError(ReasonCode.SOURCE_EMPTY, "expected a video with frames, found none", path=str(path))
