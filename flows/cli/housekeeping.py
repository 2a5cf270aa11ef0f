"""`gc`, `verify`, `rollback`, `withdraw`: housekeeping of the work store and of what is published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, reporting
from flows.cli.plan import AssetOption

if TYPE_CHECKING:
    from flows.housekeeping.gc import Survey
    from models.store import Store

TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="URI", help="One of the specification's targets; else all.")
]
AssetArgument = Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id.")]


def gc(
    spec: SpecArgument,
    older_than: Annotated[float, typer.Option("--older-than", metavar="DAYS", min=1, help="Retention.")] = 30.0,
    quota: Annotated[
        float | None, typer.Option("--quota", metavar="GB", min=0, help="Most the store may hold.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Free what nothing needs: commits that no published version, live run or present specification refers to.

    Nothing younger than a day goes, and nothing at all while a place that was published to does not answer.
    """
    with reporting("gc", json, debug) as out:
        from flows.housekeeping.gc import collect, survey
        from flows.plan.batch_plan import plan_batch
        from flows.plan.captures import load_batch
        from infra.storage import open_store
        from models.errors import DigitizeError, ReasonCode

        spec_file = load_batch(spec)
        plan = plan_batch(spec_file)
        if plan.unusable:
            message = f"expected the sources of all assets, found none for {', '.join(sorted(plan.unusable))}"
            hint = "Without them nobody knows which commits they would reuse: correct the specification first."
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, hint, path=str(spec))
        store = open_store(plan.store_uri)
        found = survey(plan, store, older_than, quota)
        _say_survey(out, found)
        freed = 0 if dry_run else collect(store, found.waste)
        verb = "would free" if dry_run else "freed"
        amount = sum(each.bytes for each in found.waste) if dry_run else freed
        out.say(f"{verb} {amount / 1e9:.3f} GB of {found.total_bytes / 1e9:.3f} GB", style="bold")
        if found.over_quota_bytes:
            over = found.over_quota_bytes / 1e9
            out.say(
                f"still {over:.3f} GB over the quota: the rest is in use; raise it or withdraw assets", style="yellow"
            )
        out.document = {
            "total_bytes": found.total_bytes,
            "protected_bytes": found.protected,
            "waste": [{"what": each.what, "prefix": each.prefix, "bytes": each.bytes} for each in found.waste],
            "freed_bytes": freed,
            "over_quota_bytes": found.over_quota_bytes,
        }


def _say_survey(out: Output, found: Survey) -> None:
    from flows.cli.style import plain, table

    grid = table("goes", "what", "MB", "days old", right=("MB", "days old"))
    for each in found.waste:
        row = (
            plain(each.prefix),
            plain(each.what),
            plain(f"{each.bytes / 1e6:.1f}"),
            plain(f"{each.age_s / 86400:.1f}"),
        )
        grid.add_row(*row)
    if found.waste:
        out.show(grid)
    kept = ", ".join(f"{why} {size / 1e9:.3f} GB" for why, size in found.protected.items() if size)
    out.say(f"stays: {kept or 'nothing'}", style="dim")


def _targets(spec: Path, only: str | None) -> list[Store]:
    from infra.storage import open_store
    from models.errors import DigitizeError, ReasonCode
    from models.spec_yaml import load_spec

    spec_file = load_spec(spec)
    known = [spec_file.resolve(each.to) for each in spec_file.spec.publish]
    if only is not None:
        known = [uri for uri in known if uri in (only, spec_file.resolve(only))]
    if not known:
        message = f"expected a target under `publish`, found none{f' that is {only}' if only else ''}"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, "See docs/spec.md.", path=str(spec))
    return [open_store(uri) for uri in known]


def verify(
    spec: SpecArgument,
    asset: AssetOption = None,
    target: TargetOption = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Not those in force alone.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read every published file back and compare its checksum with its manifest."""
    with reporting("verify", json, debug) as out:
        from flows.cli.style import plain
        from flows.housekeeping.published import verify_target

        found = [verify_target(store, asset or (), all_versions) for store in _targets(spec, target)]
        for each in found:
            for damage in each.damages:
                out.say(plain(f"✗ {damage.asset}  {damage.path}", "bold red"))
                out.say(plain(f"    expected {damage.expected}, found {damage.found}", "dim"))
            what = f"{each.versions} versions, {each.files} files, {each.bytes / 1e9:.3f} GB"
            out.say(f"{each.target}: {what}: {len(each.damages) or 'nothing'} damaged")
        if any(each.damages for each in found):
            out.exit_code = ExitCode.NOT_READY
        out.document = {
            "targets": [
                {
                    "target": each.target,
                    "versions": each.versions,
                    "files": each.files,
                    "bytes": each.bytes,
                    "damages": [vars(damage) for damage in each.damages],
                }
                for each in found
            ]
        }


def rollback(
    spec: SpecArgument,
    asset: AssetArgument,
    to: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="Version; else the one before.")] = None,
    target: TargetOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Put an earlier published version in force; its checksums are checked first. Brings back a withdrawn asset."""
    with reporting("rollback", json, debug) as out:
        from flows.housekeeping.published import rollback as roll_back

        done = {store.uri: roll_back(store, asset, to) for store in _targets(spec, target)}
        for uri, latest in done.items():
            out.say(f"{uri}: {asset} is at v{latest.version}")
        out.document = {"asset": asset, "versions": {uri: latest.version for uri, latest in done.items()}}


def withdraw(
    spec: SpecArgument,
    asset: AssetArgument,
    why: Annotated[str, typer.Option("--why", help="Kept beside it, for people.")],
    purge: Annotated[bool, typer.Option("--purge", help="Remove its files too. They cannot be brought back.")] = False,
    target: TargetOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take a published asset out of force; nothing publishes it again until a rollback."""
    with reporting("withdraw", json, debug) as out:
        from flows.housekeeping.published import withdraw as take_away

        removed = {store.uri: take_away(store, asset, why, purge) for store in _targets(spec, target)}
        for uri, count in removed.items():
            out.say(f"{uri}: {asset} is withdrawn, {count} objects removed")
        out.document = {"asset": asset, "removed": removed}
