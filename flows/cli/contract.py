"""`contract`: does a method keep the contract that the line relies on?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, reporting

if TYPE_CHECKING:
    from flows.contract.subject import Bench
    from flows.contract.suite import Check
    from models.stage import Stage

_SHOWN = 20
"""Complaints of one check that are printed; `--json` has them all."""


def contract(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="The stage, `train` for example.")],
    method: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="The method; all methods of the stage when left out.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="A method option for these runs; may be repeated."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="FOLDER", help="Keep the captures and the results there."),
    ] = None,
    every_kill: Annotated[
        bool,
        typer.Option("--every-kill", help="Kill it at many points rather than once, and try every kind of damage."),
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check a method of a stage on a tiny synthetic sphere.

    Declarations, a run on a CPU, the sphere that must come out, determinism, a kill and the resume after it, and
    missing, empty, truncated and garbage inputs. Methods of installed packages are found by their entry points.
    """
    with reporting("contract", json, debug) as out:
        from tasks import registry

        known = _stage(stage)
        names = registry.methods(known) if method is None else (method,)
        for name in names:
            registry.method(known, name)
        more = dict(_pair(each) for each in option or ())
        with _bench(folder) as bench:
            checks = {name: _check(out, known, name, bench, more, every_kill) for name in names}
        failed = sum(not check.passed for found in checks.values() for check in found)
        if failed:
            out.exit_code = ExitCode.FAILED
            out.say(f"\n{failed} check{'s' if failed != 1 else ''} failed", style="bold red")
        else:
            out.say("\nall checks passed", style="bold green")
        out.document = {
            "stage": stage,
            "passed": failed == 0,
            "methods": {name: [_row(check) for check in found] for name, found in checks.items()},
        }


def _stage(name: str) -> Stage:
    """The stage of that name. Raises DigitizeError(not_built_yet) where there is none."""
    from models.errors import DigitizeError, ReasonCode
    from models.stage import Stage
    from tasks import registry

    try:
        registry.stage_module(stage := Stage(name))
    except ValueError as error:
        known = ", ".join(registry.stages())
        message = f"expected one of the stages {known}, found '{name}'"
        raise DigitizeError(ReasonCode.NOT_BUILT_YET, message) from error
    return stage


def _pair(text: str) -> tuple[str, Any]:
    """`key=value`, the value read as YAML. Raises typer.BadParameter."""
    import yaml

    key, found, value = text.partition("=")
    if not (key and found):
        raise typer.BadParameter(f"expected KEY=VALUE, found '{text}'", param_hint="--option")
    return key, yaml.safe_load(value)


@contextmanager
def _bench(folder: Path | None) -> Iterator[Bench]:
    """The captures in a folder, or in a temporary one."""
    import tempfile

    from flows.contract.subject import Bench

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield Bench(folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="digitize-contract-") as temporary:
        yield Bench(Path(temporary))


def _check(out: Output, stage: Stage, name: str, bench: Bench, more: dict[str, Any], every_kill: bool) -> list[Check]:
    """Make the checks of one method, and print each as it ends."""
    from flows.contract.suite import check_method

    out.say(f"{stage} {name}", style="bold")
    found = []
    for check in check_method(stage, name, bench, more, every_kill):
        _say(out, check)
        found.append(check)
    return found


def _say(out: Output, check: Check) -> None:
    from flows.cli.style import plain

    mark, style = ("✓", "green") if check.passed else ("✗", "bold red")
    if check.skipped:
        mark, style = "-", "yellow"
    out.say(plain(f"  {mark} {check.name}", style), f"  {check.skipped or f'{check.seconds:.1f} s'}")
    for complaint in check.complaints[:_SHOWN]:
        out.say(f"      {complaint}")
    if (rest := len(check.complaints) - _SHOWN) > 0:
        out.say(f"      and {rest} more", style="dim")


def _row(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "passed": check.passed,
        "skipped": check.skipped or None,
        "complaints": list(check.complaints),
        "seconds": check.seconds,
    }
