"""Read the cameras that Agisoft Metashape exports as XML.

Lens and axes: Metashape user manual, appendix "Camera models"; poses are camera to chunk with OpenCV's axes, and the
chunk's own transform takes them to its reference system.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

import numpy as np

from models.camera import FloatArray
from models.errors import DigitizeError
from tasks.pose.given.frame import Frame, GivenFile, invalid, number, other_readings, rigid
from tasks.pose.given.lens import GivenLens, LensOf, checked, rational

_SKEW_PX = 0.25
_FAR = 1e4
"""Extents of the cameras beyond which a world's origin is moved to them: earth-centred coordinates."""


def read_metashape(text: str) -> GivenFile:
    """The frames of an exported XML: all chunks, aligned cameras alone.

    Raises DigitizeError(poses_invalid).
    """
    chunks = _parse(text)
    frames: list[Frame] = []
    faults: list[str] = []
    notes: list[str] = []
    for chunk in chunks:
        lenses = _sensors(chunk, faults)
        world = _chunk_transform(chunk)
        unaligned = 0
        for camera in chunk.findall("./cameras//camera"):
            name = camera.get("label") or f"camera {camera.get('id')}"
            if camera.find("transform") is None:
                unaligned += 1
                continue
            try:
                frames.append(_frame(camera, name, lenses, world))
            except DigitizeError as error:
                faults.append(error.message)
        if unaligned:
            notes.append(f"{unaligned} cameras without a transform: Metashape had not aligned them")
    if not frames and not faults:
        raise invalid("expected aligned cameras (camera elements with a transform), found none")
    return GivenFile(_near_origin(frames, notes), tuple(faults), tuple(notes))


def _parse(text: str) -> list[ET.Element]:
    """The chunks of a document. Entities are refused: a few lines of them can fill a machine's memory."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise invalid("expected cameras as Metashape exports them, found a document type declaration")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise invalid(f"expected XML, found: {error}") from error
    chunks = list(root.iter("chunk"))
    if root.tag != "document" or not chunks:
        raise invalid(f"expected <document> with a <chunk>, as Metashape exports cameras, found <{root.tag}>")
    return chunks


def _frame(camera: ET.Element, name: str, lenses: dict[str, GivenLens], world: FloatArray) -> Frame:
    lens = lenses.get(camera.get("sensor_id") or "")
    if lens is None:
        raise invalid(f"{name}: expected a calibrated sensor with id {camera.get('sensor_id')!r}, found none")
    values = _numbers(camera.findtext("transform") or "", 16, f"{name}: transform")
    local = rigid(np.array(values).reshape(4, 4), name)
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    c2w = world @ local
    c2w[:3, :3] /= scale
    c2w = rigid(c2w, name)
    return Frame(name, c2w, _same(lens), other_readings(c2w, opengl=False))


def _same(lens: GivenLens) -> LensOf:
    return lambda width, height: lens


def _numbers(text: str, count: int, what: str) -> list[float]:
    parts = text.split()
    if len(parts) != count:
        raise invalid(f"{what}: expected {count} numbers, found {len(parts)}")
    return [number(part, f"{what}: expected each") for part in parts]


def _chunk_transform(chunk: ET.Element) -> FloatArray:
    """[4, 4] similarity from the chunk to its reference system; the identity where there is none."""
    given = chunk.find("transform")
    m = np.eye(4)
    if given is None:
        return m
    scale = _numbers(given.findtext("scale") or "1", 1, "the chunk's scale")[0]
    if not scale > 0:
        raise invalid(f"expected a chunk's scale above 0, found {scale:g}")
    turn = _numbers(given.findtext("rotation") or "1 0 0 0 1 0 0 0 1", 9, "the chunk's rotation")
    m[:3, :3] = np.array(turn).reshape(3, 3)
    m[:3, 3] = _numbers(given.findtext("translation") or "0 0 0", 3, "the chunk's translation")
    m = rigid(m, "the chunk's transform")
    m[:3, :3] *= scale
    return m


def _near_origin(frames: list[Frame], notes: list[str]) -> tuple[Frame, ...]:
    """The frames with a world whose origin is near them."""
    if not frames:
        return ()
    centres = np.array([frame.c2w[:3, 3] for frame in frames])
    middle = np.median(centres, axis=0)
    extent = float(np.abs(centres - middle).max())
    if np.abs(middle).max() < _FAR * max(extent, 1e-9):
        return tuple(frames)
    notes.append(f"the world's origin is moved to the cameras, by {', '.join(f'{x:.3f}' for x in middle)}")

    def moved(c2w: FloatArray) -> FloatArray:
        near = c2w.copy()
        near[:3, 3] -= middle
        return near

    return tuple(
        Frame(frame.name, moved(frame.c2w), frame.lens, other_readings(moved(frame.c2w), opengl=False))
        for frame in frames
    )


def _sensors(chunk: ET.Element, faults: list[str]) -> dict[str, GivenLens]:
    """The calibrated sensors by their id; those that cannot be read are told of."""
    lenses = {}
    for sensor in chunk.findall("./sensors/sensor"):
        calibration = _best(sensor.findall("calibration"))
        if calibration is None:
            continue
        try:
            lenses[sensor.get("id") or ""] = _lens(sensor, calibration)
        except DigitizeError as error:
            faults.append(error.message)
    return lenses


def _best(calibrations: Iterable[ET.Element]) -> ET.Element | None:
    """The adjusted calibration where there is one, else the initial one."""
    found = list(calibrations)
    return next((each for each in found if each.get("class") == "adjusted"), found[0] if found else None)


def _lens(sensor: ET.Element, calibration: ET.Element) -> GivenLens:
    name = f"sensor {sensor.get('label') or sensor.get('id')}"
    size = calibration.find("resolution")
    size = sensor.find("resolution") if size is None else size
    if size is None:
        raise invalid(f"{name}: expected a resolution, found none")
    width, height = (number(size.get(key), f"{name}: expected the {key}") for key in ("width", "height"))

    def value(key: str, default: float = 0.0) -> float:
        text = calibration.findtext(key)
        return default if text is None else number(text.strip(), f"{name}: expected {key}")

    f = value("f") or value("fx")
    fx, fy = f + value("b1"), value("fy") or f
    if abs(value("b2")) * 0.5 * height > _SKEW_PX * abs(fy):
        raise invalid(f"{name}: expected pixels without skew, found b2 = {value('b2'):g}: fix b2 to 0 and export again")
    cx, cy = value("cx"), value("cy")
    # since version 1.2 the principal point is an offset from the picture's middle
    cx, cy = (cx + width / 2, cy + height / 2) if abs(cx) < width / 4 and abs(cy) < height / 4 else (cx, cy)
    k1, k2, k3, k4, p1, p2 = (value(key) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    kind = calibration.get("type") or sensor.get("type") or "frame"
    if kind in ("fisheye", "equidistant_fisheye"):
        # Metashape writes the two tangential terms in the other order
        params = (fx, fy, cx, cy, k1, k2, p2, p1, k3, k4, 0.0, 0.0)
        if not p1 and not p2:
            return checked(GivenLens("OPENCV_FISHEYE", (fx, fy, cx, cy, k1, k2, k3, k4), width, height), name)
        return checked(GivenLens("THIN_PRISM_FISHEYE", params, width, height), name)
    if kind not in ("frame", "simple_radial", "radial"):
        raise invalid(f"{name}: expected a sensor of type frame or fisheye, found {kind!r}")
    if not (k3 or k4):
        return checked(GivenLens("OPENCV", (fx, fy, cx, cy, k1, k2, p2, p1), width, height), name)
    radial = (k1, k2, k3, 0.0, 0.0, 0.0) if not k4 else rational((k1, k2, k3, k4), fx, width, height, name)
    rational_params = (fx, fy, cx, cy, *radial[:2], p2, p1, *radial[2:])
    return checked(GivenLens("FULL_OPENCV", rational_params, width, height), name)
