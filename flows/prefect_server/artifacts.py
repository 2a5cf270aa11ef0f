"""What whoever is on duty sees in the Prefect UI: progress with a range of the time left, a page and a picture for each
asset that ends.

The pages say what `digitize explain` says: both read the same account. Everything here is for people: what fails is
logged and never disturbs the work. `flows.prefect_server.local.prepare` must have run before this module is imported.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.forecast.eta import Eta, counts, words
from flows.status.account import give_account
from flows.status.board import Board
from flows.status.page import asset_page, thumbnail
from models.status import FINAL_PHASES, AssetStatus, Phase
from models.store import Store

_T = TypeVar("_T")
_log = logging.getLogger("digitize.cockpit")
_PROGRESS_S = 10.0
LINGER_S = 30.0
"""For what is left to show when a run is over: a server that is away is asked again and again for each page."""
_SHOWN = FINAL_PHASES - {Phase.CANCELLED}


@contextmanager
def watched(batch: str, board: Board, store: Store, eta: Eta | None) -> Iterator[None]:
    """Keep the flow run's artifacts up to date while the block lasts. To be entered in the flow run's own thread."""
    ended: queue.Queue[AssetStatus | None] = queue.Queue()
    seen: dict[str, Phase] = {status.asset: status.phase for status in board.all()}

    def note(status: AssetStatus) -> None:
        if status.phase in _SHOWN and seen.get(status.asset) is Phase.RUNNING:
            ended.put(status)
        seen[status.asset] = status.phase

    unsubscribe = board.subscribe(note)
    context = contextvars.copy_context()  # Prefect knows by context variables to which run an artifact belongs
    thread = threading.Thread(
        target=context.run, args=(_keep, batch, board, store, eta, ended), name="cockpit", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        unsubscribe()
        ended.put(None)
        thread.join(LINGER_S)
        if thread.is_alive():
            _log.warning("the Prefect server does not answer: the last pages and pictures are not shown")


def _keep(batch: str, board: Board, store: Store, eta: Eta | None, ended: queue.Queue[AssetStatus | None]) -> None:
    assets = board.all()
    name = f"{batch}-{assets[0].asset}" if len(assets) == 1 else batch
    artifact: UUID | None = _quietly(lambda: _start_progress(name))
    over = False
    while not over:
        try:
            status = ended.get(timeout=_PROGRESS_S)
        except queue.Empty:
            status = None
        else:
            over = status is None
        if status is not None:
            _quietly(lambda found=status: publish_page(store, found))  # type: ignore[misc]
        if eta is not None and artifact is not None and (over or ended.empty()):
            _quietly(lambda: _show_progress(artifact, eta, board.all()))


def _start_progress(batch: str) -> UUID:
    made = create_progress_artifact(0.0, key=f"progress-{artifact_key(batch)}", description=f"batch {batch}")
    assert isinstance(made, UUID)
    return made


def _show_progress(artifact: UUID, eta: Eta, statuses: tuple[AssetStatus, ...]) -> None:
    text = ", ".join(f"{count} {phase}" for phase, count in counts(statuses).items())
    left = eta.remaining(statuses)
    if left[2] > 0:
        text += f"; about {words(left)} left"
    update_progress_artifact(artifact, round(100 * eta.progress(statuses), 1), text)


def publish_page(store: Store, status: AssetStatus) -> None:
    """The page and the picture of one asset, as artifacts `asset-<id>` and `picture-<id>`."""
    account = give_account(store, status)
    verdict = status.verdict.value if status.verdict else status.phase.value
    key = artifact_key(status.asset)
    create_markdown_artifact(key=f"asset-{key}", markdown=asset_page(account), description=verdict)
    if picture := thumbnail(store, account):
        create_image_artifact(picture, key=f"picture-{key}", description=f"{status.asset}: {verdict}")


def _quietly(action: Callable[[], _T]) -> _T | None:
    try:
        return action()
    except Exception as error:  # whatever it is, a picture for people is no reason to stop the work
        _log.warning("not shown: %s: %s", type(error).__name__, error)
        return None


def artifact_key(name: str) -> str:
    """A name as part of an artifact's key: a-z, 0-9 and dashes."""
    return "".join(char if char.isalnum() else "-" for char in name.lower()).strip("-")
