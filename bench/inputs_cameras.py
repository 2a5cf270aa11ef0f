"""Inputs of `inputs.py` from several cameras, and exports whose EXIF contradicts their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from bench.inputs_table import SIZE, VIEWS, Input, picture
from tests.tasks.ingest.camera_files import exif_block, save_jpeg, thumbnail_of

Save = Callable[[Image.Image, Path, int], object]


def photos(save: Save) -> Callable[[Path], None]:
    """Four photos, each written by its number."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for view in range(VIEWS):
            save(picture(view), folder / f"IMG_{view}.jpg", view)

    return write


def named(make: str = "Maker", model: str = "M", focal_mm: float = 0.0) -> Image.Exif:
    """EXIF of a camera."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    if focal_mm:
        exif.get_ifd(0x8769)[0x920A] = focal_mm
    return exif


def plain(image: Image.Image, path: Path, exif: Image.Exif | None = None) -> None:
    """As JPEG."""
    image.save(path, quality=95, **({"exif": exif} if exif is not None else {}))


def smaller(image: Image.Image) -> Image.Image:
    """The picture at three quarters of its size."""
    return image.resize((SIZE[0] * 3 // 4, SIZE[1] * 3 // 4))


def several() -> Iterator[Input]:
    """Devices, zooms, shapes and sizes in one capture."""
    zooms, devices = ("2 x Maker M 24 mm", "2 x Maker M 50 mm"), ("2 x Maker One", "2 x Maker Two")
    both = {
        "zooms": (lambda image, path, view: plain(image, path, named(focal_mm=(24.0, 50.0)[view % 2])), zooms, True),
        "devices": (lambda image, path, view: plain(image, path, named(model=("One", "Two")[view % 2])), devices, True),
        "zoomed-digitally": (
            lambda image, path, view: plain(image, path, digitally(view % 2)),
            ("2 x Maker M 5 mm", "2 x Maker M 5x2 mm"),
            True,
        ),
        "upright": (
            lambda image, path, view: plain(image.transpose(Image.Transpose.ROTATE_90) if view % 2 else image, path),
            ("2 x unknown camera, 360 x 480", "2 x unknown camera, 480 x 360"),
            False,
        ),
        "sizes": (
            lambda image, path, view: plain(smaller(image) if view == 3 else image, path),
            ("3 x unknown camera, 480 x 360", "1 x unknown camera, 360 x 270"),
            False,
        ),
    }
    for name, (save, words, one_size) in both.items():
        for number, text in enumerate(words):
            yield Input(f"cameras-{name}-{number}", photos(save), words=text, one_size=one_size)


def digitally(enlarged: int) -> Image.Exif:
    """EXIF of a phone that enlarged the middle of its picture."""
    exif = named(focal_mm=5.0)
    if enlarged:
        exif.get_ifd(0x8769)[0xA404] = 2.0
    return exif


def exports() -> Iterator[Input]:
    """Turned and cropped by an editor that left EXIF as it was."""
    for orientation in (3, 6, 8):

        def turned(image: Image.Image, path: Path, view: int, orientation: int = orientation) -> None:
            back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
            sensor = image.transpose(back[orientation])
            save_jpeg(path, image, exif_block(sensor.size, orientation, thumbnail_of(sensor)))

        words = f"EXIF orientation {orientation} is not applied"
        yield Input(f"export-turned-{orientation}", photos(turned), words=words)

        def untouched(image: Image.Image, path: Path, view: int, orientation: int = orientation) -> None:
            back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
            sensor = image.transpose(back[orientation])
            save_jpeg(path, sensor, exif_block(sensor.size, orientation, thumbnail_of(sensor)))

        yield Input(f"export-untouched-{orientation}", photos(untouched))
    for name, box, recorded, thumbnail in (
        ("one-edge-whole", (60, 0, 420, 360), True, False),
        ("inside", (60, 40, 360, 320), True, False),
        ("inside-thumbnail", (60, 40, 360, 320), True, True),
        ("same-shape-thumbnail", (60, 40, 420, 310), False, True),
    ):

        def cropped(
            image: Image.Image,
            path: Path,
            view: int,
            box: tuple[int, int, int, int] = box,
            recorded: bool = recorded,
            thumbnail: bool = thumbnail,
        ) -> None:
            block = exif_block(image.size if recorded else None, 1, thumbnail_of(image) if thumbnail else None)
            save_jpeg(path, image.crop(box) if view == 2 else image, block)

        yield Input(f"export-cropped-{name}", photos(cropped), words="IMG_2.jpg: cropped", one_size=False)


def helping() -> Iterator[Input]:
    """Photos for alignment only."""
    for number, pattern in enumerate(("IMG_3.jpg", "IMG_[3].jpg", "*3*")):
        yield Input(
            f"alignment-{number}",
            photos(lambda image, path, view: plain(image, path)),
            words="1 of 4 photos help to find the cameras alone",
            alignment_only=pattern,
        )


def camera_inputs() -> list[Input]:
    """All of them."""
    return [each for part in (several, exports, helping) for each in part()]
