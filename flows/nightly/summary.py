"""A night in words and numbers: the summary that is kept, and the one message that is sent."""

from __future__ import annotations

import logging
import time

from flows.nightly.night import Night
from infra.notify import notify
from infra.settings import NightSettings
from infra.storage import open_store
from models.digest import canonical_json
from models.errors import DigitizeError

_log = logging.getLogger("digitize.nightly")
_SHOWN = 20


def summary_document(night: Night) -> dict[str, object]:
    """A night as JSON."""
    outcome = night.outcome
    return {
        "batch": night.agenda.plan.name,
        "ok": night.ok,
        "started_at": night.started_at,
        "ended_at": night.ended_at,
        "run": None if outcome is None else outcome.run,
        "counts": night.counts,
        "success_ratio": round(night.success_ratio, 4),
        "min_success_ratio": night.min_success_ratio,
        "left_over": night.left_over,
        "errors": list(night.errors),
        "changes": [
            {"asset": change.asset, "need": change.need.value, "why": change.why} for change in night.agenda.changes
        ],
        "waiting": [
            {"capture": each.asset, "files": len(each.stats), "missing": each.missing()[:20], "problem": each.problem}
            for each in night.agenda.waiting
        ],
    }


def write_summary(night: Night) -> str:
    """Keep `summary.json` in the work store; its place, or empty when the store does not answer any more."""
    store = open_store(night.agenda.plan.store_uri)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(night.started_at))
    key = f"nights/{night.agenda.plan.name}/{stamp}.json"
    try:
        store.put_bytes(key, canonical_json(summary_document(night)))
    except DigitizeError as error:
        _log.warning("the night's summary was not written: %s", error)
        return ""
    return f"{store.uri}/{key}"


def tell(night: Night, settings: NightSettings, link: str) -> bool:
    """Send the one message of a night; whether somebody took it."""
    body = f"{night_text(night)}\n{link}".strip()
    return notify(settings, f"digitize: {night.headline}", body, "success" if night.ok else "failure")


def night_text(night: Night) -> str:
    """What people need to know in the morning: a line for each asset that needs them."""
    lines = []
    for asset, status in ({} if night.outcome is None else night.outcome.statuses).items():
        if status.failure is not None:
            lines.append(f"{asset}: {status.failure.code}: {status.failure.message}")
        elif status.reasons:
            lines.append(f"{asset}: {status.verdict}: {', '.join(reason.code for reason in status.reasons)}")
    if night.left_over:
        lines.append(f"{night.left_over} assets were not started and are left for the next night")
    shown = lines[:_SHOWN] + ([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    return "\n".join(shown)
