"""The whole stage on folders with planted defects."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from flows.plan.sources import Reading, source_ref
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.quality import Verdict
from models.stage import Stage
from tasks import registry
from tasks.ingest import task
from tasks.ingest.methods import photos
from tests.tasks.ingest.pictures import codes, context_for, ingest, png, request_for, save_set, scene

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def plant_defects(folder: Path) -> dict[str, str]:
    """Ten good photos and one of each defect: name -> expected code."""
    paths = save_set(folder, 10)
    (folder / "cut.jpg").write_bytes(paths[0].read_bytes()[:5000])
    scene(300).resize((200, 150)).save(folder / "small.png")
    scene(300).resize((400, 300)).save(folder / "thumb.jpg")
    scene(320).crop((0, 0, 460, 460)).save(folder / "crop.jpg")
    shutil.copy(paths[3], folder / "z_copy.jpg")
    Image.open(paths[4]).save(folder / "z_again.jpg", quality=60)
    scene(340).filter(ImageFilter.GaussianBlur(5)).save(folder / "blur.jpg")
    (folder / "bomb.png").write_bytes(png(30_000, 30_000, 8, 2, b""))
    (folder / "table.xlsx").write_bytes(b"x")
    return {
        "cut.jpg": "undecodable",
        "small.png": "too_small",
        "thumb.jpg": "wrong_size",
        "crop.jpg": "wrong_size",
        "z_copy.jpg": "duplicate",
        "z_again.jpg": "duplicate",
        "blur.jpg": "blurred",
        "bomb.png": "image_bomb",
        "table.xlsx": "unsupported_format",
    }


def test_each_defect_is_found_and_nothing_else(tmp_path: Path) -> None:
    expected = plant_defects(tmp_path / "in")
    result, index, output = ingest(tmp_path / "in", tmp_path / "work", reject_odd_sizes=True)
    assert codes(index) == expected
    assert [photo.name for photo in index.photos] == [f"photo_{i}.jpg" for i in range(10)]
    assert result.verdict is Verdict.ACCEPT
    assert result.facts["found"] == 19
    assert result.facts["rejected"]["duplicate"] == 2
    assert sorted(path.name for path in (output / "images").iterdir()) == [f"photo_{i}.jpg" for i in range(10)]
    assert not (output / "masks").exists()
    assert str(tmp_path) not in (output / "photos.json").read_text()
    for photo in index.photos:
        assert photo.source_sha256 == sha256_file(tmp_path / "in" / photo.name)


def test_stored_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "M"
    exif.get_ifd(0x8769)[0xA405] = 28
    save_set(tmp_path / "in", 4, size=(1200, 800), exif=exif)
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", max_edge_px=600)
    photo = index.photos[0]
    assert (photo.width, photo.height, photo.source_width, photo.source_height) == (600, 400, 1200, 800)
    assert photo.focal_px == pytest.approx(28 / 36 * 600, rel=1e-5)
    assert photo.camera_key == "Maker|M||600x400"
    with Image.open(output / photo.file) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (600, 400))
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
        truth = Image.open(tmp_path / "in" / photo.name).resize((600, 400), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(truth)).mean() < 2


def test_nothing_of_the_metadata_is_written(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x013B], exif[0x0112] = "Model", "ARTIST-NAME", 8
    exif.get_ifd(0x8769)[0xA431] = "SERIAL-12345"
    exif.get_ifd(0x8825).update({1: "N", 2: (35.0, 12.0, 7.77), 29: "2031:07:06"})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for path in save_set(tmp_path / "in", 4, exif=exif, icc_profile=profile, comment=b"COMMENT-TEXT"):
        path.write_bytes(path.read_bytes().replace(b"\xff\xdb", b"\xff\xe1\x00\x0cXMP-SECRET\xff\xdb", 1))
        planted = path.read_bytes()
        assert all(text in planted for text in (b"2031:07:06", b"SERIAL", b"acsp", b"COMMENT", b"XMP-SECRET"))
    _, index, output = ingest(tmp_path / "in", tmp_path / "work")
    assert len(index.photos) == 4
    for path in output.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for text in (b"2031:07:06", b"ARTIST", b"SERIAL", b"acsp", b"ICC_PROFILE", b"COMMENT", b"XMP", b"Exif"):
                assert text not in data
    with Image.open(output / index.photos[0].file) as image:
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_two_runs_and_any_number_of_threads_give_the_same_bytes(tmp_path: Path) -> None:
    plant_defects(tmp_path / "in")
    digests = []
    for threads in (1, 4):
        _, _, output = ingest(tmp_path / "in", tmp_path / f"work{threads}", threads=threads)
        files = sorted(path for path in output.rglob("*") if path.is_file())
        digests.append({path.relative_to(output).as_posix(): sha256_file(path) for path in files})
    assert digests[0] == digests[1]
    assert len(digests[0]) == 13


def test_photos_of_several_cameras_and_sizes_are_all_used_and_told(tmp_path: Path) -> None:
    """An SLR, a phone held upright, and one picture of unknown origin: three groups, each named."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon R"
    exif.get_ifd(0x8769)[0x920A] = 50.0
    for index in range(4):
        scene(12.0 * index, (600, 400)).save(tmp_path / f"a{index}.jpg", exif=exif, quality=95)
    exif[0x010F], exif[0x0110] = "Pear", "Phone 9"
    for index in range(3):
        scene(200 + 12.0 * index, (400, 600)).save(tmp_path / f"b{index}.jpg", exif=exif, quality=95)
    scene(320).crop((0, 0, 460, 460)).save(tmp_path / "c.png")
    result, index, _ = ingest(tmp_path, tmp_path / "work")
    assert not index.rejected and result.facts["cameras"] == 3
    assert result.facts["camera_groups"] == [
        "4 x Canon R 50 mm, 600 x 400",
        "3 x Pear Phone 9 50 mm, 400 x 600",
        "1 x unknown camera, 460 x 460",
    ]
    assert len({photo.camera_key for photo in index.photos}) == 3


def test_too_few_photos_are_rejected_with_reasons(tmp_path: Path) -> None:
    paths = save_set(tmp_path / "in", 2)
    shutil.copy(paths[0], tmp_path / "in" / "z.jpg")
    (tmp_path / "in" / "cut.jpg").write_bytes(paths[1].read_bytes()[:4000])
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert result.verdict is Verdict.REJECT
    assert result.reasons[0].code is ReasonCode.TOO_FEW_IMAGES
    for text in ("at least 3", "found 2 of 4", "1 duplicate (z.jpg)", "1 undecodable (cut.jpg)"):
        assert text in result.reasons[0].message
    assert {(reason.code, reason.path) for reason in result.reasons[1:]} == {
        (ReasonCode.DUPLICATE, "z.jpg"),
        (ReasonCode.UNDECODABLE, "cut.jpg"),
    }
    assert len(index.photos) == 2


def test_a_set_of_junk_alone_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    (tmp_path / "in" / "b.doc").write_bytes(b"x")
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert result.verdict is Verdict.REJECT
    assert codes(index) == {"a.jpg": "undecodable", "b.doc": "unsupported_format"}


def test_equal_stems_do_not_collide(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    scene(100).save(tmp_path / "in" / "photo_0.png")
    scene(150).save(tmp_path / "in" / "photo 0.jpg", quality=95)
    _, index, output = ingest(tmp_path / "in", tmp_path / "work")
    assert len({photo.file for photo in index.photos}) == len({photo.name for photo in index.photos}) == 6
    assert all((output / photo.file).is_file() for photo in index.photos)


def test_stops_when_cancelled_and_reports_progress(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 8)
    request = request_for(tmp_path / "in")
    seen: list[float] = []
    context = context_for(request, tmp_path / "work", progress=lambda share, message, facts: seen.append(share))
    task.run(request, context)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) == 9
    seen.clear()
    context = context_for(
        request,
        tmp_path / "work2",
        progress=lambda share, message, facts: seen.append(share),
        cancelled=lambda: len(seen) > 2,
    )
    with pytest.raises(DigitizeError) as caught:
        task.run(request, context)
    assert caught.value.code is ReasonCode.CANCELLED
    assert not (context.output / "photos.json").exists()


def test_an_unreadable_file_is_an_error_not_a_rejection(tmp_path: Path) -> None:
    """A rejection would be committed and outlive the disk's trouble."""
    paths = save_set(tmp_path / "in", 4)
    request = request_for(tmp_path / "in")
    request = request.model_copy(update={"inputs": {"photos": source_ref(str(tmp_path / "in"), Reading(photos=True))}})
    paths[1].unlink()
    with pytest.raises(DigitizeError) as caught:
        task.run(request, context_for(request, tmp_path / "work"))
    assert caught.value.code is ReasonCode.SOURCE_NOT_FOUND
    assert paths[1].name in str(caught.value.path)


def test_a_link_to_nothing_costs_nothing_but_itself(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "in" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert len(index.photos) == 4 and not index.rejected


def test_method_is_registered_and_light() -> None:
    assert "photos" in registry.methods(Stage.INGEST)
    for preset, values in photos.PRESETS.items():
        options = registry.effective_options(Stage.INGEST, "photos", preset, {})
        assert options.model_dump()["max_edge_px"] == values["max_edge_px"]
    options = photos.Options()
    assert photos.estimate(options, 200, 12.0).seconds > photos.estimate(options, 20, 12.0).seconds > 1
    assert photos.resources(options).memory_gb > photos.estimate(options, 200, 45.0).memory_gb
    code = (
        "import sys, tasks.ingest.methods.photos; "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'PIL', 'av', 'pillow_heif', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0


@pytest.mark.parametrize(
    ("name", "used", "rejected"),
    [
        ("scene_cyprus", 10, {}),
        ("bad_nadar", 12, {}),
        ("bad_no_overlap", 3, {"b.jpg": "undecodable"}),
        ("scene_flowerpot", 40, {}),
    ],
)
def test_real_sets_come_through_whole(tmp_path: Path, name: str, used: int, rejected: dict[str, str]) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the development data {name} is not beside the repository")
    result, index, _ = ingest(DATA / name, tmp_path / "work", max_edge_px=256)
    assert (len(index.photos), codes(index)) == (used, rejected)
    assert result.verdict is Verdict.ACCEPT


@pytest.mark.parametrize(
    ("patterns", "helping"),
    [
        ((), set()),
        (("photo_0.jpg",), {"photo_0.jpg"}),
        (("photo_[12].jpg",), {"photo_1.jpg", "photo_2.jpg"}),
        (("bar/*",), {"wide_1.jpg", "wide_2.jpg"}),
        (("wide_?.jpg", "photo_3.jpg"), {"wide_1.jpg", "wide_2.jpg", "photo_3.jpg"}),
        (("WIDE_1.jpg",), set()),
        (("odd[1].jpg",), {"odd[1].jpg"}),
        (("bar/wide_1.jpg",), {"wide_1.jpg"}),
    ],
)
def test_photos_for_alignment_only_are_marked(patterns: tuple[str, ...], helping: set[str], tmp_path: Path) -> None:
    save_set(tmp_path / "in", 6)
    (tmp_path / "in" / "bar").mkdir()
    for number, place in ((1, "bar/wide_1.jpg"), (2, "bar/wide_2.jpg"), (3, "odd[1].jpg")):
        scene(300 + 20 * number).save(tmp_path / "in" / place)
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work", alignment_only=patterns)
    assert len(index.photos) == 9
    assert {photo.name for photo in index.photos if photo.alignment_only} == helping
    assert result.facts.get("alignment_only", 0) == len(helping)
    assert len(index.shown) == 9 - len(helping)


def test_photos_for_alignment_only_do_not_make_a_set(tmp_path: Path) -> None:
    """Nor does one of them take the place of the same picture among the others."""
    paths = save_set(tmp_path / "in", 4)
    Image.open(paths[3]).resize((960, 720)).save(tmp_path / "in" / "bar.png")
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work", alignment_only=("bar.png", "photo_[01].jpg"))
    assert codes(index) == {"bar.png": "duplicate"}
    assert result.verdict is Verdict.REJECT
    assert "found 2 of 5 beside 2 for alignment only" in result.reasons[0].message
