"""One asset as a page in Markdown, and its picture: what `digitize explain` says, for people who look elsewhere."""

from __future__ import annotations

import base64
import io

from flows.status.account import Account, phase_word
from infra.settings import NightSettings
from models.artifacts import PREVIEW_FILE
from models.stage import Stage
from models.store import Store
from tasks import registry

_EDGE_PX = 320


def asset_page(account: Account) -> str:
    """Verdict, reasons with hints, gates, stages, and where the results lie."""
    status = account.status
    verdict = f", {status.verdict.value}" if status.verdict else ""
    lines = [f"# {status.asset}: {phase_word(status)}{verdict}", ""]
    if status.failure is not None:
        stage = f" in {status.failure.stage}" if status.failure.stage else ""
        lines += [
            f"**{status.failure.code}**{stage}: {_cell(status.failure.message)}",
            "",
            f"*{status.failure.hint}*",
            "",
        ]
    for reason in status.reasons:
        lines += [f"- **{reason.code}**: {_cell(reason.message)} *{reason.hint}*"]
    if status.gates:
        lines += ["", "## Gates", "", "| | metric | value | bound | otherwise |", "|---|---|---|---|---|"]
        outcomes = [outcome for each in status.gates.values() for outcome in each]
        for outcome in sorted(outcomes, key=lambda outcome: outcome.passed):
            gate = outcome.gate
            mark = "yes" if outcome.passed else "**no**"
            value = "not measured" if outcome.value is None else f"{outcome.value:.4g}"
            lines.append(f"| {mark} | {gate.metric} | {value} | {gate.bound} | {gate.otherwise.value} |")
    lines += ["", "## Stages", "", "| stage | state | seconds | memory GB |", "|---|---|---|---|"]
    for stage in registry.stages():
        found = status.stages.get(stage)
        if found is not None:
            numbers = ["" if each is None else f"{each:.1f}" for each in (found.seconds, found.peak_memory_gb)]
            lines.append(f"| {stage} | {found.state} | {numbers[0]} | {numbers[1]} |")
    lines += ["", "## Where", ""]
    places = {"model": account.places.model, "report": account.places.report}
    places |= {f"log of {stage}": log for stage, log in account.logs.items() if stage not in account.dones}
    lines += [f"- {name}: {_link(place)}" for name, place in places.items() if place]
    return "\n".join(lines)


def _link(place: str) -> str:
    """A link where published files are served over HTTP, else the place itself."""
    settings = NightSettings()
    _, marker, below = place.partition("/assets/")
    if settings.published_url and marker:
        return f"[{below}]({settings.published_url.rstrip('/')}/assets/{below})"
    return f"`{place}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def thumbnail(store: Store, account: Account) -> str:
    """The quality stage's picture as a small `data:` URL; empty when there is none."""
    done = account.dones.get(Stage.QUALITY)
    if done is None or not done.ref.has(PREVIEW_FILE):
        return ""
    data = store.get_bytes(f"{done.ref.uri.removeprefix('store:')}/{PREVIEW_FILE}")
    if data is None:
        return ""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((_EDGE_PX, _EDGE_PX))
        small = io.BytesIO()
        image.convert("RGB").save(small, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode()}"
