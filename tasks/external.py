"""What the user gave, brought to the machine of the worker: a path, an `s3://` prefix, or a file of a package.

Work is committed under the digest of what it was made from, so everything is checked against the reference.
"""

from __future__ import annotations

from pathlib import Path

from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef
from models.spec import PACKAGE
from models.weights import package_file
from tasks.context import Context

ETAG = "etag:"
"""Begins the digest of an object that is known by its etag: S3 has no sha256 of everybody's objects."""


def fetch_external(context: Context, name: str) -> Path:
    """A local, read-only file or folder with external input `name`.

    Raises:
        DigitizeError(source_not_found): nothing there any more.
        DigitizeError(checksum_mismatch): other content than when the run was planned.
        DigitizeError(missing_dependency): a package is not installed on this machine.
    """
    ref = context.input(name)
    if ref.uri.startswith(PACKAGE):
        (file,) = ref.files
        return package_file(ref.uri.removeprefix(PACKAGE), file.path, file.sha256)
    if ref.uri.startswith("s3://"):
        return _from_bucket(context, name, ref)
    path = Path(ref.uri)
    if not path.exists():
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected a file or folder, found nothing", path=ref.uri)
    for file in ref.files:
        context.check()
        check(path if path.is_file() else path / file.path, file.sha256)
    return path


def check(path: Path, expected: str) -> None:
    """Raise DigitizeError when a file is not there, or no longer what the reference to it says."""
    if not path.is_file():
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected a file, found nothing", path=str(path))
    if not expected.startswith(ETAG) and sha256_file(path) != expected:
        raise changed(str(path))


def changed(where: str) -> DigitizeError:
    """The error for something that is not what it was when the run was planned."""
    return DigitizeError(
        ReasonCode.CHECKSUM_MISMATCH,
        "expected the file as it was when the run was planned, found other content",
        hint="The source changed during the run: wait until copying has finished, then run again.",
        retryable=True,
        path=where,
    )


def _from_bucket(context: Context, name: str, ref: ArtifactRef) -> Path:
    """The objects below a prefix, or the one object at it, in scratch."""
    target = context.scratch / "external" / name.replace(":", "_")
    folder, _, last = ref.uri.rpartition("/")
    single = len(ref.files) == 1 and ref.files[0].path == last
    store = context.open_store(folder if single else ref.uri)
    for file in ref.files:
        context.check()
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        stat = store.stat(file.path)
        if stat is None:
            message = "expected an object, found nothing"
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, path=f"{store.uri}/{file.path}")
        if file.sha256.startswith(ETAG) and file.sha256 != f"{ETAG}{stat.etag}":
            raise changed(f"{store.uri}/{file.path}")
        store.get_file(file.path, path)
        if not file.sha256.startswith(ETAG) and (found := sha256_file(path)) != file.sha256:
            message, hint = f"expected sha256 {file.sha256}, found {found}", "Correct the sha256, or put the file back."
            raise DigitizeError(ReasonCode.CHECKSUM_MISMATCH, message, hint, path=f"{store.uri}/{file.path}")
    return target / last if single else target
