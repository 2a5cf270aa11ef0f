"""How things look on a terminal: marks, colours, durations, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli.output import printable
from models.quality import Verdict
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState, StageStatus
from tasks import registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.results import Reason

STAGE_MARKS: dict[StageState, tuple[str, str]] = {
    StageState.PENDING: ("·", "dim"),
    StageState.RUNNING: ("▸", "cyan"),
    StageState.COMMITTED: ("✓", "green"),
    StageState.CACHED: ("✓", "dim green"),
    StageState.FAILED: ("✗", "bold red"),
    StageState.SKIPPED: ("–", "dim"),
}
VERDICT_STYLES: dict[Verdict, str] = {
    Verdict.ACCEPT: "bold green",
    Verdict.REVIEW: "bold yellow",
    Verdict.REJECT: "bold red",
}
PHASE_STYLES: dict[str, str] = {
    Phase.PENDING: "dim",
    Phase.RUNNING: "cyan",
    Phase.DONE: "green",
    Phase.REJECTED: "red",
    Phase.QUARANTINED: "red",
    Phase.CANCELLED: "yellow",
    "lost": "bold red",
}


def plain(text: object, style: str = "") -> Text:
    """Text that is printed literally: no markup, no control characters."""
    return Text(printable(str(text)), style=style, overflow="fold")


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table in the house's look; the columns of `right` are aligned to the right."""
    numbers = set(right)
    result = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        result.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return result


def verdict_text(verdict: Verdict | None) -> Text:
    """A verdict in its colour."""
    return Text("–", style="dim") if verdict is None else Text(verdict.value, style=VERDICT_STYLES[verdict])


def stage_text(stage: Stage, state: StageState, note: str = "") -> Text:
    """A stage with its mark: `✓ pose`, `▸ train 43 %`."""
    mark, style = STAGE_MARKS[state]
    return Text(f"{mark} {stage}{' ' + note if note else ''}", style=style)


def marks_text(status: AssetStatus) -> Text:
    """All stages of an asset as marks, then the one that runs or failed: `✓✓▸··· train 43%`."""
    text, current = Text(), Text()
    for stage in registry.stages():
        found = status.stages.get(stage, StageStatus())
        text.append(*STAGE_MARKS[found.state])
        if found.state is StageState.RUNNING:
            current = Text(f" {stage} {found.share:.0%}", "cyan")
        elif found.state is StageState.FAILED:
            current = Text(f" {stage}", "red")
    return text + current


def stages_text(status: AssetStatus) -> Text:
    """All stages of an asset by name in one line."""
    parts = []
    for stage in registry.stages():
        found = status.stages.get(stage)
        state = StageState.PENDING if found is None else found.state
        note = f"{found.share:.0%}" if found is not None and state is StageState.RUNNING else ""
        parts.append(stage_text(stage, state, note))
    return Text("  ", overflow="fold").join(parts)


def duration(seconds: float) -> str:
    """A duration for people: `40 s`, `12 min`, `3 h 20`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d}" if hours < 48 else f"{hours / 24:.1f} days"


def brief(seconds: float) -> str:
    """A duration for narrow columns: `40s`, `12m`, `3.3h`."""
    if seconds < 1:
        return "<1s"
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 90 * 60 else f"{seconds / 3600:.1f}h"


def span(low: float, high: float) -> str:
    """A range of durations: `4–9 min`."""
    first, last = duration(low), duration(high)
    if first == last:
        return first
    first_number, _, first_unit = first.rpartition(" ")
    _, _, last_unit = last.rpartition(" ")
    return f"{first_number}–{last}" if first_unit == last_unit and first_number.isdigit() else f"{first} – {last}"


def ago(seconds: float) -> str:
    """How long ago: `just now`, `5 min ago`."""
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def why(status: AssetStatus) -> str:
    """Why an asset stands as it does, in one line."""
    if status.failure is not None:
        stage = f"{status.failure.stage}: " if status.failure.stage else ""
        return f"{status.failure.code.value}  {stage}{status.failure.message.splitlines()[0]}"
    codes = list(dict.fromkeys(reason.code.value for reason in status.reasons))
    return ", ".join(codes)


def stepped_down_lines(status: AssetStatus) -> list[str]:
    """The stages that ran with smaller settings than asked for, and what was lowered."""
    found = ((stage, status.stages.get(stage, StageStatus()).stepped_down) for stage in registry.stages())
    return [f"{stage}: {each}" for stage, each in found if each is not None]


def reasons_text(reasons: Iterable[Reason], hints: bool = False) -> Text:
    """Reasons, one a line: the code, then the message."""
    lines = []
    for reason in reasons:
        line = Text(overflow="fold").append(reason.code.value, "bold").append(f"  {printable(reason.message)}")
        if hints and reason.hint:
            line.append(f"\n  {printable(reason.hint)}", "dim")
        lines.append(line)
    return Text("\n", overflow="fold").join(lines)
