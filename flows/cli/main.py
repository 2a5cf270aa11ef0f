"""The command line `digitize`. Commands import what they need when they are called, so that it starts at once."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence

import typer

from flows.cli.contract import contract
from flows.cli.doctor import doctor
from flows.cli.exit_codes import ExitCode
from flows.cli.housekeeping import gc, rollback, verify, withdraw
from flows.cli.masks import masks
from flows.cli.nightly import nightly
from flows.cli.output import SCHEMA_VERSION
from flows.cli.plan import plan
from flows.cli.render import render
from flows.cli.run import rerun, run
from flows.cli.services import down, up
from flows.cli.spec import init, sample, schema, validate
from flows.cli.status import explain, status
from flows.cli.uploads import uploads

_EPILOG = (
    "Exit codes: 0 done (accepted or to review), 1 defect, 2 wrong usage or specification, 3 some asset rejected, "
    "4 some asset failed, 5 machine or store not ready, 130 stopped."
)

app = typer.Typer(
    name="digitize",
    help="Photo sets in, published and measured 3D assets out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_START, _WORK, _LOOK, _KEEP = "Begin", "Work", "Look", "Keep house"
for _command, _panel in (
    (sample, _START),
    (init, _START),
    (validate, _START),
    (schema, _START),
    (plan, _WORK),
    (run, _WORK),
    (rerun, _WORK),
    (nightly, _WORK),
    (uploads, _WORK),
    (up, _WORK),
    (down, _WORK),
    (status, _LOOK),
    (explain, _LOOK),
    (render, _LOOK),
    (masks, _LOOK),
    (doctor, _LOOK),
    (contract, _LOOK),
    (verify, _KEEP),
    (gc, _KEEP),
    (rollback, _KEEP),
    (withdraw, _KEEP),
):
    app.command(rich_help_panel=_panel)(_command)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
) -> None:
    if version:
        import importlib.metadata

        try:
            typer.echo(f"digitize {importlib.metadata.version('asset-digitizer')}")
        except importlib.metadata.PackageNotFoundError:
            typer.echo("digitize, not installed as a package")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Wrong usage under `--json` is a JSON document too; SIGTERM stops like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if "--json" not in arguments:
        app(arguments, prog_name="digitize")
    try:
        code = app(arguments, prog_name="digitize", standalone_mode=False)
    except typer.TyperException as error:
        sys.stdout.write(json.dumps(_usage_document(arguments, error.format_message()), indent=2) + "\n")
        sys.exit(ExitCode.USAGE)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _usage_document(arguments: Sequence[str], message: str) -> dict[str, object]:
    command = next((each for each in arguments if not each.startswith("-")), None)
    error = {
        "code": "spec_invalid",
        "message": message,
        "hint": f"digitize {command} --help" if command else "digitize --help",
        "asset": None,
        "path": None,
        "retryable": False,
    }
    return {"schema_version": SCHEMA_VERSION, "command": command, "exit_code": int(ExitCode.USAGE), "error": error}
