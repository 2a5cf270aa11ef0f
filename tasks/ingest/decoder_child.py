"""The child process of `tasks.ingest.decoder`: reads requests from stdin, answers on what was stdout."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from models.errors import DigitizeError, ReasonCode
from models.malloc import keep_freed_memory
from models.photos import RejectedPhoto
from tasks.ingest.decoder import _LENGTH, packed
from tasks.ingest.select import Candidate
from tasks.ingest.staging import PhotoTask, measure_colours, stage_photo
from tasks.ingest.video import VideoLimits, extract_frames

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer until stdin ends."""
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    _end_with(parent)
    keep_freed_memory()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints is no answer
    requests = sys.stdin.buffer
    while (head := requests.read(_LENGTH.size)) and len(head) == _LENGTH.size:
        answer = _answer(json.loads(_exactly(requests, _LENGTH.unpack(head)[0])))
        data = json.dumps(answer).encode()
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


def _end_with(parent: int) -> None:
    """Be killed when the process that started this one ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        os._exit(0)
    return data


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "photo" in request:
            return _photo(PhotoTask.model_validate(request["photo"]))
        if "colours" in request:
            return {"correction": asdict(measure_colours(PhotoTask.model_validate(request["colours"])))}
        given = request["video"]
        limits = VideoLimits(**given["limits"])
        found = extract_frames(Path(given["path"]), Path(given["folder"]), limits, lambda: None, given["threads"])
        return {"frames": [str(frame) for frame in found.paths], "note": found.note}
    except DigitizeError as error:
        names = ("message", "hint", "retryable", "asset", "path")
        return {"error": {"code": error.code.value, **{name: getattr(error, name) for name in names}}}
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0] / 1e9
        message = f"expected a file that decodes in {limit:.0f} GB of memory, found one that needs more"
        return {"error": {"code": ReasonCode.UNDECODABLE.value, "message": message}}
    except Exception:
        return {"defect": traceback.format_exc()}


def _photo(task: PhotoTask) -> dict[str, Any]:
    try:
        found = stage_photo(task)
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0] / 1e9
        message = f"expected a picture that decodes in {limit:.0f} GB of memory, found one that needs more"
        found = RejectedPhoto(name=task.name, code=ReasonCode.UNDECODABLE, message=message)
    if isinstance(found, Candidate):
        return {"candidate": packed(found)}
    return {"rejected": found.model_dump(mode="json")}


if __name__ == "__main__":
    main()
