"""Contents of files to and from an S3 bucket, by obstore: boto3 needs a core for 140 MB or 200 small files a second."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

_PART_BYTES = 8 << 20
"""Files up to this size are one request; larger ones go up in parts, which appear together at the end."""
_PARTS_AT_ONCE = 2
"""Parts in flight a file: with sixteen files at once they hold 256 MB."""
SHA256 = "sha256"
"""Name of the metadata that every object carries: servers' own checksums differ from server to server."""
_TYPES = {".glb": "model/gltf-binary", ".usdz": "model/vnd.usdz+zip", ".ply": "model/ply", ".obj": "model/obj"}
"""What `mimetypes` does not know everywhere; browsers and viewers go by it."""


def content_type(name: str) -> str:
    """The media type that a server should tell for a file of this name."""
    suffix = Path(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


class TransferError(Exception):
    """The server did not take or give the content, retries included."""


class Objects:
    """The contents of one bucket. Requests are signed with the sha256 of what they carry, so a server notices when it
    received something else; readers check what they receive against the sha256 that was put with it."""

    def __init__(self, bucket: str, address: str | None, region: str, credentials: Callable[[], Any]) -> None:
        """
        Args:
            address: of an S3-compatible server; None for AWS.
            credentials: what obstore calls for keys; see `obstore.store.S3Credential`.
        """
        from obstore.store import S3Store

        self._store = S3Store(
            bucket,
            credential_provider=credentials,
            region=region,
            virtual_hosted_style_request=not address,
            client_options={
                "allow_http": bool(address and address.startswith("http://")),
                "connect_timeout": timedelta(seconds=10),
                "read_timeout": timedelta(seconds=60),
                "timeout": timedelta(minutes=15),  # of one part: many of them share a slow line
            },
            retry_config={"max_retries": 5, "backoff": {"init_backoff": timedelta(seconds=0.2)}},
            config={"endpoint": address} if address else None,
        )

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Write a file's content with its type and the sha256 that readers compare with. Raises TransferError."""
        import obstore

        with path.open("rb") as file, _errors("put"):
            obstore.put(
                self._store,
                key,
                file,
                attributes={"Content-Type": content_type(key), SHA256: sha256},
                use_multipart=path.stat().st_size > _PART_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def get(self, key: str, sink: Callable[[Any], object]) -> tuple[str, str | None] | None:
        """Pass an object's content to `sink`, piece by piece.

        Returns:
            The sha256 of what was read, and the one that was put with it, if any; None when there is no such object.
            Raises TransferError.
        """
        import obstore

        with _errors("get"):
            try:
                answer = obstore.get(self._store, key)
            except FileNotFoundError:
                return None
        read = hashlib.sha256()
        pieces = iter(answer.stream(min_chunk_size=1 << 20))
        while True:
            with _errors("get was cut off"):
                piece = next(pieces, None)
            if piece is None:
                return read.hexdigest(), answer.attributes.get(SHA256)
            read.update(piece)
            sink(piece)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise TransferError(f"{what} failed: {error}") from error
