"""`doctor`: is this machine, and the store, ready?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, reporting

if TYPE_CHECKING:
    from flows.machine.doctor import Check, Thunk

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "bold yellow"), "fail": ("✗", "bold red")}


def doctor(
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC", help="Also try this batch's store and networks.")
    ] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="URI", help="Also try this store.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check this machine and the store.

    Python, packages, memory, disk, GPU; with SPEC or --store also a round trip of conditional writes there; with SPEC
    the networks that it gives for masks.
    """
    with reporting("doctor", json, debug) as out:
        from flows.machine.doctor import Level, answer, check_machine
        from infra.settings import RunSettings

        found = []
        for check in answer([*check_machine(RunSettings()), *_store_checks(spec, store)]):
            _say_check(out, check)
            found.append(check)
        fails, warns = (sum(check.level is level for check in found) for level in (Level.FAIL, Level.WARN))
        if fails:
            out.exit_code = ExitCode.NOT_READY
            out.say(f"\nnot ready: {fails} to mend" + (f", {warns} to look at" if warns else ""), style="bold red")
        else:
            out.say("\nready" + (f", {warns} to look at" if warns else ""), style="bold green")
        out.document = {
            "ready": fails == 0,
            "checks": [
                {"name": each.name, "level": each.level.value, "found": each.found, "advice": each.advice}
                for each in found
            ],
        }


def _store_checks(spec: Path | None, store: str | None) -> list[Thunk]:
    from flows.machine.doctor import check_runs, check_store
    from flows.machine.mask_networks import check_networks
    from flows.status.account import read_statuses
    from infra.storage import open_store
    from models.spec_yaml import load_spec

    checks: list[Thunk] = []
    if spec is not None:
        spec_file = load_spec(spec)
        uri, batch = spec_file.resolve(spec_file.spec.store), spec_file.spec.name
        checks.append(lambda: [check_store(uri)])
        checks.append(lambda: [check_runs(read_statuses(open_store(uri), batch))])
        checks.append(lambda: list(check_networks(spec_file)))
        for target in spec_file.spec.publish:
            place = spec_file.resolve(target.to)
            checks.append(_bound(place, "publish"))
    if store is not None:
        checks.append(_bound(store, "store"))
    return checks


def _bound(uri: str, name: str) -> Thunk:
    from flows.machine.doctor import check_store

    return lambda: [check_store(uri, name)]


def _say_check(out: Output, check: Check) -> None:
    from rich.text import Text

    from flows.cli.style import plain

    mark, style = _MARKS[check.level.value]
    out.say(Text(f"{mark} {check.name:<10}", style), plain(check.found))
    if check.advice:
        out.say(plain(f"  {'':<10}{check.advice}", "dim"))
