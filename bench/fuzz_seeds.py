"""Small valid files of every kind that the product reads: what `bench.fuzz` mutates."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from models.camera import CameraSet, PosedImage
from models.digest import canonical_json
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from tasks.sample.scenes import ring_cameras
from tests.tasks.ingest.raws import dng
from tests.tasks.pose import camera_writers

SIZE = (48, 36)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of soft blotches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def photos(turned: bool = True) -> Iterator[tuple[str, bytes]]:
    """(suffix, content) in every format, colour mode and way to store them.

    Args:
        turned: whether EXIF says that some have to be turned.
    """
    pillow_heif.register_heif_opener()
    image = picture()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6 if turned else 1, "Maker", "Model"
    exif.get_ifd(0x8769)[0x920A], exif.get_ifd(0x8769)[0xA405] = 35.0, 50
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    grey, palette, cmyk = image.convert("L"), image.quantize(16), image.convert("CMYK")
    opaque = image.convert("RGBA")
    opaque.putalpha(grey)
    saves: list[tuple[str, Image.Image, dict[str, Any]]] = [
        (".jpg", image, {}),
        (".jpg", image, {"progressive": True, "exif": exif, "icc_profile": profile}),
        (".jpg", image, {"subsampling": 0, "quality": 40, "exif": exif}),
        (".jpg", grey, {}),
        (".jpg", cmyk, {}),
        (".png", image, {"icc_profile": profile}),
        (".png", opaque, {}),
        (".png", palette, {"transparency": 3}),
        (".png", grey.convert("1"), {}),
        (".png", sixteen, {}),
        (".tif", image, {"exif": exif}),
        *((".tif", image, {"compression": each}) for each in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        (".tif", sixteen, {}),
        (".tif", cmyk, {"compression": "tiff_lzw"}),
        (".tif", picture(1, (24, 18)), {"save_all": True, "append_images": [image]}),
        (".webp", image, {"exif": exif, "icc_profile": profile}),
        (".webp", opaque, {"lossless": True}),
        (".heic", image, {"exif": exif.tobytes()}),
        (".heic", opaque, {}),
        (".heic", picture(1, (24, 18)), {"save_all": True, "append_images": [image]}),
    ]
    formats = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".heic": "HEIF"}
    for suffix, each, options in saves:
        buffer = io.BytesIO()
        each.save(buffer, formats[suffix], **options)
        yield suffix, buffer.getvalue()
    if turned:  # a mask is no raw file
        yield ".dng", dng(np.asarray(image))
    buffer = io.BytesIO()
    image.save(buffer, "MPO", save_all=True, append_images=[picture(1, (24, 18))])
    yield ".jpg", buffer.getvalue()


def videos() -> Iterator[tuple[str, bytes]]:
    """Ten frames in several containers and codecs."""
    import av

    for suffix, codec in ((".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx"), (".avi", "mpeg4")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"v{suffix}"
            with av.open(str(path), "w") as container:
                stream: Any = container.add_stream(codec, rate=10)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for number in range(10):
                    frame = av.VideoFrame.from_ndarray(np.asarray(picture(number, (64, 48))), format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
            yield suffix, path.read_bytes()


def archives() -> Iterator[tuple[str, bytes]]:
    """Two photos and a paper in zip and tar."""
    files = {f"ring/{n}{suffix}": data for n, (suffix, data) in zip(range(2), photos(), strict=False)}
    files["ring/notes.txt"] = b"x" * 300
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        yield ".zip", buffer.getvalue()
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        yield suffix, buffer.getvalue()


def posed() -> tuple[PosedImage, ...]:
    """Four cameras."""
    ring = ring_cameras(4, 640, 480, 3.0, (20.0, 50.0), (0.0, 0.0, 0.0))
    return tuple(image.model_copy(update={"name": f"IMG_{n}.jpg"}) for n, image in enumerate(ring))


def cameras() -> Iterator[tuple[str, bytes]]:
    """Known poses of every program, as single files."""
    images = posed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        camera_writers.ngp(folder / "a.json", images)
        camera_writers.nerfstudio(folder / "b.json", images, 0.5)
        camera_writers.blender(folder / "c.json", images)
        camera_writers.ngp(folder / "d.json", images, camera_model="OPENCV_FISHEYE", k3=0.1, k4=0.1)
        camera_writers.metashape(folder / "e.xml", images, 0.3)
        camera_writers.realitycapture(folder / "f.csv", images)
        (folder / "g.json").write_bytes(canonical_json(CameraSet(images=images)))
        for path in sorted(folder.iterdir()):
            yield path.suffix, path.read_bytes()


def colmap(binary: bool) -> dict[str, bytes]:
    """`cameras` and `images` of a COLMAP model."""
    with tempfile.TemporaryDirectory() as folder:
        camera_writers.colmap(Path(folder), posed(), binary)
        suffix = ".bin" if binary else ".txt"
        return {f"{name}{suffix}": (Path(folder) / f"{name}{suffix}").read_bytes() for name in ("cameras", "images")}


def meshes() -> Iterator[tuple[str, bytes]]:
    """A tetrahedron as PLY, binary and text."""
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.ply"
        write_ply(path, Mesh(corners, faces))
        yield ".ply", path.read_bytes()
    head = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    body = "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [*(" ".join(map(str, row)) for row in corners), *(f"3 {a} {b} {c}" for a, b, c in faces)]
    yield ".ply", (head + body + "\n".join(rows) + "\n").encode()


SPEC = """\
version: 1
name: night
preset: preview
seed: 3
store: store
publish: [{to: published, minimum_verdict: review}, {to: s3://bucket/x}]
stages:
  train: [hash_sdf, {method: hash_density, options: {steps: 80}}]
gates: [{metric: psnr_mesh, at_least: 20.0, otherwise: review}]
assets:
  - id: pot
    photos: photos/pot
    masks: {path: masks, role: outline}
    poses: {path: transforms.json, format: auto}
    scale:
      kind: known_distance
      distance_m: 0.1
      a: {pixels: {a.jpg: [1, 2], b.jpg: [3, 4]}}
      b: {pixels: {a.jpg: [5, 6], b.jpg: [7, 8]}}
  - id: vase
    photos: photos/vase
    scale: {kind: none}
    capture_kind: turntable
captures:
  - {under: shelf, scale: {kind: none}, quiet_minutes: 5}
"""


def specifications() -> Iterator[bytes]:
    """Batch specifications."""
    yield SPEC.encode()
    yield b"name: a\nassets:\n  - {id: pot, photos: p, scale: {kind: none}}\n"


def manifests() -> Iterator[bytes]:
    """`capture.json`."""
    yield b"{}"
    full = {"version": 1, "files": [{"path": "a.jpg", "bytes": 3}], "preset": "high", "capture_kind": "rings"}
    mark = {"pixels": {"a.jpg": [1, 2], "b.jpg": [3, 4]}}
    scale = {"kind": "known_distance", "distance_m": 0.1, "a": mark, "b": mark}
    yield json.dumps({**full, "scale": scale}).encode()


def events() -> Iterator[bytes]:
    """S3 event notifications, bare and wrapped."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a%20b/c.jpg"}}}
    bare = json.dumps({"Records": [record]})
    yield bare.encode()
    yield json.dumps({"Type": "Notification", "Message": bare}).encode()
    detail = {"bucket": {"name": "b"}, "object": {"key": "k"}}
    yield json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}).encode()
    yield b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}'


def requests() -> Iterator[bytes]:
    """Pushed events as they come over HTTP."""
    for body in events():
        head = f"POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\nContent-Length: {len(body)}\r\n\r\n"
        yield head.encode() + body
