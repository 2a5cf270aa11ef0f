"""`status` and `explain`: how a batch stands, and the whole story of one asset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exit_codes import ExitCode, exit_code_of_phases
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, reporting
from models.errors import DigitizeError, ReasonCode

if TYPE_CHECKING:
    from flows.status.account import Account, Places
    from models.status import AssetStatus
    from models.store import Store

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URI", help="The work store, instead of a specification.")
]
BatchOption = Annotated[str | None, typer.Option("--batch", metavar="NAME", help="The batch's name, with --store.")]


def status(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="The batch specification.")] = None,
    store: StoreOption = None,
    batch: BatchOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show how each asset of a batch stands."""
    with reporting("status", json, debug) as out:
        from flows.status.account import find_places

        opened, name, statuses = _find(spec, store, batch)
        rows = [(each, find_places(opened, each)) for each in statuses]
        _say_statuses(out, rows)
        out.document = {
            "batch": name,
            "store": opened.uri,
            "assets": [asset_document(each, places) for each, places in rows],
        }
        out.exit_code = _code(statuses)


def _code(statuses: list[AssetStatus]) -> ExitCode:
    from flows.status.files import is_lost

    lost = any(is_lost(each) for each in statuses)
    return ExitCode.FAILED if lost else exit_code_of_phases(each.phase for each in statuses)


def _find(spec: Path | None, uri: str | None, batch: str | None) -> tuple[Store, str, list[AssetStatus]]:
    """The store, the batch's name and its statuses, from a specification or from `--store` and `--batch`."""
    from flows.plan.captures import load_batch
    from flows.status.account import read_statuses
    from infra.storage import open_store

    if spec is not None and uri is None and batch is None:
        spec_file = load_batch(spec)
        opened = open_store(spec_file.resolve(spec_file.spec.store))
        name = spec_file.spec.name
        return opened, name, read_statuses(opened, name, [asset.id for asset in spec_file.spec.assets])
    if spec is not None or uri is None or batch is None:
        raise typer.BadParameter("expected a SPEC, or --store and --batch together")
    opened = open_store(uri)
    statuses = read_statuses(opened, batch)
    if not statuses:
        names = sorted({stat.key.split("/")[1] for stat in opened.list("status/")})
        known = f"batches there: {', '.join(names)}" if names else "no batch has run there yet"
        raise DigitizeError(
            ReasonCode.SOURCE_NOT_FOUND,
            f"expected a batch named '{batch}'; {known}",
            "Check the name.",
            path=opened.uri,
        )
    return opened, batch, statuses


def asset_document(status: AssetStatus, places: Places) -> dict[str, Any]:
    """One asset as JSON: the same keys in `run`, `rerun`, `status` and `explain`."""
    from flows.status.files import is_lost
    from models.status import StageStatus
    from tasks import registry

    stages = {stage: status.stages.get(stage, StageStatus()) for stage in registry.stages()}
    return {
        "id": status.asset,
        "phase": status.phase.value,
        "lost": is_lost(status),
        "verdict": status.verdict.value if status.verdict else None,
        "reasons": [reason.model_dump(mode="json") for reason in status.reasons],
        "failure": status.failure.model_dump(mode="json") if status.failure else None,
        "rejected": [each.model_dump(mode="json") for each in status.rejected],
        "stages": {
            stage: {
                "state": each.state.value,
                "share": round(each.share, 4),
                "message": each.message,
                "seconds": each.seconds,
                "peak_memory_gb": each.peak_memory_gb,
                "key": each.key,
                "stepped_down": each.stepped_down.model_dump(mode="json") if each.stepped_down else None,
            }
            for stage, each in stages.items()
        },
        "model": places.model,
        "report": places.report,
        "published": list(places.published),
        "gone": list(places.gone),
        "held": list(places.held),
        "updated_at": status.updated_at or None,
    }


def _say_statuses(out: Output, rows: list[tuple[AssetStatus, Places]]) -> None:
    from flows.cli.style import PHASE_STYLES, ago, marks_text, plain, table, verdict_text, why
    from flows.status.account import phase_word

    grid = table("asset", "state", "verdict", "stages", "changed", "why")
    now = time.time()
    for each, _ in rows:
        word = phase_word(each)
        grid.add_row(
            plain(each.asset, "bold"),
            plain(word, PHASE_STYLES[word]),
            verdict_text(each.verdict),
            marks_text(each),
            plain(ago(now - each.updated_at) if each.updated_at else "never", "dim"),
            plain(why(each)),
        )
    out.show(grid)
    words = [phase_word(each) for each, _ in rows]
    review = sum(each.verdict == "review" for each, _ in rows)
    more = {"done": f" ({review} to review)"} if review else {}
    counts = [f"{words.count(word)} {word}{more.get(word, '')}" for word in PHASE_STYLES if word in words]
    out.say(f"\n{', '.join(counts)}", style="bold")
    if "lost" in words:
        out.say("lost: the run stopped writing. Run again: what is committed is kept.", style="yellow")


def explain(
    spec: SpecArgument,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say why an asset stands as it does, and what to do.

    Reasons with hints, what was tried, photos that were refused, gates with figures, where logs and report lie.
    """
    with reporting("explain", json, debug) as out:
        from flows.plan.captures import load_batch
        from flows.status.account import give_account, remedy, status_in
        from flows.status.intake import lines_of, passed_over
        from infra.storage import open_store

        spec_file = load_batch(spec)
        store = open_store(spec_file.resolve(spec_file.spec.store))
        account = give_account(store, status_in(spec_file, store, asset))
        next_step = remedy(account.status, str(spec))
        given = next(each for each in spec_file.spec.assets if each.id == asset)
        not_used, passed = lines_of(account.status), passed_over(spec_file, given)
        _say_account(out, account, next_step, [*not_used, *(f"passed over: {line}" for line in passed)])
        out.document = {
            "batch": spec_file.spec.name,
            "asset": asset_document(account.status, account.places),
            "gates": [
                {
                    "stage": stage,
                    "metric": each.gate.metric,
                    "bound": each.gate.bound,
                    "value": each.value,
                    "passed": each.passed,
                    "otherwise": each.gate.otherwise.value,
                    "reason": each.gate.reason.value,
                }
                for stage, outcomes in account.status.gates.items()
                for each in outcomes
            ],
            "tried": dict(account.tried),
            "rejected_photos": account.rejected_photos,
            "not_used": not_used,
            "passed_over": passed,
            "logs": dict(account.logs),
            "next": next_step or None,
        }
        out.exit_code = _code([account.status])


def _say_account(out: Output, account: Account, next_step: str, intake: list[str]) -> None:
    from rich.text import Text

    from flows.cli.style import PHASE_STYLES, plain, reasons_text, stages_text, verdict_text
    from flows.status.account import phase_word

    status = account.status
    word = phase_word(status)
    head = Text().append_text(plain(status.asset, "bold")).append("  ").append(word, PHASE_STYLES[word])
    if status.verdict is not None:
        head.append("  ").append_text(verdict_text(status.verdict))
    out.say(head)
    out.say(stages_text(status))
    if status.failure is not None:
        stage = f"{status.failure.stage} failed" if status.failure.stage else "failed"
        _section(out, stage)
        out.say(plain(f"{status.failure.code.value}  {status.failure.message}"))
        if status.failure.path:
            out.say(plain(status.failure.path, "dim"))
        out.say(plain(status.failure.hint, "dim"))
    if status.reasons:
        _section(out, "why")
        out.say(reasons_text(status.reasons, hints=True))
    for each in status.rejected:
        _section(out, str(each))
        out.say(reasons_text(each.reasons))
    _say_stepped_down(out, status)
    _say_tried(out, account)
    _say_gates(out, account)
    _say_rejected(out, account)
    if intake:
        _section(out, "what was given")
    for line in intake:
        out.say(plain(line))
    where = {
        "model": account.places.model,
        "report": account.places.report,
        **{f"log of {stage}": log for stage, log in account.logs.items() if stage not in account.dones},
    }
    if any(where.values()):
        _section(out, "where")
        width = max(len(name) for name, path in where.items() if path)
        for name, path in where.items():
            if path:
                out.say(Text(f"{name:<{width}}  ", style="dim"), plain(path))
    if next_step:
        _section(out, "then" if status.reasons or status.failure else "next")
        out.say(next_step)


def _section(out: Output, title: str) -> None:
    out.say(f"\n{title}", style="bold underline")


def _say_stepped_down(out: Output, status: AssetStatus) -> None:
    from flows.cli.style import plain, stepped_down_lines

    lines = stepped_down_lines(status)
    if lines:
        _section(out, "smaller settings than asked for")
    for line in lines:
        out.say(plain(line))


def _say_tried(out: Output, account: Account) -> None:
    from flows.cli.style import plain

    for stage, tried in account.tried.items():
        _section(out, f"tried in {stage}")
        for number, each in enumerate(tried, 1):
            pairs = each.items() if isinstance(each, dict) else [("", each)]
            text = "  ".join(f"{key} {_short(value)}".lstrip() for key, value in pairs)
            out.say(plain(f"{number}. {text}"))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say_gates(out: Output, account: Account) -> None:
    from rich.text import Text

    from flows.cli.style import VERDICT_STYLES, plain, table

    if not account.status.gates:
        return
    _section(out, "gates")
    grid = table("", "metric", "value", "bound", "otherwise", right=("value",))
    outcomes = [outcome for each in account.status.gates.values() for outcome in each]
    for each in sorted(outcomes, key=lambda outcome: outcome.passed):
        missed = not each.passed
        grid.add_row(
            Text("✗", style="bold red") if missed else Text("✓", style="green"),
            plain(each.gate.metric, "bold" if missed else ""),
            plain("not measured" if each.value is None else f"{each.value:.4g}", "bold" if missed else ""),
            plain(each.gate.bound, "dim"),
            plain(each.gate.otherwise.value, VERDICT_STYLES[each.gate.otherwise] if missed else "dim"),
        )
    out.show(grid)


_SHOWN_PHOTOS = 20


def _say_rejected(out: Output, account: Account) -> None:
    from flows.cli.style import plain, table

    photos = account.rejected_photos
    if not photos:
        return
    _section(out, f"{len(photos)} photo{'s' if len(photos) > 1 else ''} not used")
    grid = table("photo", "why", "")
    for photo in photos[:_SHOWN_PHOTOS]:
        grid.add_row(plain(photo["name"]), plain(photo["code"], "bold"), plain(photo["message"], "dim"))
    out.show(grid)
    if len(photos) > _SHOWN_PHOTOS:
        out.say(f"and {len(photos) - _SHOWN_PHOTOS} more: --json lists all", style="dim")
