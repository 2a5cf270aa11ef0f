"""Which mask belongs to which photo, and what of it reaches the outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.errors import DigitizeError, ReasonCode
from tasks.ingest.masks import mask_names, match_masks
from tasks.ingest.source_file import SourceFile
from tasks.ingest.sources import unique_names
from tests.tasks.ingest.pictures import SIZE, codes, ingest, save_set, scene


def files(*paths: str) -> list[SourceFile]:
    return [SourceFile(path, lambda target: target) for path in paths]


def matched(photos: list[str], masks: list[str]) -> dict[str, str]:
    return {photo: mask.path for photo, mask in match_masks(photos, files(*masks), "masks").items()}


@pytest.mark.parametrize("mask", ["IMG_1.png", "img_1.PNG", "IMG_1.jpg.png", "IMG_1_mask.png", "IMG_1-mask.tif"])
def test_names_of_masks(mask: str) -> None:
    assert matched(["IMG_1.jpg", "IMG_2.jpg"], [mask, "IMG_11.png"]) == {"IMG_1.jpg": mask}


def test_folders_of_masks() -> None:
    assert matched(["a/1.jpg", "b/1.jpg"], ["a/1.png", "b/1.png"]) == {"a/1.jpg": "a/1.png", "b/1.jpg": "b/1.png"}
    assert matched(["a/1.jpg", "b/2.jpg"], ["1.png", "c/2_mask.png"]) == {"a/1.jpg": "1.png", "b/2.jpg": "c/2_mask.png"}
    with pytest.raises(DigitizeError):
        matched(["a/1.jpg", "b/1.jpg"], ["1.png"])


def test_no_match_at_all_is_an_error() -> None:
    with pytest.raises(DigitizeError) as caught:
        matched(["IMG_1.jpg"], ["other.png", "IMG_1.txt"])
    assert caught.value.code is ReasonCode.MASK_MISMATCH
    assert "IMG_1.png" in caught.value.message
    assert "other.png" in caught.value.message


def half_mask(left: int = 255, right: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    mask = Image.new("L", size, right)
    mask.paste(left, (0, 0, size[0] // 2, size[1]))
    return mask


def read(output: Path, file: str | None) -> np.ndarray:
    assert file is not None
    image = Image.open(output / file)
    assert image.mode == "L"
    return np.asarray(image)


def test_names_in_the_capture_are_found_as_well() -> None:
    """Exported masks are named as the capture names photos: their folders are part of it where base names repeat."""
    photos = ["a/1.jpg", "b/1.jpg", "2.jpg", "2.png"]
    names = list(unique_names(tuple(photos)))
    files_of = list(mask_names(names).values())
    assert files_of == ["a_1.png", "b_1.png", "2.jpg.png", "2.png.png"]
    found = match_masks(photos, files(*files_of), "masks", names)
    assert [found[photo].path for photo in photos] == files_of
    found = match_masks(["a/3.jpg", "b/3.png"], files("3.png", "3.jpg.png"), "masks", ["3.jpg", "3.png"])
    assert {photo: mask.path for photo, mask in found.items()} == {"a/3.jpg": "3.jpg.png"}


@pytest.mark.parametrize(
    ("role", "used"), [("object", slice(0, 320)), ("outline", slice(0, 320)), ("ignore", slice(320, 640))]
)
def test_role_is_applied(tmp_path: Path, role: str, used: slice) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "masks").mkdir()
    half_mask().save(tmp_path / "masks" / "photo_1.png")
    half_mask(60, 200).save(tmp_path / "masks" / "photo_2.jpg.png")
    result, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks", mask_role=role)
    photos = {photo.name: photo for photo in index.photos}
    expected = np.zeros((480, 640), np.uint8)
    expected[:, used] = 255
    assert np.array_equal(read(output, photos["photo_1.jpg"].mask), expected)
    assert np.array_equal(read(output, photos["photo_2.jpg"].mask), 255 - expected)
    assert photos["photo_0.jpg"].mask is None
    assert result.facts["masks"] == result.facts["masks_given"] == 2


def test_alpha_and_mask_are_combined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    alpha = Image.new("L", SIZE, 0)
    alpha.paste(255, (0, 0, 640, 240))
    for index in range(4):
        photo = scene(12.0 * index)
        photo.putalpha(alpha)
        photo.save(tmp_path / "in" / f"{index}.png")
    (tmp_path / "masks").mkdir()
    half_mask().save(tmp_path / "masks" / "0.png")
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks")
    expected = np.zeros((480, 640), np.uint8)
    expected[:240] = 255
    assert np.array_equal(read(output, index.photos[1].mask), expected)
    expected[:, 320:] = 0
    assert np.array_equal(read(output, index.photos[0].mask), expected)


def test_masks_are_reduced_with_their_photos_and_stay_binary(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "masks").mkdir()
    half_mask().save(tmp_path / "masks" / "photo_0.png")
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks", max_edge_px=320)
    mask = read(output, index.photos[0].mask)
    assert mask.shape == (240, 320)
    assert np.array_equal(np.unique(mask), [0, 255])
    assert np.abs((mask == 255).mean() - 0.5) < 0.01


def test_masks_belong_to_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save_set(tmp_path / "in", 4, exif=exif)
    (tmp_path / "masks").mkdir()
    half_mask(size=(480, 640)).save(tmp_path / "masks" / "photo_0.png")
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks")
    assert (index.photos[0].width, index.photos[0].height) == (480, 640)
    assert read(output, index.photos[0].mask)[:, :240].min() == 255


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_drawn_before_exif_turned_the_photo_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_set(tmp_path / "in", 4, exif=exif)
    (tmp_path / "m").mkdir()
    drawn = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    drawn[:100, :200] = 255  # the first rows and columns of the picture as stored
    Image.fromarray(drawn).save(tmp_path / "m/photo_1.png")
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "m")
    stored = read(output, index.photos[1].mask)
    # Pillow's own reading of EXIF, on a photo of the mask
    Image.fromarray(drawn).save(tmp_path / "own.png", exif=exif)
    own = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "own.png")))
    assert np.array_equal(stored, own)


@pytest.mark.parametrize("same_bytes", [True, False])
def test_a_duplicate_leaves_its_mask_to_the_photo_that_is_used(tmp_path: Path, same_bytes: bool) -> None:
    paths = save_set(tmp_path / "in", 4)
    twin = tmp_path / "in/z_copy.jpg"
    if same_bytes:
        shutil.copyfile(paths[1], twin)
    else:
        Image.open(paths[1]).save(twin, quality=80)
    (tmp_path / "m").mkdir()
    (left_out,) = ingest(tmp_path / "in", tmp_path / "work")[1].rejected
    assert {left_out.name, left_out.same_as} == {"z_copy.jpg", "photo_1.jpg"}
    half_mask().save(tmp_path / f"m/{Path(left_out.name).stem}.png")
    result, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "m")
    (used,) = (photo for photo in index.photos if photo.name == left_out.same_as)
    assert np.array_equal(read(output, used.mask), np.asarray(half_mask()))
    assert result.facts["notes"] == [f"{used.name}: with the mask of {left_out.name}, the same picture"]


def test_a_mask_of_another_size_names_both_files(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "masks").mkdir()
    half_mask(size=(480, 640)).save(tmp_path / "masks" / "photo_2_mask.png")
    with pytest.raises(DigitizeError) as caught:
        ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks")
    assert caught.value.code is ReasonCode.MASK_MISMATCH
    assert "photo_2.jpg" in caught.value.message
    assert "photo_2_mask.png" in caught.value.message


@pytest.mark.parametrize("fault", ["another size", "cut off", "no picture"])
def test_one_bad_mask_costs_its_photo_alone(tmp_path: Path, fault: str) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "m").mkdir()
    for number in range(4):
        half_mask().save(tmp_path / f"m/photo_{number}.png")
    bad = tmp_path / "m/photo_2.png"
    if fault == "another size":
        half_mask(size=(300, 200)).save(bad)
    else:
        bad.write_bytes(bad.read_bytes()[:60] if fault == "cut off" else b"text")
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "m")
    assert [photo.mask is not None for photo in index.photos] == [True] * 3
    (left_out,) = index.rejected
    assert (left_out.name, left_out.code) == ("photo_2.jpg", ReasonCode.MASK_MISMATCH)
    assert "photo_2.png" in left_out.message or "mask" in left_out.message


def test_a_mask_that_leaves_nothing_costs_its_photo(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "masks").mkdir()
    half_mask(0, 0).save(tmp_path / "masks" / "photo_2.png")
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks")
    assert codes(index) == {"photo_2.jpg": "mask_mismatch"}


def test_masks_inside_the_photos_folder_are_not_photos(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "in" / "masks").mkdir()
    half_mask().save(tmp_path / "in" / "masks" / "photo_0.png")
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "in" / "masks")
    assert [photo.name for photo in index.photos] == [f"photo_{i}.jpg" for i in range(4)]
    assert index.rejected == ()
    assert result.facts["masks"] == 1
