"""The inputs of `inputs.py`: each writes four photos in one way, and says what is right."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tasks.ingest.raws import save_dng

SIZE = (480, 360)
VIEWS = 4
Write = Callable[[Path], object]


@dataclass(frozen=True)
class Input:
    """One capture."""

    id: str
    make: Write
    """Writes it into a folder of its own."""
    file: str = ""
    """What of that folder is the asset's photos; empty for all of it."""
    photos: int = VIEWS
    """How many are used; 0 where it is refused, -1 for one or more that are not compared."""
    words: str = ""
    """What must be said of it."""
    masks: str = ""
    masked: int = 0
    grey: bool = False
    like_db: float = 0.0
    one_size: bool = True
    """Whether all photos have the size of the picture."""
    alignment_only: str = ""
    """Photos that are for alignment only."""

    @property
    def source(self) -> str:
        """Below the specification's folder."""
        return f"captures/{self.id}" + (f"/{self.file}" if self.file else "")


@cache
def picture(view: int) -> Image.Image:
    """A smooth coloured wall from a camera that slides: what every way to write it keeps."""
    width, height = SIZE
    x, y = np.meshgrid(np.arange(width) + 12.0 * view, np.arange(height))
    waves = [np.sin(x / a + 0.7 * k) * np.cos(y / b - k) for k, (a, b) in enumerate(((17, 23), (29, 13), (11, 31)))]
    colours = np.stack([127 + 90 * (0.6 * wave + 0.4 * np.sin(x / 97 + y / 71)) for wave in waves], -1)
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def written(folder: Path, name: Callable[[int], str], save: Callable[[Image.Image, Path], object]) -> None:
    """The four photos."""
    for view in range(VIEWS):
        path = folder / name(view)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(picture(view), path)


def plain(folder: Path, pattern: str = "IMG_{}.jpg", **options: object) -> None:
    """As JPEG, or as the suffix says."""
    best = (
        {} if pattern.lower().endswith((".tif", ".tiff")) and options.get("compression") != "jpeg" else {"quality": 95}
    )
    written(folder, pattern.format, lambda image, path: image.save(path, **{**best, **options}))


def formats() -> Iterator[Input]:
    """Suffixes, colour modes, depths, and how each format may store them."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    for suffix in ("jpg", "JPG", "jpeg", "jpe", "jfif", "png", "tif", "TIFF", "webp", "heic", "heif", "hif"):
        kind = {"jfif": "JPEG", "jpe": "JPEG", "hif": "HEIF", "heic": "HEIF", "heif": "HEIF"}.get(suffix)
        yield Input(
            f"suffix-{suffix.lower()}{'-upper' if suffix.isupper() else ''}",
            lambda f, s=suffix, k=kind: plain(f, f"IMG_{{}}.{s}", **({"format": k} if k else {})),
        )
    modes = {
        "png": ("RGBA", "L", "LA", "P", "1", "I;16"),
        "tif": ("RGBA", "L", "P", "1", "I;16", "CMYK"),
        "jpg": ("L", "CMYK"),
        "webp": ("RGBA",),
        "heic": ("L", "RGBA"),
    }
    for suffix, names in modes.items():
        for mode in names:
            yield Input(
                f"mode-{suffix}-{mode.replace(';', '-').lower()}",
                lambda f, s=suffix, m=mode: written(
                    f, f"a{{}}.{s}".format, lambda image, path: in_mode(image, m).save(path)
                ),
                grey=mode in ("L", "LA", "1", "I;16"),
                like_db={"1": 5.0, "P": 20.0, "CMYK": 18.0}.get(mode, 0.0),
            )
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield Input(
            f"tiff-{compression.replace('_', '-')}", lambda f, c=compression: plain(f, "a{}.tif", compression=c)
        )
    for name, options in {
        "progressive": {"progressive": True},
        "444": {"subsampling": 0},
        "422": {"subsampling": 1},
        "420": {"subsampling": 2},
        "low": {"quality": 40},
        "optimised": {"optimize": True},
        "restarts": {"restart_marker_rows": 1},
    }.items():
        yield Input(f"jpeg-{name}", lambda f, o=options: plain(f, **o))
    for name, options in {"lossless": {"lossless": True}, "fast": {"method": 0}}.items():
        yield Input(f"webp-{name}", lambda f, o=options: plain(f, "a{}.webp", **o))
    for level in (0, 9):
        yield Input(f"png-level-{level}", lambda f, n=level: plain(f, "a{}.png", compress_level=n))
    yield Input("wrong-suffix", lambda f: plain(f, "a{}.png", format="JPEG"))
    yield Input("several-pages", several_pages, words="picture 2 of 2, the largest, is used")
    yield Input("mpo", lambda f: written(f, "a{}.jpg".format, mpo))


def raws(folder: Path, pattern: str = "IMG_{}.dng") -> None:
    """As a camera's sensor records them."""
    written(folder, pattern.format, lambda image, path: save_dng(path, np.asarray(image)))


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in one of Pillow's modes."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "P":
        return image.quantize(256)
    return image.convert(mode)


def several_pages(folder: Path) -> None:
    """A preview before each photo."""
    folder.mkdir(parents=True)
    for view in range(VIEWS):
        picture(view).resize((96, 72)).save(
            folder / f"p{view}.tif", save_all=True, append_images=[picture(view).copy()]
        )


def mpo(image: Image.Image, path: Path) -> None:
    """A phone's file of two pictures."""
    image.save(path, "MPO", save_all=True, append_images=[image.resize((96, 72))], quality=95)


STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}
"""How a camera that was held that way stores the upright picture."""


def orientations() -> Iterator[Input]:
    """Every EXIF orientation in every format that has one."""

    def turned(image: Image.Image, path: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        STORED[orientation](image).save(path, exif=exif, **({} if path.suffix == ".tif" else {"quality": 95}))

    for suffix in ("jpg", "png", "tif", "webp"):
        for orientation in STORED:
            yield Input(
                f"orientation-{suffix}-{orientation}",
                lambda f, s=suffix, o=orientation: written(
                    f, f"a{{}}.{s}".format, lambda image, path: turned(image, path, o)
                ),
            )


def encoded(view: int) -> bytes:
    """A photo's bytes."""
    buffer = io.BytesIO()
    picture(view).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def zipped(path: Path, pattern: str = "a{}.jpg", how: int = zipfile.ZIP_STORED) -> None:
    """The photos as a zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", how) as archive:
        for view in range(VIEWS):
            archive.writestr(pattern.format(view), encoded(view))


def tarred(path: Path, mode: str, *more: tarfile.TarInfo) -> None:
    """The photos as a tar archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for view in range(VIEWS):
            info, data = tarfile.TarInfo(f"set/a{view}.jpg"), encoded(view)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)


def video(path: Path) -> None:
    """A second of film."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for view in range(10):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(view))))
        container.mux(stream.encode())


def containers() -> Iterator[Input]:
    """Archives and videos."""
    for name, how in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED), ("bzip2", zipfile.ZIP_BZIP2)):
        yield Input(f"zip-{name}", lambda f, h=how: zipped(f / "a.zip", how=h), "a.zip")
    yield Input("zip-folders", lambda f: zipped(f / "a.zip", "set/{}/a.jpg"), "a.zip")
    yield Input("zip-mac", lambda f: zipped(f / "a.zip", "set/a{}.jpg"), "a.zip")
    for suffix, mode in (
        *(("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.bz2", "w:bz2"), ("tbz2", "w:bz2")),
        *(("tar.xz", "w:xz"), ("txz", "w:xz")),
    ):
        yield Input(
            f"tar-{suffix.replace('.', '-')}", lambda f, s=suffix, m=mode: tarred(f / f"a.{s}", m), f"a.{suffix}"
        )
    for suffix in ("mp4", "mov", "mkv", "avi"):
        yield Input(f"video-{suffix}", lambda f, s=suffix: video(f / f"a.{s}"), f"a.{suffix}", photos=-1)


def among(name: str, make: Write, words: str = "") -> Input:
    """Photos with something beside them that is none."""

    def both(folder: Path) -> None:
        plain(folder)
        make(folder)

    return Input(f"among-{name}", both, words=words)


def put(name: str, data: bytes = b"x") -> Write:
    """Writes one file."""

    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return write


def store(folder: Path) -> None:
    """A store of another specification."""
    for name in ("s/work/a/ingest/images/x.jpg", "s/status/b/a.json"):
        put(name, encoded(0))(folder)


def layouts() -> Iterator[Input]:
    """Where photos lie, and what lies beside them."""
    for name, pattern in {
        "images": "images/a{}.jpg",
        "deep": "2024/may/JPG/a{}.jpg",
        "folders": "ring {}/IMG_1.jpg",
        "mixed-case": "Photos/A{}.JPG",
    }.items():
        yield Input(f"layout-{name}", lambda f, p=pattern: plain(f, p))

    def linked(folder: Path) -> None:
        plain(folder.with_name(f"{folder.name}-far"))
        folder.mkdir(parents=True)
        (folder / "ring").symlink_to(folder.with_name(f"{folder.name}-far"))

    yield Input("layout-linked-folder", linked)
    for number, name in enumerate(
        (
            *(".DS_Store", "._IMG_0.jpg", ".hidden/a.jpg", "Thumbs.db", "desktop.ini", "@eaDir/IMG_0.jpg/t.jpg"),
            *("__MACOSX/IMG_0.jpg", "$RECYCLE.BIN/a.jpg", "#recycle/a.jpg", "IMG_0.xmp", "IMG_0.AAE", "IMG_0.THM"),
            *("notes.txt", "README", "cameras.json", "list.csv", "report.pdf", "System Volume Information/a.jpg"),
        )
    ):
        yield among(f"noise-{number}", put(name), "hidden, system or sidecar file")
    yield among("masks", put("masks/IMG_0.png"), "masks: name their folder")
    yield among("store", store, "a store of digitize")
    yield among("target", put("web/assets/a/latest.json"), "assets that digitize published")
    yield among("dead-link", lambda f: (f / "gone.jpg").symlink_to(f / "nowhere"), "a link to nothing")
    yield among("pipe", lambda f: os.mkfifo(f / "pipe.jpg"), "a pipe")
    yield among("circle", lambda f: (f / "again").symlink_to(f), "a link to a folder that is read already")
    for suffix in ("dng", "cr2", "cr3", "nef", "arw", "raf", "rw2", "orf", "pef", "srw"):
        yield among(f"raw-{suffix}", put(f"IMG_9.{suffix.upper()}"), "expected a whole raw file")

    def pairs(folder: Path) -> None:
        plain(folder)
        raws(folder)

    yield Input("raw-dng", raws, like_db=20.0)
    yield Input("raw-dng-upper", lambda f: raws(f, "_DSC{}.DNG"), like_db=20.0)
    yield Input("raw-dng-as-tif", lambda f: raws(f, "IMG_{}.tif"), words="a raw photo (DNG), developed", like_db=20.0)
    yield Input("raw-jpeg-as-dng", lambda f: plain(f, "IMG_{}.dng", format="JPEG"), words="no raw photo but")
    yield Input("raw-and-jpeg", pairs, words="the raw file of IMG_0.jpg")
    for name, words in {
        "clip.mp4": "a video",
        "more.zip": "an archive",
        "more.7z": "an archive",
        "IMG_9.jpg.part": "an unfinished transfer",
        "IMG_9.bmp": "a file of type '.bmp'",
        "IMG_9": "a file without a type",
        "torn.jpg": "expected a whole image file",
    }.items():
        data = encoded(0)[:4000] if name == "torn.jpg" else b"x"
        yield among(name.replace(".", "-").replace("_", "-").lower(), put(name, data), words)


NAMES = (
    *("a b{}.jpg", "{} .jpg", " {}.jpg", "-rf {}.jpg", "--help{}.jpg", "a'{}.jpg", 'a"{}.jpg', "a`{}.jpg", "a${}.jpg"),
    *("a%{}.jpg", "a%20{}.jpg", "a#{}.jpg", "a?{}.jpg", "a*{}.jpg", "a[{}].jpg", "a;{}.jpg", "a&{}.jpg", "a|{}.jpg"),
    *("a:{}.jpg", "a\\{}.jpg", "a\n{}.jpg", "a\t{}.jpg", "a\x7f{}.jpg", "<{}>.jpg", "(copy) {}.jpg", "a.b.c{}.jpg"),
    *("_DSC{}.JPG", "~{}.jpg", "{}.jpg.jpg", "{}..jpg", "CON{}.jpg", "ваза {}.jpg", "花瓶{}.jpg", "زهرية{}.jpg"),
    *("🏺{}.jpg", "e\u0301{}.jpg", "\u00e9{}.jpg", "Ärmel ß {}.jpg", "İ{}.jpg", "\u202e{}.jpg", "\u200b{}.jpg"),
    *("n" * 200 + "{}.jpg", "00{}.jpg", "{}e5.jpg", "null{}.jpg", "true{}.jpg"),
)


def names() -> Iterator[Input]:
    """Names of photos that a file system allows."""
    for number, pattern in enumerate(NAMES):

        def write(folder: Path, pattern: str = pattern) -> None:
            for view in range(VIEWS):
                put(pattern.replace("{}", str(view)), encoded(view))(folder)

        yield Input(f"name-{number}", write)

    def latin(folder: Path) -> None:
        folder.mkdir(parents=True)
        for view in range(VIEWS):
            with open(os.fsencode(folder) + f"/M\xfcnze {view}.jpg".encode("latin-1"), "wb") as file:  # noqa: PTH123
                file.write(encoded(view))

    yield Input("name-latin-1", latin)


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """An entry of a tar archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def refusals() -> Iterator[Input]:
    """What is refused as a whole."""
    for name, data, words in (
        ("7z.zip", b"7z\xbc\xaf\x27\x1c" + bytes(99), "found a 7z archive"),
        ("rar.zip", b"Rar!\x1a\x07\x00" + bytes(99), "found a RAR archive"),
        ("jpeg.zip", encoded(0), "found a JPEG photo"),
        ("page.zip", b"<!DOCTYPE html>", "found a web page"),
        ("empty.zip", b"", "found an empty file"),
        ("cut.zip", b"PK\x03\x04" + bytes(99), "found a zip archive"),
        ("empty.tar", b"", "found an empty file"),
        ("cut.tgz", b"\x1f\x8b\x08\x00" + bytes(20), "found a gzip file"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "found a 7z archive"),
        ("a.docx", b"PK\x03\x04" + bytes(99), "found a zip archive"),
        ("one.jpg", encoded(0), "found one photo"),
        ("empty.mp4", b"", ""),
    ):
        yield Input(f"refused-{name.replace('.', '-')}", put(name, data), name, photos=0, words=words)
    for number, (info, words) in enumerate(
        (
            (member("../out.jpg"), "climbs out"),
            (member("/out.jpg"), "an absolute path"),
            (member("C:\\out.jpg"), "an absolute path"),
            (member("a.jpg", tarfile.SYMTYPE), "a link"),
            (member("a.jpg", tarfile.LNKTYPE), "a link"),
            (member("a.jpg", tarfile.FIFOTYPE), "a special file"),
            (member("more.zip"), "an archive inside"),
        )
    ):
        yield Input(
            f"unsafe-tar-{number}", lambda f, i=info: tarred(f / "a.tar", "w", i), "a.tar", photos=0, words=words
        )
    for number, (name, words) in enumerate(
        (("../out.jpg", "climbs out"), ("/out.jpg", "an absolute path"), ("more.tar", "an archive inside"))
    ):
        yield Input(f"unsafe-zip-{number}", lambda f, n=name: zipped(f / "a.zip", n), "a.zip", photos=0, words=words)
    yield Input("refused-empty-folder", lambda f: f.mkdir(parents=True), photos=0, words="expected at least one file")
    yield Input("refused-papers", put("notes.txt"), photos=0, words="expected at least one file")


def masks() -> Iterator[Input]:
    """Masks of every range and depth."""
    half = np.zeros(SIZE[::-1], np.uint8)
    half[:, : SIZE[0] // 2] = 1
    pictures = {
        "0-255": Image.fromarray(half * 255),
        "0-1": Image.fromarray(half),
        "16-bit-0-1": Image.fromarray(half.astype(np.uint16)),
        "16-bit-0-255": Image.fromarray(half.astype(np.uint16) * 255),
        "16-bit-0-65535": Image.fromarray(half.astype(np.uint16) * 65535),
        "1-bit": Image.fromarray(half * 255).convert("1"),
        "rgb": Image.fromarray(half * 255).convert("RGB"),
        "palette": Image.fromarray(half * 255).convert("P"),
    }
    for name, mask in pictures.items():

        def write(folder: Path, mask: Image.Image = mask) -> None:
            plain(folder / "p")
            (folder / "m").mkdir()
            mask.save(folder / "m" / "IMG_1.png")

        made = Input(f"mask-{name}", write, "p", words="1 of 4 photos have a mask", masked=1)
        yield Input(**{**vars(made), "masks": f"captures/{made.id}/m"})


def inputs() -> list[Input]:
    """All of them."""
    parts = (formats, orientations, containers, layouts, names, refusals, masks)
    return [each for part in parts for each in part()]
