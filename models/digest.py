"""Content addresses: canonical JSON, sha256, and the cache key of a stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """`value` as the one JSON text that equal values share: sorted keys, no spaces, UTF-8.

    Records are dumped in JSON mode first. Raises ValueError on NaN and infinities, which JSON cannot hold.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Hex sha256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value))


def stage_key(
    stage: str, method: str, version: str, options: Mapping[str, Any], inputs: Mapping[str, str], seed: int
) -> str:
    """The cache key of a stage: sha256 over everything that can change its result.

    Args:
        options: the canonical *effective* options, defaults filled in.
        inputs: content digest of each input, by the input's name.
    """
    return digest_of(
        {
            "stage": stage,
            "method": method,
            "version": version,
            "options": dict(options),
            "inputs": dict(inputs),
            "seed": seed,
        }
    )
