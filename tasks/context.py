"""What a running stage is given besides its request: scratch, store, deadline, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from models.artifacts import DONE_FILE
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, Done, StageRequest
from models.store import Store

STORE_SCHEME = "store:"


class ProgressSink(Protocol):
    """Receives progress; must return at once."""

    def __call__(self, share: float, message: str, facts: dict[str, Any]) -> None:
        """`share` in [0, 1]; `facts` are JSON values such as `{"psnr": 24.1}`."""
        ...


def _silent(share: float, message: str, facts: dict[str, Any]) -> None:
    return None


def _never() -> bool:
    return False


@dataclass
class Context:
    """The surroundings of one attempt. Everything that must not change the result."""

    request: StageRequest
    scratch: Path
    """Empty local folder for temporary files; gone afterwards."""
    output: Path
    """Local folder: every file below it is committed when the stage returns."""
    store: Store
    open_store: Callable[[str], Store]
    """Opens another store by its uri: sources on S3, publish targets."""
    device: str = "cpu"
    threads: int = 1
    deadline: float | None = None
    """`time.time()` after which the stage's process will be killed."""
    progress: ProgressSink = _silent
    cancelled: Callable[[], bool] = _never
    _fetched: dict[str, Path] = field(default_factory=dict)
    _local: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """Files that were read where the store keeps them, with the sha256 that they were committed with."""

    def check(self) -> None:
        """Raise DigitizeError(cancelled or deadline) when the attempt should stop. Call it in every long loop."""
        if self.cancelled():
            raise DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True, asset=self.request.asset)
        if self.deadline is not None and time.time() > self.deadline:
            limit = self.request.resources.timeout_s
            raise DigitizeError(
                ReasonCode.DEADLINE,
                f"stage {self.request.stage} did not finish within {limit:g} s",
                asset=self.request.asset,
            )

    def input(self, name: str) -> ArtifactRef:
        """The input of that name. Raises KeyError: a missing input is a defect of the flow, not of the user."""
        return self.request.inputs[name]

    def done(self, name: str) -> Done:
        """The commit that input `name` comes from: its method, effective options, facts and reasons."""
        done = self.find_done(name)
        if done is None:
            prefix = self.input(name).uri.removeprefix(STORE_SCHEME).partition("/attempts/")[0]
            raise DigitizeError(
                ReasonCode.CHECKSUM_MISMATCH,
                f"expected a committed stage, found no {DONE_FILE}",
                asset=self.request.asset,
                path=prefix,
            )
        return done

    def find_done(self, name: str) -> Done | None:
        """The commit that input `name` comes from; None where it is not committed work."""
        folder, found, _ = self.input(name).uri.removeprefix(STORE_SCHEME).partition("/attempts/")
        data = self.store.get_bytes(f"{folder}/{DONE_FILE}") if found else None
        return None if data is None else Done.model_validate_json(data)

    def fetch(self, name: str, path: str) -> Path:
        """A local, read-only file of input `name`. It is verified against its sha256 when it had to be copied here;
        where the store keeps it on this machine, `verify_inputs` does so once the stage has ended."""
        ref = self.input(name)
        if not ref.uri.startswith(STORE_SCHEME):
            raise ValueError(f"input {name} is not committed work: {ref.uri}")
        key = f"{ref.uri.removeprefix(STORE_SCHEME)}/{path}"
        expected = next((file.sha256 for file in ref.files if file.path == path), None)
        if (local := self.store.local_path(key)) is not None:
            if expected is not None:
                self._local[key] = (local, expected)
            return local
        if key not in self._fetched:
            target = self.scratch / "inputs" / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.get_file(key, target)
            if expected is not None and sha256_file(target) != expected:
                raise DigitizeError(
                    ReasonCode.CHECKSUM_MISMATCH,
                    f"expected sha256 {expected}, found other bytes",
                    retryable=True,
                    asset=self.request.asset,
                    path=key,
                )
            self._fetched[key] = target
        return self._fetched[key]

    def verify_inputs(self) -> None:
        """Raise DigitizeError(checksum_mismatch) when a file that was read is not what was committed.

        A stage that fails on a damaged file says what it stumbled over; this says why.
        """
        for key, (path, expected) in self._local.items():
            found = sha256_file(path) if path.is_file() else None
            if found != expected:
                raise DigitizeError(
                    ReasonCode.CHECKSUM_MISMATCH,
                    f"expected sha256 {expected}, found {'no file' if found is None else 'other bytes'}",
                    asset=self.request.asset,
                    path=key,
                )

    def fetch_folder(self, name: str, folder: str) -> Path:
        """A local folder with every file below `folder` of input `name` (committed work).

        Raises DigitizeError(source_not_found) when there is none.
        """
        found = None
        for file in self.input(name).files:
            if file.path.startswith(f"{folder}/"):
                depth = len(Path(file.path).parts) - len(Path(folder).parts)
                found = self.fetch(name, file.path).parents[depth - 1]
        if found is None:
            message = f"expected files in {folder}/ of {name}, found none"
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, asset=self.request.asset, path=folder)
        return found

    def save_checkpoint(self, name: str, path: Path) -> None:
        """Keep a file for the next attempt at this key. Atomic: a kill leaves the old one or the new one."""
        self.store.put_file(f"{self.request.prefix}/checkpoints/{name}", path)

    def load_checkpoint(self, name: str) -> Path | None:
        """A local copy of a file that an earlier attempt saved, or None."""
        key = f"{self.request.prefix}/checkpoints/{name}"
        if self.store.stat(key) is None:
            return None
        target = self.scratch / "checkpoints" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.store.get_file(key, target)
        return target
