"""What the user gave, on the machine of the worker: paths, S3 and files of packages, each checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.plan.sources import source_ref
from infra.storage import open_store
from models.digest import sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, StageRequest
from models.stage import Stage
from models.weights import listed, package_file, package_ref, parse
from tasks.context import Context
from tasks.external import fetch_external
from tests.support import make_context


def given(folder: Path, ref: ArtifactRef) -> Context:
    request = StageRequest(asset="pot", stage=Stage.QUALITY, method="m", version="1", inputs={"notes": ref})
    return make_context(request, folder)


def code_of(context: Context) -> ReasonCode:
    with pytest.raises(DigitizeError) as caught:
        fetch_external(context, "notes")
    return caught.value.code


def test_a_folder_and_a_file_stay_where_they_are_and_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "given" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    for place in (tmp_path / "given", folder / "a.txt"):
        assert fetch_external(given(tmp_path / place.name, source_ref(str(place))), "notes") == place
    before = given(tmp_path / "later", source_ref(str(tmp_path / "given")))
    (folder / "a.txt").write_text("two")
    assert code_of(before) is ReasonCode.CHECKSUM_MISMATCH
    (folder / "a.txt").unlink()
    assert code_of(before) is ReasonCode.SOURCE_NOT_FOUND


def test_a_prefix_and_an_object_come_from_s3(tmp_path: Path, s3_bucket: str) -> None:
    store = open_store(f"{s3_bucket}/given")
    store.put_bytes("deep/a.txt", b"one")
    store.put_bytes("b.txt", b"two")
    prefix = source_ref(f"{s3_bucket}/given")
    folder = fetch_external(given(tmp_path / "prefix", prefix), "notes")
    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.txt")} == {
        "deep/a.txt": "one",
        "b.txt": "two",
    }
    single = source_ref(f"{s3_bucket}/given/b.txt")
    path = fetch_external(given(tmp_path / "object", single), "notes")
    assert (path.name, path.read_text()) == ("b.txt", "two")
    store.put_bytes("b.txt", b"three")
    assert code_of(given(tmp_path / "changed", single)) is ReasonCode.CHECKSUM_MISMATCH
    store.delete("b.txt")
    assert code_of(given(tmp_path / "gone", single)) is ReasonCode.SOURCE_NOT_FOUND
    with pytest.raises(DigitizeError, match="expected at least one file"):
        source_ref(f"{s3_bucket}/given/b.txt")


def test_a_package_s_file_is_known_by_its_sha256(tmp_path: Path) -> None:
    """The key is the same on a machine without the package; the worker wants the very bytes."""
    path = next(p for p in Path(np.__file__).parent.rglob("*.pyi"))
    relative = path.relative_to(Path(np.__file__).parents[1]).as_posix()
    ref = package_ref(f"package:numpy/{relative}", sha256_bytes(path.read_bytes()))
    assert fetch_external(given(tmp_path / "there", ref), "notes").samefile(path)
    other = package_ref(f"package:numpy/{relative}", "0" * 64)
    assert other.digest != ref.digest and code_of(given(tmp_path / "a", other)) is ReasonCode.CHECKSUM_MISMATCH
    for uri in ("package:no-such-package-here/a.bin", "package:numpy/no/such/file.bin"):
        missing = given(tmp_path / uri[8:11], package_ref(uri, "0" * 64))
        assert code_of(missing) is ReasonCode.MISSING_DEPENDENCY
    with pytest.raises(DigitizeError, match="expected package:NAME/FILE"):
        package_ref("package:numpy", "0" * 64)


def test_the_list_of_weights_is_read_with_its_lines() -> None:
    text = f"# comment\n\nnet  some-net 1.2  some_net/w.pt {'a' * 64}  Apache-2.0  # why\n"
    (weights,) = parse(text).values()
    assert weights.requirement == "some-net==1.2" and weights.licence == "Apache-2.0"
    assert weights.ref.uri == "package:some-net" and weights.ref.files[0].path == "some_net/w.pt"
    for wrong, message in (
        ("net some-net 1.2", "found 3 words"),
        (text + text, "each name once"),
        (text.replace("a" * 64, "abc"), "sha256"),
    ):
        with pytest.raises(DigitizeError, match=message) as caught:
            parse(wrong)
        assert caught.value.path is not None and caught.value.path.startswith("weights.txt:")


def test_every_listed_weight_is_installed_as_pinned() -> None:
    for weights in listed().values():
        assert package_file(weights.package, weights.file, weights.sha256).is_file()
