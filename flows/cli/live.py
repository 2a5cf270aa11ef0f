"""What a running batch shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from flows.cli.style import PHASE_STYLES, duration, marks_text, plain, table, verdict_text, why
from flows.forecast.eta import Eta
from flows.status.board import Board
from models.stage import Stage
from models.status import FINAL_PHASES, AssetStatus, Phase, StageState, StageStatus

_PLAIN_PROGRESS_S = 20.0
_TOLD = frozenset({StageState.RUNNING, StageState.COMMITTED, StageState.FAILED})
_Clock = dict[tuple[str, Stage], float]


class LiveBoard:
    """The live table: what runs now, what ended badly, and how much is left."""

    def __init__(self, board: Board, eta: Eta) -> None:
        self._board = board
        self._eta = eta
        self._start = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the present size of the terminal."""
        statuses = self._board.all()
        room = max(3, (options.height or console.height) - 6)
        shown = [status for status in statuses if status.phase is Phase.RUNNING]
        shown += [status for status in statuses if status.phase is Phase.PENDING]
        grid = table("asset", "stages", "")
        for status in shown[:room]:
            grid.add_row(plain(status.asset, "bold"), marks_text(status), plain(_message(status), "dim"))
        counts = [(phase, sum(status.phase is phase for status in statuses)) for phase in Phase]
        line = Text("  ").join(Text(f"{count} {phase.value}", PHASE_STYLES[phase]) for phase, count in counts if count)
        line.append(f"   {duration(time.monotonic() - self._start)}", "dim")
        if all(status.phase is Phase.PENDING for status in statuses):
            line.append(", starting", "dim")
        _, left, _ = self._eta.remaining(statuses)
        if left > 0:
            line.append(f", about {duration(left)} left", "dim")
        yield Group(grid, line) if shown else line


def _message(status: AssetStatus) -> str:
    running = (found for found in status.stages.values() if found.state is StageState.RUNNING)
    return next((found.message for found in running), "")


class PlainLines:
    """One line for each stage that starts or ends, and now and then one for progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._seen: dict[str, AssetStatus] = {}
        self._told: _Clock = {}

    def __call__(self, status: AssetStatus) -> None:
        """Tell what changed since the asset's last status."""
        with self._lock:
            before = self._seen.get(status.asset)
            self._seen[status.asset] = status
            for stage, found in status.stages.items():
                old = StageStatus() if before is None else before.stages.get(stage, StageStatus())
                self._stage(status.asset, stage, old, found)
            if _ended(before, status):
                self._console.print(final_line(status), soft_wrap=True)

    def _stage(self, asset: str, stage: Stage, old: StageStatus, new: StageStatus) -> None:
        now = time.monotonic()
        if old.state is not new.state and new.state in _TOLD:
            seconds = f"  {duration(new.seconds)}" if new.state is StageState.COMMITTED and new.seconds else ""
            self._tell(asset, stage, new.state.value + seconds)
            self._told[asset, stage] = now
        elif new.state is StageState.RUNNING and now - self._told.get((asset, stage), now) > _PLAIN_PROGRESS_S:
            self._tell(asset, stage, f"{new.share:.0%}  {new.message}".rstrip())
            self._told[asset, stage] = now

    def _tell(self, asset: str, stage: Stage, text: str) -> None:
        self._console.print(plain(f"{asset}  {stage}  {text}"), soft_wrap=True)


def final_line(status: AssetStatus) -> Text:
    """One line for an asset that ended."""
    line = plain(status.asset, "bold").append("  ").append(status.phase.value, PHASE_STYLES[status.phase])
    if status.verdict is not None and status.phase is Phase.DONE:
        line.append("  ").append_text(verdict_text(status.verdict))
    return line.append_text(plain(f"  {why(status)}")) if why(status) else line


class EndLines:
    """One line for each asset that ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._seen: dict[str, AssetStatus] = {}

    def __call__(self, status: AssetStatus) -> None:
        """Tell an asset's end."""
        with self._lock:
            before = self._seen.get(status.asset)
            self._seen[status.asset] = status
        if _ended(before, status):
            self._console.print(final_line(status))


def _ended(before: AssetStatus | None, now: AssetStatus) -> bool:
    """Whether an asset that ran has just ended; assets that were finished before are not worth a line."""
    return now.phase in FINAL_PHASES and before is not None and before.phase is Phase.RUNNING


@contextmanager
def watching(console: Console, board: Board, eta: Eta) -> Iterator[None]:
    """Show a board while a batch runs."""
    terminal = console.is_terminal
    stop = board.subscribe(EndLines(console) if terminal else PlainLines(console))
    live = Live(LiveBoard(board, eta), console=console, refresh_per_second=5, transient=True)
    try:
        with live if terminal else nullcontext():
            yield
    finally:
        stop()
