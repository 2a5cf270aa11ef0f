"""Stores: a local folder, or a prefix of an S3 bucket. With `queue` the only module that knows boto3."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar
from urllib.parse import urlsplit

from infra.objects import SHA256, Objects, TransferError, content_type
from infra.proxies import hint_for
from infra.settings import S3Settings
from models.digest import sha256_bytes, sha256_file
from models.errors import DigitizeError, ReasonCode
from models.store import Stat, Store

_P = ParamSpec("_P")
_R = TypeVar("_R")
_TEMPORARY = ".digitize-tmp-"
_READS = 3
"""How often an object is read whose bytes are cut off or wrong."""
_KEYS_LAST = timedelta(minutes=5)
"""How long transfers use keys before they ask again; boto3 renews them ten minutes before they expire."""


def open_store(uri: str) -> Store:
    """The store of that uri: `s3://bucket/prefix`, or else a folder, which is made when first written to."""
    if uri.startswith("s3://"):
        return S3Store(uri)
    return FolderStore(Path(uri))


_READING = frozenset({"head_object", "get_object"})


def _safe_key(key: str) -> str:
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise ValueError(f"expected a relative key of plain names, found {key!r}")
    return key


def _disk_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn a full or unreachable disk into an error that says so."""

    @wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DigitizeError(
                    ReasonCode.OUT_OF_DISK, f"no space left for the store: {error}", path=str(error.filename or "")
                ) from error
            if isinstance(error, PermissionError):
                raise DigitizeError(
                    ReasonCode.STORE_UNREACHABLE,
                    f"expected a readable and writable folder, found: {error.strerror}",
                    path=str(error.filename or ""),
                ) from error
            raise

    return guarded


class FolderStore:
    """Objects as files below a folder.

    Puts are atomic by rename, creations by hard link (which fails when the name exists), swaps by a lock file.
    Files appear complete or not at all, on any file system with POSIX links and renames, NFS included.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)

    def _path(self, key: str) -> Path:
        return self.root / _safe_key(key)

    def _temporary(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"

    @_disk_errors
    def stat(self, key: str) -> Stat | None:
        """See `models.store.Store`. The etag is the content's sha256."""
        path = self._path(key)
        try:
            return Stat(key, path.stat().st_size, sha256_file(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    @_disk_errors
    def get_bytes(self, key: str) -> bytes | None:
        """See `models.store.Store`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    @_disk_errors
    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        """See `models.store.Store`."""
        path = self._path(key)
        temporary = self._temporary(path)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if if_absent:
                return _link_new(temporary, path)
            if if_match is not None:
                return self._swap(temporary, path, if_match)
            temporary.replace(path)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _swap(self, temporary: Path, path: Path, etag: str) -> bool:
        lock = path.parent / f"{_TEMPORARY}lock-{sha256_bytes(path.name.encode())[:16]}"
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.is_file() or sha256_file(path) != etag:
                return False
            temporary.replace(path)
            return True

    @_disk_errors
    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """See `models.store.Store`. Always a copy: the caller may go on writing to `path`."""
        target = self._path(key)
        temporary = self._temporary(target)
        try:
            with path.open("rb") as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @_disk_errors
    def get_file(self, key: str, path: Path) -> None:
        """See `models.store.Store`."""
        source = self._path(key)
        if not source.is_file():
            raise _missing(key, self.uri)
        shutil.copyfile(source, path)

    @_disk_errors
    def sha256(self, key: str) -> str:
        """See `models.store.Store`."""
        source = self._path(key)
        if not source.is_file():
            raise _missing(key, self.uri)
        return sha256_file(source)

    @_disk_errors
    def list(self, prefix: str) -> Iterator[Stat]:
        """See `models.store.Store`. The etag of a listing is size and time, not the content's sha256."""
        folder = self.root / prefix.rpartition("/")[0]
        found = []
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent) / name
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith(_TEMPORARY):
                    found.append((key, path))
        for key, path in sorted(found):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            yield Stat(key, status.st_size, f"{status.st_size}-{status.st_mtime_ns}", status.st_mtime)

    @_disk_errors
    def delete(self, key: str) -> None:
        """See `models.store.Store`."""
        self._path(key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        """See `models.store.Store`."""
        return self._path(key)


def _link_new(temporary: Path, path: Path) -> bool:
    """Give `temporary` its final name unless that name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _missing(key: str, uri: str) -> DigitizeError:
    return DigitizeError(ReasonCode.CHECKSUM_MISMATCH, f"expected a stored object, found none in {uri}", path=key)


class S3Store:
    """Objects below a prefix of an S3 bucket, on any server with conditional single PUTs.

    Small objects (markers, manifests) are single PUTs with If-None-Match or If-Match. Contents are checked by the
    reader's own sha256 and never left to the server: not every server keeps checksums.
    """

    def __init__(self, uri: str, settings: S3Settings | None = None) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise DigitizeError(ReasonCode.SPEC_INVALID, f"expected s3://bucket/prefix, found {uri!r}")
        self.uri = uri.rstrip("/")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._settings = settings or S3Settings()

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        settings = self._settings
        secret = settings.secret_access_key
        return boto3.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                signature_version="s3v4",
                retries={"max_attempts": 5, "mode": "standard"},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=64,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if settings.endpoint_url else {},
            ),
        )

    def _call(self, operation: str, key: str, allowed: tuple[str, ...] = (), **arguments: Any) -> Any:
        """One request. None when the server answers with one of the `allowed` error codes."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            # what others wrote may have any key; ours have plain names
            named = key if operation in _READING and key else _safe_key(key)
            return getattr(self._client, operation)(Bucket=self._bucket, Key=self._prefix + named, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            if code in allowed or status in allowed:
                return None
            raise self._unreachable(key, f"{operation} answered {code or status}") from error
        except BotoCoreError as error:
            raise self._unreachable(key, f"{operation} failed: {error}") from error

    def _unreachable(self, key: str, what: str) -> DigitizeError:
        message, hint = f"{self.uri}: {what}", hint_for(what)
        return DigitizeError(ReasonCode.STORE_UNREACHABLE, message, hint, retryable=True, path=key or None)

    def stat(self, key: str) -> Stat | None:
        """See `models.store.Store`."""
        answer = self._call("head_object", key, allowed=("404", "NoSuchKey"))
        return None if answer is None else Stat(key, answer["ContentLength"], answer["ETag"])

    def get_bytes(self, key: str) -> bytes | None:
        """See `models.store.Store`."""
        for left in range(_READS - 1, -1, -1):
            answer = self._call("get_object", key, allowed=("404", "NoSuchKey"))
            if answer is None:
                return None
            try:
                return self._body(answer, key)
            except DigitizeError:
                if not left:
                    raise
        raise AssertionError("the last read returns or raises")

    def _body(self, answer: Any, key: str) -> bytes:
        """The content of an answer, checked against the sha256 that was put with it: a marker or a manifest with wrong
        bytes must not be believed."""
        from botocore.exceptions import BotoCoreError

        try:
            data = bytes(answer["Body"].read())
        except (BotoCoreError, OSError) as error:
            raise self._unreachable(key, f"get_object was cut off: {error}") from error
        self._checked(sha256_bytes(data), answer.get("Metadata", {}).get(SHA256), key)
        return data

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        """See `models.store.Store`."""
        # Without the quotes: AWS takes the etag either way, Ceph's gateway (16) compares it with its own bare one
        bare = {"IfMatch": if_match.strip('"')} if if_match else {}
        conditions = {"IfNoneMatch": "*"} if if_absent else bare
        allowed: tuple[str, ...] = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")
        if if_match:
            allowed += ("404", "NoSuchKey")
        about = {"Metadata": {SHA256: sha256_bytes(data)}, "ContentType": content_type(key)}
        answer = self._call("put_object", key, allowed=allowed if conditions else (), Body=data, **about, **conditions)
        return answer is not None

    @cached_property
    def _objects(self) -> Objects:
        """Where the client's own chain leads, which knows more places for an address than these settings."""
        about = self._client.meta
        aws = str(urlsplit(about.endpoint_url).hostname).endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return Objects(self._bucket, None if aws else about.endpoint_url, about.region_name, self._credentials)

    def _credentials(self) -> dict[str, Any]:
        """The same keys for contents as for records; what boto3's chain finds is asked for again as it expires."""
        own, secret = self._settings.access_key_id, self._settings.secret_access_key
        if own and secret:
            return {"access_key_id": own, "secret_access_key": secret.get_secret_value(), "expires_at": None}
        if self._chain is None:
            raise self._unreachable("", "no credentials found")
        keys = self._chain.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _KEYS_LAST,
        }

    @cached_property
    def _chain(self) -> Any:
        import boto3

        return boto3.Session().get_credentials()

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """See `models.store.Store`. Large files go up in parts, which appear together at the end."""
        try:
            self._objects.put(self._prefix + _safe_key(key), path, sha256 or sha256_file(path))
        except TransferError as error:
            raise self._unreachable(key, str(error)) from error

    def get_file(self, key: str, path: Path) -> None:
        """See `models.store.Store`. What arrives is checked against the sha256 that was put with it."""
        self._read(key, lambda: path.open("wb"))

    def sha256(self, key: str) -> str:
        """See `models.store.Store`."""
        return self._read(key, lambda: Path(os.devnull).open("wb"))

    def _read(self, key: str, open_sink: Callable[[], BinaryIO]) -> str:
        """Read an object into a fresh sink, again while its bytes are cut off or wrong. Returns its sha256."""
        if "//" in key or key.startswith("/"):  # obstore takes no such key, and ours are never like that
            data = self.get_bytes(key)
            if data is None:
                raise _missing(key, self.uri)
            with open_sink() as file:
                file.write(data)
            return sha256_bytes(data)
        for left in range(_READS - 1, -1, -1):
            try:
                with open_sink() as file:
                    digests = self._objects.get(self._prefix + key, file.write)
                if digests is None:
                    raise _missing(key, self.uri)
                return self._checked(*digests, key)
            except TransferError as error:
                if not left:
                    raise self._unreachable(key, str(error)) from error
            except DigitizeError as error:
                if not left or not error.retryable:
                    raise
        raise AssertionError("the last read returns or raises")

    def _checked(self, found: str, expected: str | None, key: str) -> str:
        """Raise DigitizeError(checksum_mismatch) when an object says that it has another sha256. Others say nothing."""
        if expected not in (None, found):
            message = f"{self.uri}: expected bytes with sha256 {expected}, found {found}"
            raise DigitizeError(ReasonCode.CHECKSUM_MISMATCH, message, retryable=True, path=key)
        return found

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `models.store.Store`."""
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        try:
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    yield Stat(key, item["Size"], item["ETag"], item["LastModified"].timestamp())
        except (BotoCoreError, ClientError) as error:
            raise self._unreachable(prefix, f"listing failed: {error}") from error

    def delete(self, key: str) -> None:
        """See `models.store.Store`."""
        self._call("delete_object", key, allowed=("404", "NoSuchKey"))

    def local_path(self, key: str) -> Path | None:
        """See `models.store.Store`: nothing of S3 lies on this machine."""
        return None
