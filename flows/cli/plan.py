"""`plan`: what a run would do, how long it takes, and whether this machine is enough for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, printable, reporting, say_error

if TYPE_CHECKING:
    from rich.text import Text

    from flows.forecast.estimate import AssetForecast, Forecast
    from flows.forecast.room import Room, Totals
    from flows.plan.committed import AssetPlan
    from infra.settings import RunSettings
    from models.store import Store

AssetOption = Annotated[
    list[str] | None, typer.Option("--asset", metavar="ID", help="Only this asset; may be repeated.")
]


ManyOption = Annotated[
    int | None, typer.Option("--assets", metavar="N", min=1, help="Plan a programme of N assets like these.")
]
GpusOption = Annotated[
    list[int] | None, typer.Option("--gpus", metavar="N", min=0, help="With --assets: GPUs; may be repeated.")
]
CoresOption = Annotated[float, typer.Option("--cores", min=1, help="With --assets: CPU cores for each GPU.")]
GpuGbOption = Annotated[float, typer.Option("--gpu-gb", min=1, help="With --assets: memory of a GPU in GB.")]
PriceOption = Annotated[float, typer.Option("--gpu-price", min=0, help="With --assets: of one GPU for one hour.")]
MtbfOption = Annotated[
    float, typer.Option("--lost-after", min=0.1, help="With --assets: GPU hours between two lost machines.")
]


def plan(
    spec: SpecArgument,
    asset: AssetOption = None,
    assets: ManyOption = None,
    gpus: GpusOption = None,
    cores: CoresOption = 16.0,
    gpu_gb: GpuGbOption = 24.0,
    gpu_price: PriceOption = 0.0,
    lost_after: MtbfOption = 500.0,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a run would do, how long it takes, what it needs.

    With --assets: how long a programme of so many assets like these takes on clusters of 1, 10, 100 and 1,000 GPUs,
    simulated with the times that these assets took or are expected to take.
    """
    if assets is not None:
        from flows.cli.plan_fleet import plan_programme

        plan_programme(spec, asset, assets, gpus, cores, gpu_gb, gpu_price, lost_after, json, debug)
        return
    with reporting("plan", json, debug) as out:
        from flows.cli.exit_codes import ExitCode
        from flows.cli.output import error_document
        from flows.forecast.estimate import forecast
        from flows.forecast.history import History
        from flows.forecast.room import room, shortages, totals
        from flows.machine.mask_networks import network_lines, network_of
        from flows.plan.batch_plan import plan_batch
        from flows.plan.captures import load_batch
        from flows.plan.walks import Walks
        from infra.settings import RunSettings
        from infra.storage import open_store

        settings = RunSettings()
        spec_file = load_batch(spec)
        batch = plan_batch(spec_file, asset or ())
        store = open_store(batch.store_uri)
        walks = Walks(batch, store)
        forecasts = forecast(batch, walks, History.of(store))
        at_once, notes = _width([each for each in batch.assets if walks.is_open(each.id)], forecasts, settings, store)
        total = totals(batch, forecasts, at_once)
        here = room(batch, settings)
        warnings = [*shortages(total, here), *notes]
        lines = network_lines(spec_file, {each.id: each.stages for each in batch.assets})
        _say_plan(out, forecasts, total, here, warnings, lines)
        given = {each.id: each for each in spec_file.spec.assets}
        networks = {each.id: network_of(given.get(each.id), each.stages) for each in batch.assets}
        for error in batch.unusable.values():
            say_error(out, error)
        if batch.unusable:
            out.exit_code = ExitCode.FAILED
        out.document = {
            "batch": batch.name,
            "store": batch.store_uri,
            "assets": [_asset_document(each) | {"mask_network": networks[each.id]} for each in forecasts],
            "unusable": {name: error_document(error) for name, error in batch.unusable.items()},
            "total": _total_document(total, here),
            "warnings": warnings,
        }


def _width(
    plans: list[AssetPlan], forecasts: list[AssetForecast], settings: RunSettings, store: Store
) -> tuple[int, list[str]]:
    """How many assets a run would have in flight, as it decides itself, and what stands in the way."""
    from flows.forecast.eta import Eta
    from flows.forecast.preflight import prepare
    from flows.runner.make import machines_of
    from models.errors import DigitizeError

    if not plans:
        return 1, []
    try:
        with machines_of(settings, store.uri) as machines:
            found, _ = prepare(plans, Eta(forecasts), settings, store.uri, machines)
    except DigitizeError as error:
        at_once = settings.assets_at_once or 1
        return at_once, [f"knowledge of where stages run: {error.message}; times are for {at_once} at once"]
    return found.at_once, list(found.notes)


def _asset_document(asset: AssetForecast) -> dict[str, Any]:
    return {
        "id": asset.id,
        "photos": asset.photos,
        "stages": {
            stage: {
                "state": each.outlook.value,
                "method": each.method,
                "seconds": _range(each.seconds) if each.runs else None,
                "memory_gb": round(each.memory_gb, 3) if each.runs else None,
                "samples": each.samples,
            }
            for stage, each in asset.stages.items()
        },
        "choices": {str(stage): list(names) for stage, names in asset.choices.items()},
        "rejected": [each.model_dump(mode="json") for each in asset.tried],
    }


def _total_document(total: Totals, here: Room) -> dict[str, Any]:
    return {
        "stages": total.stages,
        "seconds": _range(total.seconds),
        "at_once": total.at_once,
        "memory_gb": round(total.memory_gb, 3),
        "scratch_gb": round(total.scratch_gb, 3),
        "store_gb": round(total.store_gb, 3),
        "available": {
            name: None if value is None else round(value, 3)
            for name, value in (
                ("memory_gb", here.memory_gb),
                ("scratch_gb", here.scratch_gb),
                ("store_gb", here.store_gb),
            )
        },
    }


def _range(seconds: tuple[float, float, float]) -> dict[str, float]:
    low, expected, high = (round(each, 1) for each in seconds)
    return {"low": low, "expected": expected, "high": high}


def _say_plan(
    out: Output, assets: list[AssetForecast], total: Totals, here: Room, warnings: list[str], networks: list[str]
) -> None:
    from flows.cli.style import duration, plain, span, table
    from tasks import registry

    grid = table("asset", "photos", *registry.stages(), "time", right=("photos",))
    for column in grid.columns[1:]:
        column.no_wrap = True
    for asset in assets:
        running = [each for each in asset.stages.values() if each.runs]
        low, high = (sum(each.seconds[i] for each in running) for i in (0, 2))
        cells = (_cell(each) for each in asset.stages.values())
        time = span(low, high) if running else plain("–", "dim")
        grid.add_row(plain(asset.id, "bold"), str(asset.photos), *cells, time)
    if total.stages:
        grid.add_section()
        grid.add_row(plain("memory", "dim"), "", *_memory_cells(assets), "")
    if assets:
        out.show(grid)
        out.say("✓ cached   ▸ will run   · waits for the stage before it   – not reached, rejected before", style="dim")
        for line in (*_choice_lines(assets), *networks):
            out.say(line, style="dim")
    if total.stages == 0:
        out.say("\neverything is committed: a run has nothing to do" if assets else "", style="green")
        return
    low, expected, high = total.seconds
    pace = f", {total.at_once} assets at once" if total.at_once > 1 else ""
    work = f"{total.stages} stage{'s' if total.stages > 1 else ''} to run"
    out.say(f"\n{work}, about {duration(expected)} ({span(low, high)}{pace})", style="bold")
    needs = (
        ("memory", total.memory_gb, here.memory_gb),
        ("scratch", total.scratch_gb, here.scratch_gb),
        ("store about", total.store_gb, here.store_gb),
    )
    parts = [f"{what} {need:.1f}{'' if has is None else f' of {has:.0f}'} GB" for what, need, has in needs]
    out.say(", ".join(parts), style="dim")
    basis = {each.samples > 0 for asset in assets for each in asset.stages.values() if each.runs}
    source = {
        frozenset({True}): "times from earlier assets",
        frozenset({True, False}): "times from earlier assets where there are any, else the methods' own",
    }.get(frozenset(basis), "times are the methods' own estimates for two CPU cores; the first assets make them better")
    out.say(source, style="dim")
    for warning in warnings:
        out.say(f"too little {printable(warning)}", style="bold yellow")


def _choice_lines(assets: list[AssetForecast]) -> list[str]:
    """Which methods are tried in turn, and what was rejected of them so far."""
    orders: dict[str, list[str]] = {}
    for asset in assets:
        for stage, names in asset.choices.items():
            orders.setdefault(f"{stage}: {', then '.join(names)}", []).append(asset.id)
    lines = [f"{order}  ({len(ids)} asset{'s' if len(ids) > 1 else ''})" for order, ids in orders.items()]
    return lines + [f"{asset.id}: {each}" for asset in assets for each in asset.tried]


def _memory_cells(assets: list[AssetForecast]) -> list[Text]:
    """The most memory that each stage takes in any asset."""
    from flows.cli.style import plain
    from tasks import registry

    needs = [max((each.stages[stage].memory_gb for each in assets), default=0.0) for stage in registry.stages()]
    return [plain(f"{need:.1f} GB" if need else "", "dim") for need in needs]


def _cell(each: Forecast) -> Text:
    from rich.text import Text

    from flows.cli.style import brief
    from flows.forecast.estimate import StageOutlook

    if each.outlook is StageOutlook.CACHED:
        return Text("✓", style="green")
    if each.outlook is StageOutlook.SKIPPED:
        return Text("skipped", style="dim")
    if each.outlook is StageOutlook.NOT_REACHED:
        return Text("–", style="dim")
    waits = each.outlook is StageOutlook.WAITS
    return Text(f"{'·' if waits else '▸'} {brief(each.seconds[1])}", style="" if waits else "cyan")
