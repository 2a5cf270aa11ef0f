"""Damage that `bench.fuzz` found in readers: refused by name, never with a traceback."""

from __future__ import annotations

import socket
import zipfile
from pathlib import Path

import pytest

from bench import fuzz_seeds
from flows.uploads.http import receiving
from models.errors import DigitizeError, ReasonCode
from models.spec_yaml import load_spec
from tasks.ingest.archive import ArchiveLimits, list_archive, open_archive
from tasks.ingest.video import VideoLimits, extract_frames
from tasks.quality.truth import read_truth

HEAD = "name: a\nassets:\n  - {id: pot, photos: p, scale: {kind: none}"
SPECS = {
    "brackets": "[" * 20000,
    "levels": "".join(f"{' ' * depth}a:\n" for depth in range(1500)),
    "a date that is none": f"{HEAD}, inputs: {{x: 2024-13-45}}}}\n",
    "a sequence as a key": f"{HEAD}, ? [a, b] : c}}\n",
    "binary that is none": f"{HEAD}, inputs: {{x: !!binary '%%%'}}}}\n",
    "an unknown tag": f"{HEAD}, inputs: {{x: !!python/object:os.system x}}}}\n",
    "a number beyond all": f"{HEAD}, priority: {'9' * 5000}}}\n",
    "an alias in itself": "&a [*a]\n",
}


@pytest.mark.parametrize("name", SPECS)
def test_a_specification_that_yaml_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "batch.yaml"
    path.write_text(SPECS[name])
    with pytest.raises(DigitizeError) as caught:
        load_spec(path)
    assert caught.value.code is ReasonCode.SPEC_INVALID and str(path) in str(caught.value.path)


METHODS = {"stored": zipfile.ZIP_STORED, "deflate": 8, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", ["content", "offset"])
def test_a_damaged_entry_of_a_zip_is_named(method: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", METHODS[method]) as archive:
        archive.writestr("photo.jpg", bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    if fault == "content":
        start = data.index(b"photo.jpg") + len(b"photo.jpg")
        data[start : start + 24] = b"\xa5" * 24
    else:  # where the directory says that the entry begins
        place = data.index(b"PK\x01\x02") + 42
        data[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    with pytest.raises(DigitizeError) as caught, open_archive(path, ArchiveLimits(9, 1 << 20), tmp_path) as entries:
        entries[0].extract(tmp_path / "out")
    assert caught.value.code in (ReasonCode.UNDECODABLE, ReasonCode.ARCHIVE_UNSAFE)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_that_cannot_be_listed_says_nothing_yet(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x05\x06" + b"\xff" * 99)
    assert list_archive(tmp_path / name) is None


def test_an_entry_of_a_tar_can_be_asked_for_twice(tmp_path: Path) -> None:
    tars = ((suffix, data) for suffix, data in fuzz_seeds.archives() if suffix == ".tar")
    path = tmp_path / "a.tar"
    path.write_bytes(next(tars)[1])
    with open_archive(path, ArchiveLimits(9, 1 << 20), tmp_path / "unpacked") as entries:
        first, again = (entries[0].extract(tmp_path / "out").read_bytes() for _ in range(2))
    assert first == again and first


def test_a_codec_that_nobody_knows_is_told(tmp_path: Path) -> None:
    suffix, data = next(seed for seed in fuzz_seeds.videos() if seed[0] == ".mp4")
    path = tmp_path / f"v{suffix}"
    path.write_bytes(data.replace(b"avc1\0\0\0\0", b"zzzz\0\0\0\0"))
    with pytest.raises(DigitizeError, match="codec") as caught:
        extract_frames(path, tmp_path / "frames", VideoLimits(5, 5.0, 1_000_000), lambda: None)
    assert caught.value.code is ReasonCode.UNDECODABLE


def test_a_truth_of_endless_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.ply").write_bytes(next(fuzz_seeds.meshes())[1])
    (tmp_path / "cameras.json").write_text('{"images": []}')
    (tmp_path / "support.json").write_text("[" * 100000)
    with pytest.raises(DigitizeError) as caught:
        read_truth(tmp_path)
    assert caught.value.code is ReasonCode.TRUTH_INVALID


def test_a_length_in_other_digits_than_ascii_is_refused() -> None:
    taken: list[bytes] = []
    head = b"POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\nContent-Length: \xb2\r\n\r\n"
    with (
        receiving("127.0.0.1", 0, "token", taken.append) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.sendall(head)
        assert b" 411 " in connection.recv(4096)
    assert taken == []
