"""Event notifications as the servers send them, and what is none."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.uploads.s3_events import EventError, ObjectEvent, parse_events

CUP = ObjectEvent("uploads", "museum/Vase Nº 3/a+b.jpg")


def record(bucket: str = "uploads", key: str = "museum/Vase+N%C2%BA+3/a%2Bb.jpg") -> dict[str, Any]:
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}}


def test_all_forms_say_the_same() -> None:
    plain = {"Records": [record()]}
    sns = {"Type": "Notification", "Message": json.dumps(plain)}
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "uploads"}, "object": {"key": CUP.key}},
    }
    minio = {"EventName": "s3:ObjectCreated:Put", "Key": "uploads/x", **plain}
    in_lambda = {"Records": [{"Sns": {"Message": json.dumps(plain)}}]}
    for form in (plain, sns, bridge, minio, in_lambda):
        assert parse_events(json.dumps(form)) == [CUP]
        assert parse_events(json.dumps(form).encode()) == [CUP]


def test_a_test_event_is_none() -> None:
    assert parse_events('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"}') == []


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", "7", "{}", '{"Records": 7}', '{"Records": [7]}', b"\xff\xfe", "[" * 100_000),
        *(json.dumps({"Records": [{"s3": {"object": {"key": "a"}}}]}), json.dumps({"Records": [record(key="")]})),
        *(json.dumps({"Type": "Notification", "Message": "{"}), json.dumps({"source": "aws.s3", "detail": {}})),
    ],
)
def test_anything_else_says_what_it_is(body: str | bytes) -> None:
    with pytest.raises(EventError, match="expected"):
        parse_events(body)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda children: (
        st.lists(children)
        | st.dictionaries(st.sampled_from(["Records", "s3", "bucket", "Message", "Type", "Sns", "detail"]), children)
    ),
)


@given(_json | st.binary() | st.text())
def test_nothing_but_events_and_event_errors_comes_out(value: object) -> None:
    body = value if isinstance(value, str | bytes) else json.dumps(value)
    with contextlib.suppress(EventError):
        assert isinstance(parse_events(body), list)
