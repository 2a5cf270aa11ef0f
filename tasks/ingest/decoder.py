"""Child processes that decode: whatever a file does to a native decoder, it costs that file alone.

Each `Decoder` is one child that answers one request at a time, as JSON of a stated length over pipes. A child that
crashes, hangs or needs too much memory is replaced. Children end with the process that started them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from models.errors import DigitizeError, ReasonCode
from models.photos import RejectedPhoto
from tasks.ingest.colour import Correction
from tasks.ingest.measure import THUMB_PX
from tasks.ingest.refusals import colour_unsolved
from tasks.ingest.select import Candidate
from tasks.ingest.staging import PhotoTask
from tasks.ingest.video import KeyFrames, VideoLimits

PHOTO_SECONDS, SECONDS_A_MB = 120.0, 2.0
"""How long one photo may take, and how much longer for each MB of its file."""
BASE_BYTES, BYTES_A_PIXEL = 2 << 30, 32
"""Address space of a child: for its libraries, and for each pixel of the largest picture that is accepted."""
VIDEO_SECONDS = 6 * 3600.0
"""Longer than any stage: a video's decoder is stopped by the stage's own deadline."""
_SECRETS = ("AWS_", "DIGITIZE_", "PREFECT_", "RAY_")
_POLL_S = 0.5
_LAST_BREATH_S = 5.0
"""In which a child that crashed is gone after its pipe has closed."""
_LENGTH = struct.Struct("<I")
_LONGEST = 64 << 20
_OWN = [sys.executable, "-P", "-m", "tasks.ingest.decoder_child"]


class DecoderError(Exception):
    """A child that did not answer: why, for people."""


class Decoder:
    """One child process, started when it is first asked."""

    def __init__(self, max_pixels: int, check: Callable[[], None], command: Sequence[str] = _OWN) -> None:
        """
        Args:
            check: called twice a second while the child works; raises to stop.
            command: what to start.
        """
        self._memory = BASE_BYTES + BYTES_A_PIXEL * max_pixels
        self._check, self._command = check, list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    def photo(self, task: PhotoTask) -> Candidate | RejectedPhoto:
        """`tasks.ingest.staging.stage_photo` in the child. A photo that the child does not survive is rejected; one
        whose child was killed from outside is tried once more, for the system kills when memory is short."""
        size = task.path.stat().st_size if task.path.exists() else 0
        seconds = PHOTO_SECONDS + SECONDS_A_MB * size / 1e6
        for last in (False, True):
            try:
                answer = self.ask({"photo": task.model_dump(mode="json")}, seconds)
            except DecoderError as death:
                if str(death) == _KILLED and not last:
                    continue
                message = f"expected a whole image file, found one that its decoder does not survive: {death}"
                return RejectedPhoto(name=task.name, code=ReasonCode.UNDECODABLE, message=message)
            if "rejected" in answer:
                return RejectedPhoto.model_validate(answer["rejected"])
            return _candidate(answer["candidate"])
        raise AssertionError("unreachable")

    def colours(self, task: PhotoTask) -> Correction:
        """`tasks.ingest.staging.measure_colours` in the child. Raises DigitizeError(colour_unsolved) where it does not
        survive."""
        try:
            answer = self.ask({"colours": task.model_dump(mode="json")}, PHOTO_SECONDS)
        except DecoderError as death:
            raise colour_unsolved(task.name, f"its decoder does not survive the photo: {death}") from death
        return TypeAdapter(Correction).validate_python(answer["correction"])

    def frames(self, path: Path, folder: Path, limits: VideoLimits, threads: int, seconds: float) -> KeyFrames:
        """`tasks.ingest.video.extract_frames` in the child. Raises DigitizeError(undecodable) where it does not
        survive."""
        request = {"path": str(path), "folder": str(folder), "limits": dataclasses.asdict(limits), "threads": threads}
        try:
            answer = self.ask({"video": request}, seconds)
        except DecoderError as death:
            message = f"expected a whole video, found one that its decoder does not survive: {death}"
            raise DigitizeError(ReasonCode.UNDECODABLE, message, path=str(path)) from death
        return KeyFrames([Path(each) for each in answer["frames"]], answer["note"])

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The child's answer.

        Raises DecoderError where there is none in time, and the DigitizeError that the child raised.
        """
        process = self._started()
        try:
            answer = self._exchange(process, json.dumps(request).encode(), seconds)
        except BaseException:
            self.close()
            raise
        if error := answer.get("error"):
            raise DigitizeError(**{**error, "code": ReasonCode(error["code"])})
        if defect := answer.get("defect"):
            raise RuntimeError(defect)
        return answer

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            root = str(Path(__file__).resolve().parents[2])
            environment = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
            environment |= {"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "0"}
            self._process = subprocess.Popen(
                [*self._command, str(self._memory), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], data: bytes, seconds: float) -> dict[str, Any]:
        assert process.stdin is not None
        try:
            process.stdin.write(_LENGTH.pack(len(data)) + data)
            process.stdin.flush()
        except OSError:
            raise self._death(process) from None
        deadline = time.monotonic() + seconds
        length = _LENGTH.unpack(self._read(process, _LENGTH.size, deadline, seconds))[0]
        if length > _LONGEST:
            raise self._died("it sent what is no answer")
        try:
            answer = json.loads(self._read(process, length, deadline, seconds))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._died("it sent what is no answer")
        return answer

    def _read(self, process: subprocess.Popen[bytes], count: int, deadline: float, seconds: float) -> bytes:
        assert process.stdout is not None
        found = bytearray()
        while len(found) < count:
            self._check()
            ready, _, _ = select.select([process.stdout], [], [], _POLL_S)
            if ready:
                piece = os.read(process.stdout.fileno(), count - len(found))
                if not piece:
                    raise self._death(process)
                found += piece
            elif time.monotonic() > deadline:
                raise self._died(f"it had not finished after {seconds:.0f} s")
        return bytes(found)

    def _death(self, process: subprocess.Popen[bytes]) -> DecoderError:
        """Why a child closed its pipe."""
        try:
            status = process.wait(timeout=_LAST_BREATH_S)
        except subprocess.TimeoutExpired:
            return self._died("it closed its answers and went on")
        if status == -signal.SIGKILL:
            return self._died(_KILLED)
        if status < 0:
            return self._died(f"it crashed ({signal.Signals(-status).name})")
        return self._died(f"it ended by itself (exit status {status})")

    def _died(self, why: str) -> DecoderError:
        self.deaths += 1
        return DecoderError(why)


_KILLED = "it was killed, as a system does that runs out of memory"


def packed(candidate: Candidate) -> dict[str, Any]:
    """A candidate as JSON."""
    values = {field.name: getattr(candidate, field.name) for field in dataclasses.fields(candidate)}
    values["staged"] = str(candidate.staged)
    values["staged_mask"] = None if candidate.staged_mask is None else str(candidate.staged_mask)
    values["thumb"] = base64.b64encode(np.ascontiguousarray(candidate.thumb).tobytes()).decode()
    return values


def _candidate(values: dict[str, Any]) -> Candidate:
    thumb = np.frombuffer(base64.b64decode(values["thumb"]), np.uint8).reshape(THUMB_PX, THUMB_PX)
    mask = values["staged_mask"]
    staged = {"staged": Path(values["staged"]), "staged_mask": None if mask is None else Path(mask)}
    return Candidate(**{**values, **staged, "thumb": thumb})
