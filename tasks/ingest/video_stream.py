"""The frames of a video as they are shown: of its main stream, in order, whole and without fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import DigitizeError, ReasonCode

_PROGRESSIVE = 1
"""FFmpeg's AV_FIELD_PROGRESSIVE; the numbers above are orders of fields."""
_ODD_ASPECT = 4.0
"""Pixels longer than that are an error of the header."""


class VideoStream:
    """An open video, positioned at its start."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.deinterlaced = False
        """Whether a frame so far had two fields."""
        self._fields_in_header = _field_order(stream) > _PROGRESSIVE

    @property
    def rate(self) -> float:
        """Frames a second as the header tells it."""
        return float(self._stream.average_rate or 25)

    def shown_size(self, frame: Any) -> tuple[int, int]:
        """Width and height of a frame with square pixels, before rotation: the shorter side of a pixel is enlarged."""
        ratio = float(self._stream.sample_aspect_ratio or 1.0)
        if not 1 / _ODD_ASPECT <= ratio <= _ODD_ASPECT:
            ratio = 1.0
        return round(frame.width * max(1.0, ratio)), round(frame.height * max(1.0, 1 / ratio))

    def frames(self, check: Callable[[], None]) -> Iterator[Any]:
        """All frames that decode, those with two fields deinterlaced; a few are held at a time.

        Args:
            check: called for each packet and each frame; raises to stop.
        """
        graph: Any = None
        shape: tuple[Any, ...] = ()
        for frame in self._decoded(check):
            check()
            if graph is None and not (frame.interlaced_frame or self._fields_in_header):
                yield frame
                continue
            self.deinterlaced = True
            if graph is None or shape != _shape(frame):
                if graph is not None:
                    yield from _drained(graph, None)
                shape = _shape(frame)
                graph = _deinterlacer(frame, self._stream.time_base, every=not frame.interlaced_frame)
            yield from _drained(graph, frame)
        if graph is not None:
            yield from _drained(graph, None)

    def _decoded(self, check: Callable[[], None]) -> Iterator[Any]:
        """Frames as they are coded; damaged packets in the middle cost their own frames only."""
        import av

        for packet in self._container.demux(self._stream):
            check()
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            yield from (frame for frame in frames if not frame.is_corrupt)


@contextmanager
def opened(path: Path, max_pixels: int, threads: int) -> Iterator[VideoStream]:
    """The main stream of a video.

    Raises DigitizeError(undecodable, source_empty or image_bomb).
    """
    import av

    # names and titles in other encodings do not matter
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = _main_stream(container, path)
        if (stream.width or 0) * (stream.height or 0) > max_pixels:
            raise DigitizeError(
                ReasonCode.IMAGE_BOMB,
                f"expected at most {max_pixels} pixels a frame, found {stream.width} x {stream.height}",
                path=str(path),
            )
        stream.thread_type, stream.codec_context.thread_count = "AUTO", max(1, threads)
        yield VideoStream(container, stream)


def no_frames(path: Path) -> DigitizeError:
    """Of a video without frames."""
    return DigitizeError(ReasonCode.SOURCE_EMPTY, "expected a video with frames, found none", path=str(path))


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
        raise no_frames(path)
    return max(moving, key=lambda stream: ((stream.width or 0) * (stream.height or 0), -stream.index))


def _field_order(stream: Any) -> int:
    """What the container says of fields; 0 where it says nothing."""
    return int(getattr(stream.codec_context, "field_order", 0) or 0)


def _shape(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name


def _deinterlacer(frame: Any, time_base: Any, every: bool) -> Any:
    """A graph that gives one whole frame for each frame: `bwdif` of FFmpeg interpolates the lines of the second field.

    Args:
        every: whether frames that are not marked have fields too.
    """
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or time_base
    )
    filters = [source, graph.add("bwdif", f"mode=send_frame:deint={'all' if every else 'interlaced'}")]
    filters.append(graph.add("buffersink"))
    graph.link_nodes(*filters).configure()
    return graph


def _drained(graph: Any, frame: Any) -> Iterator[Any]:
    """What the graph gives out for a frame; None is the end."""
    import av

    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
