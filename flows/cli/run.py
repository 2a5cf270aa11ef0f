"""`run` and `rerun`: bring a batch as far as it gets, and say how it ended."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.exit_codes import ExitCode, exit_code_of_phases
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, printable, reporting
from flows.cli.plan import AssetOption

if TYPE_CHECKING:
    from flows.batch import BatchOutcome
    from flows.plan.committed import BatchPlan
    from flows.status.account import Places
    from infra.settings import RunSettings
    from models.spec_yaml import SpecFile
    from models.stage import Stage
    from models.status import AssetStatus

RunnerOption = Annotated[
    Literal["inline", "ray"] | None,
    typer.Option("--runner", help="Where stages run: child processes here, or Ray. Else DIGITIZE_RUNNER."),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray-address", metavar="ADDRESS", help="auto, host:port, ray://host:port or http://host:8265."),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="STAGE", help="The last stage to run; the next run goes on from there.")
]
AtOnceOption = Annotated[int | None, typer.Option("--at-once", metavar="N", min=1, help="Assets in flight.")]


def run(
    spec: SpecArgument,
    asset: AssetOption = None,
    runner: RunnerOption = None,
    ray_address: RayOption = None,
    at_once: AtOnceOption = None,
    until: UntilOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a batch; what is committed is reused.

    What was interrupted goes on where it stopped. Assets that fail never stop the others.
    """
    with reporting("run", json, debug) as out:
        from flows.runner.ray_jobs import is_jobs_address

        settings = _settings(runner, ray_address, at_once)
        if settings.runner == "ray" and is_jobs_address(settings.ray_address):
            _run_as_job(out, spec, asset, settings, until)
            return
        spec_file, plan = _plan(spec, asset)
        if until is not None:
            last = _stage(until)
            plan = replace(plan, assets=tuple(each.up_to(last) for each in plan.assets))
        _run(out, spec_file, plan, settings)


def _stage(name: str) -> Stage:
    """The stage of that name. Raises typer.BadParameter with all names where there is none."""
    from models.stage import Stage
    from tasks import registry

    if name not in registry.stages():
        raise typer.BadParameter(f"expected one of {', '.join(registry.stages())}, found '{name}'")
    return Stage(name)


def _run_as_job(out: Output, spec: Path, assets: list[str] | None, settings: RunSettings, until: str | None) -> None:
    """Hand the run to a Ray cluster and repeat what it says."""
    from flows.runner.ray_jobs import run_as_job
    from models.spec_yaml import load_spec

    assert settings.ray_address is not None
    arguments = [part for name in assets or () for part in ("--asset", name)]
    if settings.assets_at_once:
        arguments += ["--at-once", str(settings.assets_at_once)]
    if until is not None:
        arguments += ["--until", until]
    environment = {"DIGITIZE_RUNNER": "ray", "DIGITIZE_RAY_ADDRESS": "auto"}
    if api := os.environ.get("PREFECT_API_URL"):
        environment["PREFECT_API_URL"] = api
    job, code = run_as_job(settings.ray_address, load_spec(spec), arguments, environment, out.say)
    out.document = {"job": job}
    out.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.INTERNAL


def rerun(
    spec: SpecArgument,
    stage: Annotated[str, typer.Option("--from", help="The first stage to do again.")],
    asset: AssetOption = None,
    runner: RunnerOption = None,
    ray_address: RayOption = None,
    at_once: AtOnceOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Do a stage, and everything after it, again."""
    with reporting("rerun", json, debug) as out:
        from flows.housekeeping.forget import forget_from
        from infra.storage import open_store

        first = _stage(stage)
        settings = _settings(runner, ray_address, at_once)
        spec_file, plan = _plan(spec, asset)
        store = open_store(plan.store_uri)
        forgotten = {each.id: forget_from(each, store, first) for each in plan.assets}
        for name, stages in forgotten.items():
            if stages:
                out.say(f"{name}: doing again {', '.join(stages)}", style="dim")
        _run(out, spec_file, plan, settings)
        out.document["forgotten"] = {name: list(stages) for name, stages in forgotten.items()}


def _settings(runner: str | None, ray_address: str | None, at_once: int | None) -> RunSettings:
    from infra.settings import RunSettings

    given: dict[str, Any] = {"runner": runner, "ray_address": ray_address, "assets_at_once": at_once}
    return RunSettings(**{name: value for name, value in given.items() if value is not None})


def _plan(spec: Path, assets: list[str] | None) -> tuple[SpecFile, BatchPlan]:
    from flows.plan.batch_plan import plan_batch
    from flows.plan.captures import load_batch

    spec_file = load_batch(spec)
    return spec_file, plan_batch(spec_file, assets or ())


def _run(out: Output, spec_file: SpecFile, plan: BatchPlan, settings: RunSettings) -> None:
    from flows.batch import run_batch
    from flows.cli.live import watching
    from flows.cli.status import asset_document
    from flows.forecast.estimate import forecast
    from flows.forecast.eta import Eta
    from flows.forecast.history import History
    from flows.forecast.room import room, shortages, totals
    from flows.plan.walks import Walks
    from flows.status.account import find_places
    from flows.status.board import Board
    from flows.status.intake import passed_over
    from infra.storage import open_store

    store = open_store(plan.store_uri)
    walks = Walks(plan, store)
    board, eta = Board(plan.name, [asset.id for asset in plan.assets]), None
    watch: AbstractContextManager[None] = nullcontext()
    if any(map(walks.is_open, walks)):
        forecasts = forecast(plan, walks, History.of(store))
        for warning in shortages(totals(plan, forecasts, 1), room(plan, settings)):
            out.say(f"too little {printable(warning)}", style="yellow")
        eta = Eta(forecasts)
        watch = watching(out.console, board, eta)
    with watch:
        outcome = run_batch(plan, settings, board=board, walks=walks, eta=eta)
    if outcome.run is not None:
        _note(out, plan, outcome)
    rows = [(status, find_places(store, status)) for status in outcome.statuses.values()]
    passed = {each.id: passed_over(spec_file, each) for each in spec_file.spec.assets if each.id in outcome.statuses}
    _say_outcome(out, spec_file.path, outcome, rows, passed)
    out.document = {
        "batch": plan.name,
        "store": store.uri,
        "ran": not outcome.all_committed,
        "cancelled": outcome.cancelled,
        "seconds": round(outcome.seconds, 3),
        "run": outcome.run,
        "gpu_hours": round(outcome.gpu_hours, 4),
        "left": list(outcome.left),
        "notes": list(outcome.notes),
        "counts": {phase.value: count for phase, count in outcome.counts.items()},
        "assets": [asset_document(status, places) | _intake(status, passed) for status, places in rows],
    }
    out.exit_code = ExitCode.CANCELLED if outcome.cancelled else exit_code_of_phases(outcome.counts)


def _note(out: Output, plan: BatchPlan, outcome: BatchOutcome) -> None:
    """Tell the catalogue, so that nights know what was done by hand and what it took."""
    from flows.nightly.ledger import recorded
    from infra.catalogue import Catalogue
    from models.errors import DigitizeError

    try:
        errors = recorded(Catalogue(), plan, outcome)
    except DigitizeError as error:
        errors = [str(error)]
    for each in errors:
        out.say(f"not noted in the catalogue: {each}", style="dim")


def _intake(status: AssetStatus, passed: dict[str, list[str]]) -> dict[str, Any]:
    """What of an asset's files was not used."""
    from flows.status.intake import lines_of

    return {"not_used": lines_of(status), "passed_over": passed.get(status.asset, [])}


def _say_outcome(
    out: Output,
    spec: Path,
    outcome: BatchOutcome,
    rows: list[tuple[AssetStatus, Places]],
    passed: dict[str, list[str]],
) -> None:
    from flows.cli.style import duration

    for status, places in rows:
        _say_asset(out, status, places)
        intake = _intake(status, passed)
        for name, lines in (("photos ", intake["not_used"]), ("passed ", intake["passed_over"])):
            for line in lines:
                out.say(printable(f"    {name} {line}"), style="dim")
    if outcome.all_committed:
        out.say("\neverything was committed already: nothing to do", style="green")
    accepted, review = (sum(s.verdict == word for s, _ in rows) for word in ("accept", "review"))
    words = [f"{accepted} accepted"] if accepted else []
    words += [f"{review} to review"] if review else []
    words += [f"{count} {phase.value}" for phase, count in outcome.counts.items() if phase.value != "done"]
    style = "bold green" if accepted == len(rows) else "bold yellow"
    out.say(f"\n{', '.join(words)} in {duration(outcome.seconds)}", style=style)
    for note in outcome.notes:
        out.say(printable(note), style="yellow")
    if outcome.left:
        spent = f"{outcome.gpu_hours:.2f} GPU hours are spent, the others do not fit into the budget"
        out.say(f"{len(outcome.left)} left for the next run: {spent}", style="yellow")
    begun = sum(status.phase.value == "pending" for status, _ in rows) - len(outcome.left)
    if begun and not outcome.cancelled:
        out.say(f"{begun} as far as was asked; go on: digitize run {spec}", style="dim")
    if outcome.cancelled:
        out.say("stopped; nothing that was committed is lost. Go on: digitize run " + str(spec), style="yellow")
    unclear = [status.asset for status, _ in rows if status.verdict != "accept" and status.phase.value != "cancelled"]
    if unclear:
        out.say(f"more: digitize explain {spec} {unclear[0]}", style="dim")


_OUTCOME_MARKS = {
    "accept": ("✓", "bold green"),
    "review": ("!", "bold yellow"),
    "reject": ("✗", "bold red"),
    "quarantined": ("✗", "bold red"),
    "cancelled": ("–", "yellow"),
}


def _say_asset(out: Output, status: AssetStatus, places: Places) -> None:
    from rich.text import Text

    from flows.cli.style import duration, plain, reasons_text, stepped_down_lines

    ended = status.phase.value in ("quarantined", "cancelled") or status.verdict is None
    word = status.phase.value if ended or status.verdict is None else status.verdict.value
    mark, style = _OUTCOME_MARKS.get(word, ("·", "dim"))
    spent = sum(stage.seconds or 0.0 for stage in status.stages.values())
    line = Text(f"{mark} {word:<11}  ", style).append_text(plain(status.asset, "bold"))
    out.say(line.append(f"  {duration(spent)}" if spent else "", "dim"))
    if status.failure is not None and word != "cancelled":
        stage = f"{status.failure.stage}: " if status.failure.stage else ""
        out.say(plain(f"    {status.failure.code.value}  {stage}{status.failure.message}"))
        out.say(plain(f"    {status.failure.hint}", "dim"))
    if status.reasons:
        indented = Text("\n").join(Text("    ") + each for each in reasons_text(status.reasons).split("\n"))
        out.say(indented)
    for smaller in stepped_down_lines(status):
        out.say(Text("    smaller settings  ", "yellow"), plain(smaller))
    for name, path in (("model ", places.model), ("report", places.report)):
        if path:
            out.say(Text(f"    {name}  ", "dim"), plain(_short_path(path)))
    for path in places.held:
        held = f"not at {_short_path(path)}: it waits for review; look, then publish it with `minimum_verdict: review`"
        out.say(Text("    held    ", "yellow"), plain(held))
    for path in places.gone:
        out.say(
            Text("    gone    ", "yellow"), plain(f"{_short_path(path)}: publish it again with rerun --from publish")
        )


def _short_path(path: str) -> str:
    """A path from here when that is shorter."""
    if "://" in path:
        return path
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path
