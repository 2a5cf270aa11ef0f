"""What passes between a run and the process of one stage: the job in, one JSON object a line back."""

from __future__ import annotations

import json
from typing import Any

from models.errors import DigitizeError
from models.record import Record
from models.results import Done, StageRequest


class Job(Record):
    """One stage of one asset, and the surroundings that must not change its result."""

    request: StageRequest
    store_uri: str
    threads: int = 0
    """Threads the stage may use; 0 for the CPU cores that it declares, at most those of the machine."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: cuda for stages that declare GPU memory on machines that have a GPU."""
    scratch: str | None = None
    """Local folder for attempts; None for the system's temporary folder."""
    door: str = ""
    """`module:function` of the stage's door; empty for the stage's own."""
    isolated: bool = True
    """False runs the stage in the calling process, where nothing can kill it: for doors that end by themselves, when
    the cost of everything else is measured."""
    version: str = ""
    """The distribution's version where the run was started; nodes with another one refuse the job."""

    @property
    def log_key(self) -> str:
        """Where what the stage's process printed is kept in the store."""
        return f"{self.request.prefix}/log.txt"


def encode(**message: Any) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line; empty for a line that a killed writer left unfinished."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def error_to_dict(error: DigitizeError) -> dict[str, Any]:
    """A DigitizeError as JSON values."""
    return {
        "code": str(error.code),
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "asset": error.asset,
        "path": error.path,
    }


def error_from_dict(values: dict[str, Any]) -> DigitizeError:
    """The DigitizeError that `error_to_dict` described."""
    return DigitizeError(**values)


def outcome_to_json(outcome: Done | DigitizeError) -> str:
    """A commit or an error as one JSON text: for places where an exception would be retried or wrapped."""
    if isinstance(outcome, DigitizeError):
        return json.dumps({"error": error_to_dict(outcome)})
    return json.dumps({"done": outcome.model_dump(mode="json")})


def outcome_from_json(text: str) -> Done:
    """The commit. Raises the DigitizeError when the text holds one."""
    values = json.loads(text)
    if "error" in values:
        raise error_from_dict(values["error"])
    return Done.model_validate(values["done"])
