"""What every command shares: where people read, where programs read, and how errors become exit codes.

With `--json` stdout carries exactly one JSON document, also on errors, and everything for people goes to stderr.
Every document starts with the same keys: `schema_version`, `command`, `exit_code`, `error`.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exit_codes import ExitCode, exit_code_of_error
from flows.cli.faults import as_fault
from infra.proxies import bypass_local
from models.errors import HINTS, DigitizeError, ReasonCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SCHEMA_VERSION = 1
_PIPE_WIDTH = 160

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The batch specification, a YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; the rest goes to stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


class Output:
    """Where one command writes.

    Attributes:
        document: the command's own keys of the JSON document.
        exit_code: what the process will exit with.
    """

    def __init__(self, command: str, json: bool) -> None:
        self.command = command
        self.json = json
        self.document: dict[str, Any] = {}
        self.exit_code = ExitCode.OK
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The console for people: stdout, or stderr when stdout belongs to the JSON document."""
        if self._console is None:
            self._console = make_console(stderr=self.json)
        return self._console

    def say(self, *parts: str | Text, style: str = "") -> None:
        """Print one line for people. Plain strings are printed as they are: no markup is read from them."""
        from rich.text import Text

        line = Text(style=style, overflow="fold")
        for part in parts:
            line.append_text(part if isinstance(part, Text) else Text(printable(part)))
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def show(self, renderable: Any) -> None:
        """Print a table or another rich object for people."""
        self.console.print(renderable)

    def finish(self, error: DigitizeError | None) -> None:
        """Write the JSON document, if one was asked for."""
        if self.json:
            head = {
                "schema_version": SCHEMA_VERSION,
                "command": self.command,
                "exit_code": int(self.exit_code),
                "error": None if error is None else error_document(error),
            }
            sys.stdout.write(jsonlib.dumps({**head, **self.document}, indent=2, allow_nan=False) + "\n")
            sys.stdout.flush()


def make_console(stderr: bool) -> Console:
    """A console; into a pipe it is wide rather than 80 columns, so that lines stay whole."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and console.width == 80:
        console = Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)
    return console


def printable(text: str) -> str:
    """`text` with control characters written out: names of files must not move the cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def error_document(error: DigitizeError) -> dict[str, Any]:
    """An error as JSON."""
    return {
        "code": error.code.value,
        "message": error.message,
        "hint": error.hint,
        "asset": error.asset,
        "path": error.path,
        "retryable": error.retryable,
    }


def say_error(out: Output, error: DigitizeError) -> None:
    """What happened, where, and what to do; always on stderr."""
    from rich.text import Text

    console = out.console if out.json else make_console(stderr=True)
    line = Text(overflow="fold")
    line.append("error ", "bold red").append(error.code.value, "red")
    where = "  ".join(part for part in (error.asset and f"asset {error.asset}", error.path) if part)
    if where:
        line.append(f"  {printable(where)}", "bold")
    console.print(line, soft_wrap=True)
    for part in error.message.splitlines() or [""]:
        console.print(Text(f"  {printable(part)}", overflow="fold"), soft_wrap=True)
    if error.hint:
        console.print(Text(f"  {printable(error.hint)}", style="dim", overflow="fold"), soft_wrap=True)


@contextmanager
def reporting(command: str, json: bool, debug: bool) -> Iterator[Output]:
    """Run a command's body: errors are told without a traceback, and the process exits with the right code."""
    out = Output(command, json)
    found: DigitizeError | None = None
    try:
        bypass_local()
        yield out
    except (typer.Exit, typer.TyperException, BrokenPipeError):
        raise
    except KeyboardInterrupt as error:
        found = DigitizeError(ReasonCode.CANCELLED, "stopped by Ctrl-C; nothing that was committed is lost")
        _told(out, found, error, debug)
    except DigitizeError as error:
        found = error
        _told(out, found, error, debug)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        hint = HINTS[ReasonCode.INTERNAL] + ("" if debug else " --debug shows the traceback.")
        found = as_fault(error) or DigitizeError(ReasonCode.INTERNAL, message, hint)
        _told(out, found, error, debug)
    out.finish(found)
    raise typer.Exit(int(out.exit_code))


def _told(out: Output, error: DigitizeError, cause: BaseException, debug: bool) -> None:
    if debug:
        import traceback

        sys.stderr.write("".join(traceback.format_exception(cause)))
    out.exit_code = exit_code_of_error(error.code)
    say_error(out, error)
