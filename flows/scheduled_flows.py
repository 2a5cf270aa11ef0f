"""The flows that run by themselves: every night, on upload, housekeeping. The only other module that makes flows.

Prefect schedules and shows them; the work is in `nightly`, `uploads` and `maintenance`, which know no Prefect.
`flows.prefect_server.local.prepare` must have run before this module is imported.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL
from prefect.states import Completed, Failed

from flows.housekeeping.gc import collect, survey
from flows.housekeeping.published import verify_target
from flows.nightly.night import Night
from flows.nightly.run import run_night
from flows.nightly.summary import night_text, tell
from flows.plan.batch_plan import plan_batch
from flows.plan.captures import load_batch
from flows.prefect_server.artifacts import artifact_key
from flows.uploads.launchers import DEPLOYMENT, digitize_asset_of, make_poller
from infra.catalogue import Catalogue
from infra.notify import notify
from infra.settings import NightSettings, RunSettings
from infra.storage import open_store


@flow(name="digitize_nightly", flow_run_name="night of {spec}", persist_result=False)
def digitize_nightly(spec: str, min_success_ratio: float | None = None) -> State[Any]:
    """Digitize what changed since the last night. Fails only when too few of the assets ended with a result."""
    given = {} if min_success_ratio is None else {"min_success_ratio": min_success_ratio}
    settings = NightSettings(**given)  # type: ignore[arg-type]
    try:
        night = run_night(Path(spec), settings, RunSettings())
    except Exception as error:
        notify(settings, f"digitize: the night of {Path(spec).stem} could not begin", str(error), "failure")
        raise
    report_night(night)
    tell(night, settings, run_link(settings) or night.summary)
    for each in night.errors:
        get_run_logger().warning(each)
    return Completed(message=night.headline) if night.ok else Failed(message=night.headline)


@flow(name="digitize_capture", flow_run_name="upload {asset}", persist_result=False)
def digitize_capture(spec: str, asset: str) -> State[Any]:
    """Digitize one uploaded capture."""
    outcome = digitize_asset_of(Path(spec), asset, RunSettings(), Catalogue())
    status = outcome.statuses[asset]
    if status.failure is not None:
        return Failed(message=f"[{status.failure.code}] {status.failure.message}")
    return Completed(message=f"{asset}: {status.verdict or status.phase}")


@flow(name="watch_uploads", flow_run_name="uploads of {spec}", persist_result=False)
def watch_uploads(spec: str, deployment: str = DEPLOYMENT) -> State[Any]:
    """One look at the places where captures appear; each complete one that is new gets a run of `deployment`."""
    with make_poller(Path(spec), deployment, Event()) as poller:
        first, then = poller.round(), poller.finish()
    errors = first.errors + then.errors
    message = f"{len(then.launched)} launched, {len(first.waiting)} not complete, {first.malformed} not understood"
    return Failed(message="; ".join(errors)) if errors else Completed(message=message)


@flow(name="digitize_housekeeping", flow_run_name="housekeeping of {spec}", persist_result=False)
def digitize_housekeeping(
    spec: str, older_than_days: float = 30.0, quota_gb: float | None = None, dry_run: bool = False
) -> State[Any]:
    """Check every published byte, then free what nothing needs. Fails when something published is damaged."""
    spec_file = load_batch(Path(spec))
    plan = plan_batch(spec_file)
    found = [verify_target(open_store(spec_file.resolve(target.to))) for target in spec_file.spec.publish]
    damages = [(each.target, damage) for each in found for damage in each.damages]
    rows = [{"target": target, **vars(damage)} for target, damage in damages]
    create_table_artifact(key=f"verify-{artifact_key(plan.name)}", table=rows, description=f"{len(rows)} damaged")
    if damages:
        return Failed(message=f"{len(damages)} published files are damaged: digitize rollback, or publish again")
    store = open_store(plan.store_uri)
    waste = survey(plan, store, older_than_days, quota_gb).waste
    freed = 0 if dry_run else collect(store, waste)
    files = sum(each.files for each in found)
    return Completed(message=f"{files} published files are whole; {freed / 1e9:.3f} GB freed")


@flow(name="digitize_alarm", flow_run_name="alarm: {what}", persist_result=False)
def digitize_alarm(run: str, what: str) -> None:
    """Say on DIGITIZE_NOTIFY_URL that a run crashed or failed."""
    settings = NightSettings()
    base = (settings.report_url or PREFECT_UI_URL.value() or "").rstrip("/")
    run_id = run.removeprefix("prefect.flow-run.")
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run_id))
    message = found.state.message if found.state else ""
    link = f"{base}/runs/flow-run/{run_id}" if base else run_id
    told = notify(settings, f"digitize: {found.name}: {what.rpartition('.')[2]}", f"{message}\n{link}", "failure")
    get_run_logger().info("told" if told else "nobody was told: DIGITIZE_NOTIFY_URL")


def run_link(settings: NightSettings) -> str:
    """Where people see this flow run; empty without a server that they can reach."""
    base = (settings.report_url or PREFECT_UI_URL.value() or "").rstrip("/")
    return f"{base}/runs/flow-run/{runtime.flow_run.id}" if base and runtime.flow_run.id else ""


def report_night(night: Night) -> None:
    """The artifacts of a night: a table of what was done and why, a page, a link to the batch's run."""
    name = artifact_key(night.agenda.plan.name)
    statuses = {} if night.outcome is None else night.outcome.statuses
    rows = []
    for change in night.agenda.changes:
        status = statuses.get(change.asset)
        row = {"asset": change.asset, "did": str(change.need), "why": change.why}
        if status is not None:
            row |= {"ended": str(status.phase), "verdict": str(status.verdict or "")}
        rows.append(row)
    waiting = night.agenda.waiting
    rows += [{"asset": each.asset, "did": "wait", "why": each.problem or "not complete"} for each in waiting]
    create_table_artifact(key=f"night-{name}", table=rows, description=night.headline)
    create_markdown_artifact(key=f"night-{name}-summary", markdown=_page(night), description=night.headline)
    if night.outcome is not None and night.outcome.run and (base := PREFECT_UI_URL.value()):
        link = f"{base.rstrip('/')}/runs/flow-run/{night.outcome.run}"
        create_link_artifact(key=f"night-{name}-batch", link=link, link_text="the batch's run")


def _page(night: Night) -> str:
    hours = (night.ended_at - night.started_at) / 3600
    lines = [f"# {night.headline}", "", "| | |", "|---|---|"]
    lines += [f"| {word} | {count} |" for word, count in night.counts.items()]
    lines += [
        f"| with a result | {night.success_ratio:.0%} of those worked on, at least {night.min_success_ratio:.0%} |",
        f"| took | {hours:.2f} h |",
        f"| left for the next night | {night.left_over} |",
        f"| summary | `{night.summary}` |",
    ]
    if text := night_text(night):
        lines += ["", "```", text, "```"]
    return "\n".join(lines)
