"""An SQS queue of bucket notifications, with its dead-letter queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from infra.proxies import hint_for
from infra.settings import S3Settings, UploadSettings
from models.errors import DigitizeError, ReasonCode

_T = TypeVar("_T")
_MOST = 10
"""What SQS hands out at once."""


@dataclass(frozen=True)
class Message:
    """One message, which comes again unless it is deleted."""

    body: str
    receipt: str


class Queue:
    """SQS, or a server that speaks like it. Raises DigitizeError(store_unreachable, retryable)."""

    def __init__(self, url: str, settings: UploadSettings, s3: S3Settings | None = None) -> None:
        self.url = url
        self._settings = settings
        self._s3 = s3 or S3Settings()

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        secret = self._s3.secret_access_key
        return boto3.client(
            "sqs",
            endpoint_url=self._settings.sqs_endpoint_url,
            region_name=self._s3.region,
            aws_access_key_id=self._s3.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(retries={"max_attempts": 5, "mode": "standard"}, connect_timeout=10, read_timeout=60),
        )

    def receive(self, wait_s: int = 0) -> list[Message]:
        """Up to ten messages; waits so long for the first one."""
        answer = self._call(
            lambda: self._client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=_MOST, WaitTimeSeconds=min(20, max(0, wait_s))
            )
        )
        return [Message(each.get("Body", ""), each["ReceiptHandle"]) for each in answer.get("Messages", ())]

    def delete(self, message: Message) -> None:
        """Say that a message was dealt with."""
        self._call(lambda: self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt))

    def send(self, body: str) -> None:
        """Put a message into the queue."""
        self._call(lambda: self._client.send_message(QueueUrl=self.url, MessageBody=body))

    def _call(self, request: Callable[[], _T]) -> _T:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return request()
        except (BotoCoreError, ClientError) as error:
            raise DigitizeError(
                ReasonCode.STORE_UNREACHABLE,
                f"the queue did not answer: {error}",
                hint_for(str(error)) or "Check DIGITIZE_UPLOADS_QUEUE_URL and the credentials.",
                retryable=True,
                path=self.url,
            ) from error


def move_all(source: Queue, target: Queue) -> int:
    """Bring every message of a dead-letter queue back; how many. A message is sent before it is deleted: a kill in
    between delivers it twice, which harms nothing."""
    moved = 0
    while messages := source.receive():
        for message in messages:
            target.send(message.body)
            source.delete(message)
            moved += 1
    return moved
