"""The store that committed work lives in, as a protocol: `infra/storage.py` implements it for folders and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


class Stat(NamedTuple):
    """One stored object."""

    key: str
    bytes: int
    etag: str
    """Changes whenever the content does; what `if_match` compares with."""
    modified: float | None = None
    """Unix time of the last change by the store's clock, where a listing tells."""


@runtime_checkable
class Store(Protocol):
    """Objects by key ('/'-separated, never absolute). Every put is atomic: readers see the old bytes or the new.

    All methods raise DigitizeError(store_unreachable, retryable) when the store does not answer.
    """

    uri: str
    """`/path/to/folder` or `s3://bucket/prefix`."""

    def stat(self, key: str) -> Stat | None:
        """The object's size and etag, or None when there is none."""
        ...

    def get_bytes(self, key: str) -> bytes | None:
        """The object's content, or None when there is none."""
        ...

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        """Write a small object.

        Args:
            if_absent: write only when the key holds nothing yet.
            if_match: write only when the key still has this etag.

        Returns:
            False when the condition did not hold and nothing was written.
        """
        ...

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Write a file's content. Committed files are immutable: the store may link rather than copy.

        Args:
            sha256: the content's digest, when the caller knows it.
        """
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write the object's content to `path`. Raises DigitizeError(checksum_mismatch) when there is none."""
        ...

    def sha256(self, key: str) -> str:
        """The digest of what the store holds, read back. Raises DigitizeError(checksum_mismatch) when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """All objects whose key starts with `prefix`, in key order."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object, for stores on this machine; None for remote ones. Read only."""
        ...
