"""Inputs that are missing, empty, cut off or garbage, and what a method may do about them.

A damaged file of committed work is one whose bytes are not what was committed: a bad disk, a bad copy. What a user
gave is damaged before it is planned, and so has a digest of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from flows.contract.subject import Subject
from flows.plan.sources import source_ref
from models.errors import DigitizeError, ReasonCode
from models.quality import Verdict
from models.results import ArtifactRef, Done, StageRequest

KINDS = ("missing", "empty", "truncated", "garbage")
"""A quick run takes all of them for what a user gives, and one for each group of committed files, in turn: the line
verifies these itself."""
_NOT_THEIRS = frozenset({ReasonCode.INTERNAL, ReasonCode.WORKER_LOST, ReasonCode.CANCELLED, ReasonCode.DEADLINE})


def complaints(subject: Subject, every_kind: bool = False) -> Iterator[str]:
    """For each group of files that the method read, and each kind of damage: how it ended, where that is wrong."""
    _, seen = subject.watched
    reference, number = subject.reference.done, 0
    for name, ref in sorted(subject.request.inputs.items()):
        is_committed = ref.uri.startswith("store:")
        if is_committed:
            groups = _groups(sorted(path for read, path in seen.fetched if read == name))
        else:
            groups = {"": [file.path for file in ref.files]} if not ref.uri.startswith("package:") else {}
        for group, paths in groups.items():
            number += 1
            in_turn = KINDS[number % len(KINDS) :: len(KINDS)]
            for kind in in_turn if is_committed and not every_kind else KINDS:
                request = _damaged(subject, name, ref, paths, kind)
                found = _ended(subject, request, reference)
                if found is not None:
                    yield f"{kind} {name} {group or 'as given'}: {found}"


def _groups(paths: list[str]) -> dict[str, list[str]]:
    """Files of one folder and suffix belong together."""
    found: dict[str, list[str]] = {}
    for path in paths:
        parent = Path(path).parent.as_posix()
        found.setdefault(path if parent == "." else f"{parent}/*{Path(path).suffix}", []).append(path)
    return found


def _damaged(subject: Subject, name: str, ref: ArtifactRef, paths: list[str], kind: str) -> StageRequest:
    """The request with input `name` damaged."""
    if ref.uri.startswith("store:"):
        root = subject.capture.store.root
        source = root / ref.uri.removeprefix("store:")
        copy = source.with_name("damaged")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        for path in paths:
            _spoil(copy / path, kind)
        changed = ref.model_copy(update={"uri": f"store:{copy.relative_to(root).as_posix()}"})
    else:
        changed = _damaged_source(subject, name, ref, kind)
    return subject.request.model_copy(update={"inputs": {**subject.request.inputs, name: changed}})


def _damaged_source(subject: Subject, name: str, ref: ArtifactRef, kind: str) -> ArtifactRef:
    source, copy = Path(ref.uri), subject.bench.folder / "damaged" / Path(ref.uri).name
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    if kind == "missing":
        return ref.model_copy(update={"uri": str(copy)})
    if source.is_file():
        shutil.copy(source, copy)
    else:
        shutil.copytree(source, copy)
    for path in [copy] if copy.is_file() else sorted(each for each in copy.rglob("*") if each.is_file()):
        _spoil(path, kind)
    return source_ref(str(copy))


def _spoil(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    else:
        spoilt = {"empty": b"", "truncated": data[: len(data) // 2], "garbage": b"\x93garbage\x00\xff{" * 20}
        path.write_bytes(spoilt[kind])


def _ended(subject: Subject, request: StageRequest, reference: Done) -> str | None:
    """What is wrong with how a run on damaged files ended; None for what the contract allows.

    Allowed are an error with a reason code, the asset and the file; a rejection with reasons; and the result of whole
    files, where only a file went that the method can do without.
    """
    try:
        done = subject.run(request)
    except DigitizeError as error:
        if error.code in _NOT_THEIRS:
            return f"expected an error that says what to do, found {error}"
        missing = [name for name, value in (("asset", error.asset), ("file", error.path)) if not value]
        if "file" in missing and any(
            file.path in error.message for ref in request.inputs.values() for file in ref.files
        ):
            missing.remove("file")
        return f"expected the {' and the '.join(missing)} in the error, found {error}" if missing else None
    if done.result.verdict is Verdict.REJECT and done.result.reasons:
        return None
    if {file.path: file.sha256 for file in done.files} == {file.path: file.sha256 for file in reference.files}:
        return None
    return "expected an error or a rejection, found a result that differs from that of whole files"
