"""`plan --assets N`: how long a programme of many assets takes, on how many GPUs, and what it costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.output import Output, reporting
from models.errors import DigitizeError, ReasonCode

if TYPE_CHECKING:
    from flows.forecast.fleet import Row

_GPUS = (1, 10, 100, 1000)


def plan_programme(
    spec: Path,
    only: list[str] | None,
    assets: int,
    gpus: list[int] | None,
    cores: float,
    gpu_gb: float,
    gpu_price: float,
    lost_after: float,
    json: bool,
    debug: bool,
) -> None:
    """Simulate and show the rows; see the options of `plan`."""
    with reporting("plan", json, debug) as out:
        from flows.forecast.estimate import forecast
        from flows.forecast.fleet import draw_like, estimate_programme, stage_costs, stage_seconds
        from flows.forecast.history import History
        from flows.forecast.simulation import Losses, Site
        from flows.plan.batch_plan import plan_batch
        from flows.plan.captures import load_batch
        from flows.plan.walks import Walks
        from infra.storage import open_store

        batch = plan_batch(load_batch(spec), only or ())
        if not batch.assets:
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected at least one asset to plan from, found none")
        store = open_store(batch.store_uri)
        forecasts = forecast(batch, Walks(batch, store), History.of(store))
        measured = sum(bool(each.spent) or any(s.samples for s in each.stages.values()) for each in forecasts)
        draw, losses = draw_like(stage_seconds(forecasts)), Losses(gpu_mtbf_h=lost_after)
        rows = []
        for count in gpus if gpus is not None else _GPUS:
            costs = stage_costs(batch.assets[0], gpu_gb if count else 0.0)
            site = Site(count, cores * max(1, count), at_once=0)
            try:
                rows.append(estimate_programme(assets, draw, costs, site, losses, gpu_price))
            except ValueError as error:
                raise DigitizeError(ReasonCode.SPEC_INVALID, f"{error}; give more --cores") from error
        _say(out, assets, rows, gpu_price, f"{measured} of {len(forecasts)}")
        out.document = {
            "batch": batch.name,
            "assets": assets,
            "measured": measured,
            "planned_from": len(forecasts),
            "rows": [{**asdict(row), "seconds": round(row.seconds, 1), "fill": round(row.fill, 4)} for row in rows],
        }


def _say(out: Output, assets: int, rows: list[Row], gpu_price: float, basis: str) -> None:
    from flows.cli.style import duration, table

    grid = table("GPUs", "cores", "in flight", "time", "GPU fill", "GPU hours", "cost", right=("GPUs", "cores"))
    for row in rows:
        cost = f"{row.cost:,.0f}" if gpu_price else "\u2013"
        fill, hours = (f"{row.fill:.0%}", f"{row.gpu_hours:,.1f}") if row.gpus else ("\u2013", "\u2013")
        grid.add_row(str(row.gpus), f"{row.cores:g}", str(row.at_once), duration(row.seconds), fill, hours, cost)
    out.say(f"{assets:,} assets like these", style="bold")
    out.show(grid)
    out.say(
        f"simulated; the times of {basis} assets rest on earlier runs, the others on the methods' own "
        "estimates for two CPU cores. GPU fill: the least time possible over the time it takes.",
        style="dim",
    )
