"""The exit codes of the command line: the one place. `docs/errors.md` prints this table."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from models.errors import ReasonCode
from models.status import Phase


class ExitCode(IntEnum):
    """What a script can act on. Assets marked for review count as done: the output says so loudly."""

    OK = 0
    """Everything asked for is done; every asset is accepted or marked for review."""
    INTERNAL = 1
    """A defect of digitize itself."""
    USAGE = 2
    """The command line or the specification is wrong; nothing was started."""
    REJECTED = 3
    """Some asset was judged unfit; photograph it again as its reasons say."""
    FAILED = 4
    """Some asset could not be worked on, was lost or was cancelled; the others went on."""
    NOT_READY = 5
    """This machine or the store cannot do the work: `digitize doctor` says why."""
    CANCELLED = 130
    """Stopped by Ctrl-C or SIGTERM; what was committed is kept."""


_USAGE = frozenset(
    {ReasonCode.SPEC_INVALID, ReasonCode.NOT_BUILT_YET, ReasonCode.SOURCE_NOT_FOUND, ReasonCode.SOURCE_EMPTY}
)
_NOT_READY = frozenset(
    {
        ReasonCode.STORE_UNREACHABLE,
        ReasonCode.CHECKSUM_MISMATCH,
        ReasonCode.OUT_OF_DISK,
        ReasonCode.OUT_OF_MEMORY,
        ReasonCode.MISSING_DEPENDENCY,
        ReasonCode.ENVIRONMENT,
    }
)


def exit_code_of_error(code: ReasonCode) -> ExitCode:
    """The exit code of a command that stopped with this error."""
    if code in _USAGE:
        return ExitCode.USAGE
    if code in _NOT_READY:
        return ExitCode.NOT_READY
    return {ReasonCode.CANCELLED: ExitCode.CANCELLED, ReasonCode.INTERNAL: ExitCode.INTERNAL}.get(code, ExitCode.FAILED)


def exit_code_of_phases(phases: Iterable[Phase]) -> ExitCode:
    """The exit code of a batch whose assets stand like this: failures weigh more than rejections."""
    found = set(phases)
    if found & {Phase.QUARANTINED, Phase.CANCELLED}:
        return ExitCode.FAILED
    return ExitCode.REJECTED if Phase.REJECTED in found else ExitCode.OK
