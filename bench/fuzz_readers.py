"""Every reader of what strangers write, for `bench.fuzz`: seeds, and a call that may answer or refuse, nothing else."""

from __future__ import annotations

import itertools
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from bench import fuzz_seeds as seeds
from flows.plan.chains import stage_mistakes
from flows.plan.scales import scale_mistake
from flows.uploads.http import receiving
from flows.uploads.s3_events import EventError, parse_events
from models.camera import CameraSet, LensSet, PosedImage, PoseSet, matrix4
from models.errors import DigitizeError
from models.exports import ExportIndex
from models.lease import Lease
from models.manifest import Latest, Manifest
from models.mesh.io import read_ply
from models.photos import PhotoIndex, RejectedPhoto
from models.results import Done, StageRequest, StageResult
from models.scale import MeasuredScale
from models.spec import CaptureManifest
from models.spec_yaml import load_spec
from models.status import AssetStatus
from tasks.ingest.archive import ArchiveLimits, list_archive, open_archive
from tasks.ingest.decoder import Decoder
from tasks.ingest.options import IngestOptions
from tasks.ingest.staging import PhotoTask
from tasks.ingest.video import VideoLimits
from tasks.pose.base import Photo
from tasks.pose.given.read import join, read_file
from tasks.quality.truth import read_truth

MAX_PIXELS = 1_000_000
VIDEO_SECONDS = 60.0
Seed = tuple[str, bytes]


class RefusedError(Exception):
    """A file that was refused as it should be."""


@dataclass
class World:
    """What the readers of one worker share."""

    folder: Path
    """The only place where anything may be written."""
    decoder: Decoder = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)
    port: int = 0
    broken: list[str] = field(default_factory=list)
    """What servers' handlers raised."""

    def __post_init__(self) -> None:
        self.decoder = Decoder(MAX_PIXELS, lambda: None)
        self.stack.callback(self.decoder.close)
        self.good = self.folder / "good.jpg"
        seeds.picture().save(self.good)

    def http(self) -> int:
        """The port of a server for pushed events."""
        if not self.port:
            socketserver.BaseServer.handle_error = self._failed  # type: ignore[method-assign]
            self.port = self.stack.enter_context(receiving("127.0.0.1", 0, "token", parse_quietly))
        return self.port

    def _failed(self, request: Any, client: Any) -> None:
        import traceback

        self.broken.append(traceback.format_exc())


def parse_quietly(body: bytes) -> None:
    """Take a pushed event as the product does: what is none is noted as such."""
    with suppress(EventError):
        parse_events(body)


@dataclass(frozen=True)
class Reader:
    """One way in."""

    share: float
    """Of all files."""
    seeds: Callable[[], Iterator[Seed]]
    read: Callable[[Path, World], object]
    text: bool = False


def _photo(path: Path, world: World) -> object:
    return _staged(world, path=path)


def _mask(path: Path, world: World) -> object:
    return _staged(world, path=world.good, mask=path, mask_name=path.name)


def _staged(world: World, **given: Any) -> object:
    options = IngestOptions(min_edge_px=16, max_edge_px=256, max_pixels=MAX_PIXELS)
    task = PhotoTask(name="photo", stem="photo", folder=world.folder / "staged", options=options, **given)
    found = world.decoder.photo(task)
    if isinstance(found, RejectedPhoto):
        raise RefusedError
    return found


def _video(path: Path, world: World) -> object:
    limits = VideoLimits(max_photos=5, photos_per_second=5.0, max_pixels=MAX_PIXELS)
    return world.decoder.frames(path, world.folder / "frames", limits, 1, VIDEO_SECONDS)


def _archive(path: Path, world: World) -> object:
    list_archive(path)
    unpacked = world.folder / "unpacked"
    with open_archive(path, ArchiveLimits(50, 4 << 20), unpacked) as entries:
        for number, entry in enumerate(entries):
            entry.extract(unpacked / f"out_{number}")
    return None


_PHOTOS = tuple(
    Photo(f"IMG_{n}.jpg", f"IMG_{n}.jpg", Path("x"), None, 320, 240, 640, 480, None, "k", (1, 6, 3, 8)[n])
    for n in range(4)
)


def _poses(path: Path, world: World) -> object:
    given = join(read_file(path, "auto"), _PHOTOS)
    for reading in ("", *given.other_readings):
        given.cameras(reading, sensor=True)
        for camera in given.cameras(reading, swapped_by=1)[0].values():
            camera.lens.camera(1).img_from_cam(np.array([[0.1, 0.2, 1.0]]))
    return given


def _colmap(path: Path, world: World) -> object:
    """The file beside its whole counterpart."""
    name, suffix = path.stem.split("-")[0], path.suffix
    folder = world.folder / f"model{suffix}"
    folder.mkdir(exist_ok=True)
    for other, data in seeds.colmap(suffix == ".bin").items() if not any(folder.iterdir()) else ():
        (folder / f"whole-{other}").write_bytes(data)
    for other in ("cameras", "images"):
        (folder / f"{other}{suffix}").write_bytes((folder / f"whole-{other}{suffix}").read_bytes())
    (folder / f"{name}{suffix}").write_bytes(path.read_bytes())
    return _poses(folder, world)


def _mesh(path: Path, world: World) -> object:
    return read_ply(path)


def _truth(path: Path, world: World) -> object:
    """`cameras.json` or `support.json` of a truth folder, by its seed's suffix."""
    folder = world.folder / "truth"
    folder.mkdir(exist_ok=True)
    _, mesh = next(seeds.meshes())
    (folder / "mesh.ply").write_bytes(mesh)
    (folder / "cameras.json").write_bytes(b'{"images": []}')
    (folder / ("cameras.json" if b"images" in path.read_bytes() else "support.json")).write_bytes(path.read_bytes())
    return read_truth(folder)


def _specification(path: Path, world: World) -> object:
    spec_file = load_spec(path)
    for index, asset in enumerate(spec_file.spec.assets):
        for mistake in stage_mistakes(spec_file, index, asset):
            raise mistake
    return spec_file


def _manifest(path: Path, world: World) -> object:
    manifest = _validated(CaptureManifest, path)
    if manifest.scale is not None and scale_mistake(manifest.scale):
        raise RefusedError
    return manifest


def _event(path: Path, world: World) -> object:
    try:
        return parse_events(path.read_bytes())
    except EventError as error:
        raise RefusedError from error


def _request(path: Path, world: World) -> object:
    """A pushed event over a socket: the server answers, or closes, and lives."""
    port = world.http()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, suppress(ConnectionError, OSError):
        connection.sendall(path.read_bytes())  # the server may close before all is sent
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if b" 200 " not in connection.recv(4096):
            raise RuntimeError("the server of pushed events is not well any more")
    if world.broken:
        raise RuntimeError(world.broken.pop())
    return None


def _validated(model: type[BaseModel], path: Path) -> Any:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RefusedError from error


_RECORDS: tuple[type[BaseModel], ...] = (
    *(StageRequest, StageResult, Done, AssetStatus, Lease, Manifest, Latest),
    *(PhotoIndex, PoseSet, LensSet, CameraSet, MeasuredScale, ExportIndex),
)


def _record(path: Path, world: World) -> object:
    """The product's own records, as its stores give them back."""
    refused = 0
    for model in _RECORDS:
        try:
            _validated(model, path)
        except RefusedError:
            refused += 1
    if refused == len(_RECORDS):
        raise RefusedError
    return None


def _records() -> Iterator[Seed]:
    image = PosedImage.model_validate(
        {"name": "a", "camera": {"width": 4, "height": 3, "fx": 5, "fy": 5, "cx": 2, "cy": 1.5}, "c2w": _UNIT}
    )
    yield ".json", PoseSet(images=(image,), world_from_field=_UNIT).model_dump_json().encode()
    yield ".json", CameraSet(images=(image,)).model_dump_json().encode()
    yield ".json", MeasuredScale(metres_per_unit=0.5, source="x").model_dump_json().encode()
    yield ".json", StageResult(facts={"a": [1, {"b": None}]}).model_dump_json().encode()
    yield ".json", PhotoIndex(photos=()).model_dump_json().encode()
    yield ".json", AssetStatus(batch="b", asset="a").model_dump_json().encode()


_UNIT = matrix4(np.eye(4))


def _truths() -> Iterator[Seed]:
    yield ".json", next(data for data in (d for s, d in _records()) if b'"images"' in data and b"world" not in data)
    yield ".json", b'{"normal": [0, 0, 1], "offset": 0.25}'


def _models() -> Iterator[Seed]:
    for binary in (True, False):
        for name, data in seeds.colmap(binary).items():
            yield f"-{name}", data


def _as(suffix: str, data: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[Seed]]:
    return lambda: zip(itertools.repeat(suffix), data(), strict=False)


READERS: dict[str, Reader] = {
    "photos": Reader(0.50, seeds.photos, _photo),
    "masks": Reader(0.08, lambda: seeds.photos(turned=False), _mask),
    "videos": Reader(0.03, seeds.videos, _video),
    "archives": Reader(0.09, seeds.archives, _archive),
    "poses": Reader(0.08, seeds.cameras, _poses, text=True),
    "colmap": Reader(0.05, _models, _colmap),
    "meshes": Reader(0.03, seeds.meshes, _mesh, text=True),
    "truth": Reader(0.02, _truths, _truth, text=True),
    "specifications": Reader(0.03, _as(".yaml", seeds.specifications), _specification, text=True),
    "manifests": Reader(0.03, _as(".json", seeds.manifests), _manifest, text=True),
    "events": Reader(0.02, _as(".json", seeds.events), _event, text=True),
    "requests": Reader(0.01, _as(".http", seeds.requests), _request, text=True),
    "records": Reader(0.03, _records, _record, text=True),
}

REFUSALS = (RefusedError, DigitizeError)
