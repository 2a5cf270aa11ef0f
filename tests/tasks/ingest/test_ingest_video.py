"""Videos: which frames become photos, and that they look as the video is shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import DigitizeError, ReasonCode
from tasks.ingest import video_colour
from tasks.ingest.key_frames import FINEST, STEP, FrameTable, choose
from tasks.ingest.video import VideoLimits, extract_frames
from tasks.ingest.video_motion import MotionMeter
from tests.tasks.ingest.pictures import ingest, scene

LIMITS = VideoLimits(60, 10.0, 10_000_000)
ROOT = Path(__file__).parents[3]


def paths_of(
    path: Path, folder: Path, limits: VideoLimits = LIMITS, check: Callable[[], None] = lambda: None
) -> list[Path]:
    return extract_frames(path, folder, limits, check).paths


def numbers(paths: list[Path]) -> list[int]:
    return [int(path.stem.removeprefix("frame_")) for path in paths]


def write_video(path: Path, frames: list[np.ndarray], rate: int = 10) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 20_000_000
        for picture in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def blurred(picture: np.ndarray, width: int = 9) -> np.ndarray:
    return np.asarray(np.mean([np.roll(picture, shift, 1) for shift in range(width)], 0)).astype(np.uint8)


def video_frames(count: int, sharp: set[int]) -> list[np.ndarray]:
    """Views that slide by 4 pixels a frame; all but the `sharp` ones are smeared."""
    frames = [np.asarray(scene(4.0 * index)) for index in range(count)]
    return [frame if index in sharp else blurred(frame) for index, frame in enumerate(frames)]


def test_sharpest_frame_of_each_window(tmp_path: Path) -> None:
    sharp = {3, 14, 27, 30}
    path = write_video(tmp_path / "clip.mp4", video_frames(40, sharp))
    frames = paths_of(path, tmp_path / "frames", VideoLimits(4, 30.0, 10_000_000), lambda: None)
    assert [frame.name for frame in frames] == [f"frame_{index:05d}.png" for index in sorted(sharp)]
    stored = np.asarray(Image.open(frames[1])).astype(int)
    errors = [np.abs(stored - np.asarray(scene(4.0 * index)).astype(int)).mean() for index in (13, 14, 15)]
    assert errors[1] < 0.4 * min(errors[0], errors[2])


def test_rate_and_number_of_frames_bound_the_photos(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", video_frames(20, set(range(20))))
    for limits, expected in (
        (VideoLimits(100, 2.0, 10_000_000), 4),
        (VideoLimits(100, 100.0, 10_000_000), 20),
        (VideoLimits(7, 100.0, 10_000_000), 7),
    ):
        assert len(paths_of(path, tmp_path / "frames", limits, lambda: None)) == expected


@pytest.mark.parametrize("quarter_turns_clockwise", [0, 1, 2, 3])
def test_rotation_of_phones_is_applied(tmp_path: Path, quarter_turns_clockwise: int) -> None:
    """The matrix of the track's header (ISO/IEC 14496-12) turns the stored frames for display."""
    upright = np.zeros((160, 240, 3), np.uint8)
    upright[:80, :120], upright[:80, 120:], upright[80:, :120] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = np.ascontiguousarray(np.rot90(upright, quarter_turns_clockwise))
    path = write_video(tmp_path / "clip.mp4", [stored] * 4)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    a, b, c, d = [(one, 0, 0, one), (0, one, -one, 0), (-one, 0, 0, -one), (0, -one, one, 0)][quarter_turns_clockwise]
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        data[matrix + place : matrix + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    frames = paths_of(path, tmp_path / "frames", VideoLimits(1, 30.0, 10_000_000), lambda: None)
    picture = np.asarray(Image.open(frames[0])).astype(int)
    assert picture.shape == upright.shape
    assert np.abs(picture - upright).mean() < 10


def test_video_through_the_stage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [np.asarray(scene(12.0 * index)) for index in range(20)])
    result, index, _ = ingest(path, tmp_path / "work", video_photos_per_second=3.0)
    assert result.facts["photos"] == 6
    assert [photo.name for photo in index.photos] == sorted(photo.name for photo in index.photos)


def test_broken_videos(tmp_path: Path) -> None:
    data = write_video(tmp_path / "clip.mp4", video_frames(10, set())).read_bytes()
    for name, content in (
        ("none.mp4", b""),
        ("text.mp4", b"no video at all" * 50),
        ("cut.mp4", data[: len(data) // 2]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DigitizeError) as caught:
            ingest(tmp_path / name, tmp_path / "work")
        assert caught.value.code in (ReasonCode.UNDECODABLE, ReasonCode.SOURCE_EMPTY)
        assert caught.value.path == str(tmp_path / name)
    with pytest.raises(DigitizeError) as caught:
        extract_frames(tmp_path / "clip.mp4", tmp_path / "frames", VideoLimits(4, 3.0, 100_000), lambda: None)
    assert caught.value.code is ReasonCode.IMAGE_BOMB


def test_the_picture_of_a_cover_is_not_the_video(tmp_path: Path) -> None:
    """Of several streams the one with the most pixels is read; a title in Latin-1 does not matter."""
    import av

    path = tmp_path / "cover.mkv"
    with av.open(str(path), "w") as container:
        sizes = ((160, 120), (480, 360), (320, 240))
        streams = []
        for width, height in sizes:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        container.metadata["title"] = "Munze1"
        for number in range(10):
            for stream, size in zip(streams, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(np.asarray(scene(12.0 * number).resize(size)), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Munze1", b"M\xfcnze1"))
    frames = paths_of(path, tmp_path / "frames", VideoLimits(5, 10.0, 1_000_000), lambda: None)
    assert frames
    for frame in frames:
        with Image.open(frame) as stored:
            assert stored.size == (480, 360)


# Which frames


def table(motion: Any, sharpness: Any = 0.5, rate: float = 30.0) -> FrameTable:
    moved = np.asarray(motion, dtype=np.float64)
    return FrameTable(np.arange(len(moved)) / rate, np.broadcast_to(sharpness, moved.shape).astype(np.float64), moved)


def test_a_camera_that_rests_gives_no_more_photos() -> None:
    chosen = choose(table([0.0] * 150 + [0.01] * 150), 60, 10.0)
    assert sum(index < 149 for index in chosen) <= 1 and len(chosen) >= 55
    assert np.ptp(np.diff(chosen[1:])) <= 2
    assert table([0.0] * 150 + [0.01] * 150).resting_seconds == pytest.approx(5.0, abs=0.1)


def test_photos_lie_evenly_along_the_path_whatever_the_speed() -> None:
    motion = np.concatenate([np.full(100, 0.004), np.full(100, 0.02), np.full(100, 0.001)])
    found = table(motion)
    chosen = choose(found, 50, 30.0)
    steps = np.diff(found.path[chosen])
    assert len(chosen) >= 45 and steps.max() < 1.6 * np.median(steps) and steps.min() > 0.5 * np.median(steps)
    parts = [sum(low <= index < low + 100 for index in chosen) for low in (0, 100, 200)]
    assert parts[1] > 3 * parts[0] > 6 * parts[2]


def test_repeated_frames_are_never_chosen_twice() -> None:
    """25 frames a second shown at 75: two of three are repeats."""
    chosen = choose(table([0.0, 0.0, 0.01] * 60, rate=75.0), 200, 200.0)
    path = table([0.0, 0.0, 0.01] * 60).path
    assert len(set(path[chosen].round(6))) == len(chosen) >= 28


def test_blurred_stretches_are_bridged() -> None:
    sharpness = np.full(300, 0.5)
    for start in range(10, 300, 25):
        sharpness[start : start + 6] = 0.1
    chosen = choose(table([0.01] * 300, sharpness), 60, 30.0)
    assert len(chosen) >= 50 and sharpness[chosen].min() == 0.5
    assert np.diff(chosen).max() <= 12


@pytest.mark.parametrize(
    ("motion", "limits", "count"),
    [
        ([], (60, 10.0), 0),
        ([0.0], (60, 10.0), 1),
        ([0.0] * 300, (60, 10.0), 1),
        ([0.01] * 300, (60, 30.0), 60),
        ([0.01] * 300, (60, 3.0), 30),
        ([0.01] * 300, (7, 30.0), 7),
        ([STEP] * 40, (60, 300.0), 40),
        ([0.0, float("nan")] + [0.0] * 20, (60, 30.0), 2),
    ],
)
def test_time_number_and_path_bound_the_photos(motion: list[float], limits: tuple[int, float], count: int) -> None:
    assert len(choose(table(motion), *limits)) == count


def test_a_short_path_is_cut_finer() -> None:
    """A small object on a turntable moves little: enough photos come all the same, as long as they differ."""
    assert len(choose(table([10 * FINEST / 300] * 300), 60, 10.0)) in range(9, 12)
    assert len(choose(table([50 * FINEST / 300] * 300), 60, 10.0)) == 36


def test_times_tell_a_variable_rate() -> None:
    times = np.cumsum([0.033] * 50 + [0.1] * 20)
    assert FrameTable(times, np.ones(70), np.full(70, 0.01)).variable_rate
    assert not table([0.01] * 70).variable_rate


# How far the picture moves


def wall(seed: int = 3, size: tuple[int, int] = (480, 640)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    total = np.zeros(size)
    for cells in (8, 24, 60):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells)).astype(np.uint8))
        total += np.asarray(noise.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    return total / 3


def warped(picture: np.ndarray, dx: float = 0.0, degrees: float = 0.0, zoom: float = 1.0) -> np.ndarray:
    h, w = picture.shape
    cos, sin = np.cos(np.radians(degrees)) / zoom, np.sin(np.radians(degrees)) / zoom
    matrix = (cos, -sin, w / 2 - cos * w / 2 + sin * h / 2 + dx, sin, cos, h / 2 - sin * w / 2 - cos * h / 2)
    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.transform((w, h), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))


def measured(frames: list[np.ndarray], noise: float = 2.0) -> np.ndarray:
    meter, rng = MotionMeter(), np.random.default_rng(0)
    return np.array([meter.add((frame + rng.normal(0, noise, frame.shape)).astype(np.float32)) for frame in frames])


def middle(view: int) -> np.ndarray:
    """A patch that slides behind a window, like the near side of an object on a turntable."""
    frame, patch = wall(3).copy(), warped(wall(9), dx=3.0 * view)
    frame[150:400, 220:440] = patch[150:400, 220:440]
    return frame


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda k: warped(wall(), dx=3.0 * k), 20 * 3 / 640),
        (lambda k: warped(wall(), dx=0.6 * k), 20 * 0.6 / 640),
        (lambda k: warped(wall(), degrees=1.0 * k), 20 * np.radians(1.0) * 240 / 640),
        (lambda k: warped(wall(), zoom=1.01**k), 20 * 0.01 * 240 / 640),
        (middle, 20 * 3 / 640),
        (lambda k: wall(), 0.0),
    ],
)
def test_displacement_of_known_motion(make: Callable[[int], np.ndarray], expected: float) -> None:
    """Sliding fast and slowly, rolling, coming closer, an object before a still background, and nothing at all."""
    total = measured([make(k) for k in range(21)]).sum()
    assert total == pytest.approx(expected, rel=0.45, abs=0.001)


def test_a_cut_cannot_be_measured_and_what_follows_can() -> None:
    motion = measured(
        [*(warped(wall(), dx=3.0 * k) for k in range(8)), *(warped(wall(21), dx=3.0 * k) for k in range(8))]
    )
    assert np.isnan(motion[8]) and np.count_nonzero(np.isnan(motion)) == 1
    assert np.nansum(motion[9:]) == pytest.approx(7 * 3 / 640, rel=0.3)


def test_trembling_adds_up_to_little() -> None:
    rng = np.random.default_rng(1)
    frames = [warped(wall(), dx=float(shift)) for shift in rng.uniform(-1.5, 1.5, 60)]
    assert measured(frames).sum() < 8 / 640


# How frames look


def coded(
    path: Path,
    pictures: list[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    aspect: Fraction | None = None,
    colour: tuple[int, int, int] | None = None,
) -> Path:
    """A video of [H, W, 3] pictures: 8 bits of sRGB, or 16 of the transfer that `colour` names.

    Args:
        times: of the frames in milliseconds.
        colour: primaries, transfer and matrix.
    """
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options={"crf": "8", **(options or {})})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        context = stream.codec_context
        if colour:
            context.color_primaries, context.color_trc, context.colorspace = colour
        for number, picture in enumerate(pictures):
            deep = picture.dtype == np.uint16
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if deep else "rgb24")
            matrix = 9 if deep else None
            frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def slides(count: int, step: float = 12.0) -> list[np.ndarray]:
    return [np.asarray(scene(step * k)) for k in range(count)]


def opened(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_rest_in_a_video_is_passed_over_and_told(tmp_path: Path) -> None:
    path = coded(tmp_path / "clip.mp4", [np.asarray(scene(0))] * 30 + slides(20))
    found = extract_frames(path, tmp_path / "frames", LIMITS, lambda: None)
    assert len([number for number in numbers(found.paths) if number < 30]) <= 1 and len(found.paths) >= 15
    assert found.note.startswith("clip.mp4: 50 frames in 5.0 s, ")
    assert "3 s without motion passed over" in found.note


def test_what_was_chosen_stands_in_the_facts(tmp_path: Path) -> None:
    result, index, _ = ingest(coded(tmp_path / "clip.mp4", slides(20)), tmp_path / "work")
    assert any(note.startswith("clip.mp4: 20 frames in 2.0 s") for note in result.facts["notes"])
    assert len(index.photos) >= 5


def test_variable_rates_go_by_the_times_of_the_frames(tmp_path: Path) -> None:
    """Ten photos a second of a clip with 20 frames in its first 0.4 s and 8 in the next 1.6."""
    times = [20 * k for k in range(20)] + [400 + 200 * k for k in range(8)]
    path = coded(tmp_path / "clip.mkv", slides(28), times=times)
    found = extract_frames(path, tmp_path / "frames", VideoLimits(60, 5.0, 10_000_000), lambda: None)
    assert len(found.paths) == pytest.approx(9, abs=2) and "at a variable rate" in found.note


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    wide = [np.asarray(scene(12.0 * k).resize((320, 480))) for k in range(6)]
    path = coded(tmp_path / "clip.mp4", wide, aspect=Fraction(2, 1))
    found = extract_frames(path, tmp_path / "frames", LIMITS, lambda: None)
    assert opened(found.paths[0]).shape == (480, 640, 3) and "pixels made square" in found.note
    first = numbers(found.paths)[0]
    truth = np.asarray(scene(12.0 * first).resize((320, 480)).resize((640, 480), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(opened(found.paths[0]) - truth).mean() < 20  # coding; a shift by two pixels gives 40


def test_fields_of_interlaced_videos_do_not_comb(tmp_path: Path) -> None:
    """Each frame weaves two moments between which a black bar moves by 40 pixels."""

    def bar(left: int) -> np.ndarray:
        picture = np.full((480, 640, 3), 200, np.uint8)
        picture[:, left : left + 60] = 20
        return picture

    woven = []
    for k in range(10):
        frame = bar(40 + 40 * k).copy()
        frame[1::2] = bar(60 + 40 * k)[1::2]
        woven.append(frame)
    path = coded(tmp_path / "clip.mp4", woven, options={"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"})
    found = extract_frames(path, tmp_path / "frames", LIMITS, lambda: None)
    assert "deinterlaced" in found.note
    for number, stored in zip(numbers(found.paths), found.paths, strict=True):
        picture = opened(stored)[40:-40, :, 1]
        combs = np.abs(picture[2:] - picture[1:-1]) + np.abs(picture[:-2] - picture[1:-1])
        assert (combs > 100).mean() < 0.01, number
    assert (np.abs(np.diff(woven[0][:, :, 1].astype(int), axis=0)) > 100).mean() > 0.05


def test_a_cancelled_run_stops(tmp_path: Path) -> None:
    path = coded(tmp_path / "clip.mp4", slides(30))
    calls: list[int] = []

    def check() -> None:
        calls.append(0)
        if len(calls) > 10:
            raise DigitizeError(ReasonCode.CANCELLED, "stopped")

    with pytest.raises(DigitizeError, match="stopped"):
        extract_frames(path, tmp_path / "frames", LIMITS, check)
    assert len(calls) == 11 and not list((tmp_path / "frames").glob("*.png"))


PEAK = """
import re, sys
from pathlib import Path
from tasks.ingest.video import VideoLimits, extract_frames
extract_frames(Path(sys.argv[1]), Path(sys.argv[2]), VideoLimits(20, 10.0, 10_000_000), lambda: None)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """The 260 further frames are 120 MB as they are decoded."""
    base = np.asarray(scene(0.0, (2000, 480)))
    peaks = []
    for count in (40, 300):
        pictures = [np.ascontiguousarray(base[:, 2 * k : 2 * k + 640]) for k in range(40)]
        looped = pictures + [pictures[k % 40] for k in range(count - 40)]
        path = coded(tmp_path / f"{count}.mp4", looped, options={"preset": "ultrafast", "crf": "28"})
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"frames{count}")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 40


# High dynamic range


def srgb(light: Any) -> np.ndarray:
    """IEC 61966-2-1, 0..255."""
    light = np.clip(light, 0, 1)
    return np.asarray(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def pq_code(nits: Any) -> np.ndarray:
    """The inverse EOTF of SMPTE ST 2084 as the standard writes it, in 16 bits."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (np.asarray(nits, dtype=np.float64) / 10_000) ** m1
    return np.asarray(65535 * ((c1 + c2 * y) / (1 + c3 * y)) ** m2).round().astype(np.uint16)


def hlg_code(nits: Any) -> np.ndarray:
    """The OETF of ARIB STD-B67 for a grey that a display of 1000 nits shows so, in 16 bits."""
    scene_light = (np.asarray(nits, dtype=np.float64) / 1000) ** (1 / 1.2)
    low = np.sqrt(3 * scene_light)
    high = 0.17883277 * np.log(np.maximum(12 * scene_light - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(65535 * np.where(scene_light <= 1 / 12, low, high)).round().astype(np.uint16)


@pytest.mark.parametrize(("transfer", "code"), [(16, pq_code), (18, hlg_code)])
@pytest.mark.parametrize("nits", [1.0, 10.0, 26.0, 36.54, 80.0])
def test_greys_below_the_knee_keep_their_light(transfer: int, code: Callable[[Any], np.ndarray], nits: float) -> None:
    """An 18 % grey card under a diffuse white of 203 nits (BT.2408) has 36.54 nits, and 118 in sRGB."""
    found = video_colour.convert(np.repeat(code([nits]), 3)[None], transfer, 9)[0]
    assert np.ptp(found) <= 1 and found.mean() == pytest.approx(srgb(nits / 203), abs=1.5)


@pytest.mark.parametrize(("transfer", "code"), [(16, pq_code), (18, hlg_code)])
def test_highlights_are_rolled_off_and_kept_apart(transfer: int, code: Callable[[Any], np.ndarray]) -> None:
    ramp = np.array([96.0, 150.0, 203.0, 300.0, 500.0, 800.0, 1000.0])
    found = video_colour.convert(np.repeat(code(ramp)[:, None], 3, 1), transfer, 9)[:, 1].astype(int)
    assert (np.diff(found)[:-1] > 0).all() and found[-1] >= 253 and 200 < found[2] < 245


def test_saturated_colours_keep_their_hue() -> None:
    """Colours inside BT.709 come back through BT.2020 and PQ; bright ones keep the proportions of their parts."""
    rng = np.random.default_rng(2)
    true = rng.uniform(0.02, 0.35, (50, 3))
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    """BT.2087-0."""
    found = video_colour.convert(pq_code(203 * true @ to_2020.T), 16, 9).astype(float)
    assert np.abs(found - srgb(true)).max() <= 2
    bright = video_colour.convert(pq_code(2.5 * 203 * true @ to_2020.T), 16, 9).astype(float) / 255
    light = np.where(bright <= 0.04045, bright / 12.92, ((bright + 0.055) / 1.055) ** 2.4)
    shares, expected = light / light.sum(1, keepdims=True), true / true.sum(1, keepdims=True)
    assert np.abs(shares - expected).max() < 0.03


@pytest.mark.parametrize(("name", "transfer", "code"), [("PQ", 16, pq_code), ("HLG", 18, hlg_code)])
def test_hdr_videos_are_tone_mapped(
    name: str, transfer: int, code: Callable[[Any], np.ndarray], tmp_path: Path
) -> None:
    """10-bit HEVC of BT.2020 with known greys, through the whole reader."""
    levels = np.array([5.0, 20.0, 36.54, 80.0])
    pictures = []
    for k in range(6):
        picture = np.repeat(code(np.repeat(np.repeat(levels[None], 240, 0), 80, 1))[..., None], 3, -1)
        picture[200:230, 20 + 8 * k : 60 + 8 * k] = code([100.0])
        pictures.append(picture)
    path = coded(
        tmp_path / "clip.mp4",
        pictures,
        codec="libx265",
        pix_fmt="yuv420p10le",
        colour=(9, transfer, 9),
        options={"x265-params": "log-level=none"},
    )
    found = extract_frames(path, tmp_path / "frames", LIMITS, lambda: None)
    assert f"HDR ({name}) tone-mapped" in found.note
    picture = opened(found.paths[0])
    for index, nits in enumerate(levels):
        patch = picture[40:160, 80 * index + 16 : 80 * index + 64]
        assert patch.mean() == pytest.approx(srgb(nits / 203), abs=4), nits
