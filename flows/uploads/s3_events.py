"""What a storage server says happened: S3 event notifications as AWS, Ceph and MinIO send them, bare or wrapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

_DEEPEST = 3
"""Wrappings: SNS in SQS is two."""


@dataclass(frozen=True)
class ObjectEvent:
    """Something happened to one object. Only a hint: what is true is what the store lists."""

    bucket: str
    key: str


class EventError(ValueError):
    """A message that is no event: what was expected and what was found."""


def parse_events(body: str | bytes) -> list[ObjectEvent]:
    """The events of one message; none for a server's test message. Raises EventError on anything else.

    Understands `{"Records": [...]}` (S3, Ceph, MinIO), one EventBridge event, and either in an SNS envelope.
    """
    return list(_events(_json(body), 0))


def _json(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EventError(f"expected JSON, found {_short(body)}") from error


def _events(value: Any, depth: int) -> Iterator[ObjectEvent]:
    if not isinstance(value, dict):
        raise EventError(f"expected a JSON object, found {type(value).__name__}")
    if value.get("Event") == "s3:TestEvent":
        return
    if isinstance(value.get("Message"), str) and value.get("Type") == "Notification" and depth < _DEEPEST:
        yield from _events(_json(value["Message"]), depth + 1)
    elif isinstance(value.get("Records"), list):
        for record in value["Records"]:
            if not isinstance(record, dict):
                raise EventError(f"expected records that are objects, found {type(record).__name__}")
            if "Sns" in record and depth < _DEEPEST:
                yield from _events(_json(str(_at(record, "Sns", "Message"))), depth + 1)
            else:
                key = _text(_at(record, "s3", "object", "key"))
                yield ObjectEvent(_text(_at(record, "s3", "bucket", "name")), unquote_plus(key))
    elif isinstance(value.get("detail"), dict) and value.get("source") == "aws.s3":
        # EventBridge does not encode keys
        yield ObjectEvent(_text(_at(value, "detail", "bucket", "name")), _text(_at(value, "detail", "object", "key")))
    else:
        raise EventError(f"expected an S3 event notification, found the keys {sorted(map(str, value))[:8]}")


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            raise EventError(f"expected {'.'.join(path)} in a record, found no {name}")
        value = value[name]
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise EventError(f"expected a name, found {_short(value)}")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
