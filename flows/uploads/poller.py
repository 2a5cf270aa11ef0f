"""On upload: from news about objects to exactly one run a capture, whatever comes twice, late, out of order or never.

News are only hints. A capture that something was heard of is listed; what lies there decides whether it is complete,
and its content (keys, sizes, etags) is what a run is claimed for. So an event that comes twice or late finds its
content claimed, one that overtakes another changes nothing, and one that is lost is made up for by the next sweep.
Knows no Prefect: a `Launcher` starts the runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flows.plan.captures import Capture, asset_id, find_captures
from flows.uploads.s3_events import EventError, ObjectEvent, parse_events
from infra.catalogue import Catalogue
from infra.inbox import Inbox
from infra.queue import Queue
from infra.settings import UploadSettings
from infra.storage import open_store
from models.errors import DigitizeError
from models.manifest import is_latest_key
from models.spec_yaml import SpecFile, load_spec

_log = logging.getLogger("digitize.uploads")
_LOOK_AGAIN_S = 60.0
"""Between two looks at a capture that is not complete and of which nothing more was heard."""
_BATCHES = 50
"""Times ten messages a round."""


class Launcher(Protocol):
    """Starts runs."""

    def launch(self, capture: Capture, key: str) -> str:
        """Make sure that a run of this capture exists, and return its id. Called again with the same key it returns
        the same run. Raises DigitizeError when it could not be started; the capture is tried again."""
        ...


@dataclass
class Round:
    """What one round did."""

    messages: int = 0
    malformed: int = 0
    foreign: int = 0
    """Events about objects below none of the specification's places."""
    waiting: list[str] = field(default_factory=list)
    """Captures that are not complete."""
    launched: dict[str, str] = field(default_factory=dict)
    """Runs by asset."""
    errors: list[str] = field(default_factory=list)


class Poller:
    """Watches the places of one specification.

    Args:
        owner: who claims launches; unique to this process.
        at_once: launches at the same time.
        queue: where the bucket sends its news; None for sweeps and pushed events alone.
        clock: Unix seconds; a test's own.
    """

    def __init__(
        self,
        spec: Path,
        inbox: Inbox,
        launcher: Launcher,
        settings: UploadSettings,
        owner: str,
        queue: Queue | None = None,
        clock: Callable[[], float] = time.time,
        at_once: int = 1,
    ) -> None:
        self._spec = spec
        self._spec_file = load_spec(spec)
        self._inbox = inbox
        self._launcher = launcher
        self._settings = settings
        self._owner = owner
        self._queue = queue
        self._clock = clock
        self._looked: dict[str, tuple[int, float]] = {}
        self._next_sweep = float("-inf")
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="launch")
        self._busy: dict[str, Future[str]] = {}

    def take(self, source: str, body: str | bytes, done: Round) -> None:
        """Note what one message tells. What cannot be understood is kept, never lost and never fatal.

        Raises DigitizeError when the inbox cannot be written: the sender must send again.
        """
        done.messages += 1
        try:
            events = parse_events(body)
        except EventError as error:
            _log.warning("an event from %s was set aside: %s", source, error)
            self._inbox.keep_letter(source, str(error), body)
            done.malformed += 1
            return
        captures = [asset for event in events if (asset := self.asset_of(event)) is not None]
        done.foreign += len(events) - len(captures)
        self._inbox.hint(captures)

    def take_pushed(self, body: bytes) -> None:
        """`take` for what comes over HTTP."""
        self.take("http", body, Round())

    def asset_of(self, event: ObjectEvent) -> str | None:
        """The asset that an object belongs to; None below no place, or directly in one."""
        for source in self._spec_file.spec.captures:
            bucket, _, prefix = self._spec_file.resolve(source.under).removeprefix("s3://").partition("/")
            prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
            folder, slash, _ = event.key.removeprefix(prefix).partition("/")
            if bucket == event.bucket and event.key.startswith(prefix) and folder and slash:
                return asset_id(folder)
        return None

    def round(self, wait_s: int = 0) -> Round:
        """Receive, look, launch. Trouble with a server is in `Round.errors` and over by the next round or not.

        Launches go on in threads of their own; how they ended is in a later round, or in `finish`.
        """
        done = Round()
        steps: list[Callable[[], None]] = [
            lambda: self._receive(done, wait_s),
            lambda: self._collect(done),
            self._sweep,
            lambda: self._look(done),
        ]
        for step in steps:
            try:
                step()
            except DigitizeError as error:
                _log.warning("%s", error)
                done.errors.append(str(error))
        return done

    def finish(self) -> Round:
        """Wait for the launches that are under way."""
        wait(self._busy.values())
        done = Round()
        self._collect(done)
        return done

    def watch(self, stop: threading.Event, on_round: Callable[[Round], None] | None = None) -> None:
        """Rounds until `stop` is set."""
        while not stop.is_set():
            done = self.round()
            if on_round is not None:
                on_round(done)
            stop.wait(self._settings.poll_s)
        self._pool.shutdown(cancel_futures=True)

    def replay(self) -> tuple[int, int]:
        """Read the letters again, after a defect was mended; how many could be read, and how many are left."""
        read = 0
        found = self._inbox.letters()
        for letter in found:
            try:
                events = parse_events(letter.body)
            except EventError:
                continue
            self._inbox.hint([asset for event in events if (asset := self.asset_of(event)) is not None])
            self._inbox.mark_replayed(letter)
            read += 1
        return read, len(found) - read

    def _receive(self, done: Round, wait_s: int) -> None:
        if self._queue is None:
            return
        for _ in range(_BATCHES):
            messages = self._queue.receive(wait_s if done.messages == 0 else 0)
            for message in messages:
                self.take("sqs", message.body, done)
                self._queue.delete(message)
            if not messages:
                return

    def _sweep(self) -> None:
        """Now and then look at everything: events get lost, and some servers send none."""
        now = self._clock()
        if now < self._next_sweep <= now + self._settings.sweep_s:
            return
        try:
            self._spec_file = load_spec(self._spec)
        except DigitizeError as error:
            _log.warning("going on with the specification as it was: %s", error)
        known = {(row["capture"], row["digest"]) for row in self._inbox.runs() if row["state"] == "launched"}
        captures = find_captures(self._spec_file)
        if not known:
            known = self._adopt(captures)
        self._inbox.hint([each.asset for each in captures if (each.asset, each.digest) not in known])
        self._next_sweep = now + self._settings.sweep_s

    def _adopt(self, captures: Sequence[Capture]) -> set[tuple[object, object]]:
        """On the very first sweep: captures that every target has already need no run; nights see to their changes."""
        targets = [open_store(self._spec_file.resolve(each.to)) for each in self._spec_file.spec.publish]
        there = [
            {stat.key.split("/")[1] for stat in each.list("assets/") if is_latest_key(stat.key)} for each in targets
        ]
        found = [each for each in captures if there and all(each.asset in assets for assets in there)]
        for capture in found:
            if self._inbox.claim(capture.asset, capture.digest, self._owner):
                self._inbox.launched(capture.asset, capture.digest, self._owner, "published before")
        return {(each.asset, each.digest) for each in found}

    def _look(self, done: Round) -> None:
        now, hinted = self._clock(), self._inbox.hinted()
        due = {asset: events for asset, events in hinted.items() if self._is_due(asset, events, now)}
        if not due:
            return
        captures = {each.asset: each for each in find_captures(self._spec_file, due)}
        for asset, events in due.items():
            capture = captures.get(asset)
            if capture is None:
                self._inbox.settle(asset, events)  # it was taken away again
            elif not capture.is_complete(now):
                self._looked[asset] = (events, now)
                done.waiting.append(asset)
            elif self._is_seen_to(capture):
                self._looked.pop(asset, None)
                self._inbox.settle(asset, events)

    def _is_due(self, asset: str, events: int, now: float) -> bool:
        heard, looked = self._looked.get(asset, (0, 0.0))
        return asset not in self._busy and (heard != events or not looked <= now < looked + _LOOK_AGAIN_S)

    def _is_seen_to(self, capture: Capture) -> bool:
        """Whether the capture's run exists; if not, and nobody else is at it, begin to launch it."""
        asset, digest = capture.asset, capture.digest
        if self._inbox.is_launched(asset, digest):
            return True
        if self._inbox.claim(asset, digest, self._owner):  # else another poller is at it: if it dies, its lease ends
            self._busy[asset] = self._pool.submit(self._launch, capture)
        return False

    def _launch(self, capture: Capture) -> str:
        """In a thread: the run's id."""
        asset, digest = capture.asset, capture.digest
        try:
            run = self._launcher.launch(capture, f"{self._spec_file.spec.name}:{asset}:{digest}")
        except BaseException:
            self._inbox.release(asset, digest, self._owner)
            raise
        self._inbox.launched(asset, digest, self._owner, run)
        return run

    def _collect(self, done: Round) -> None:
        """Take note of launches that ended, and keep the claims of the others."""
        for asset, future in list(self._busy.items()):
            if future.done():
                del self._busy[asset]
                try:
                    done.launched[asset] = future.result()
                except Exception as error:  # whatever a launcher raises: the capture is tried again
                    _log.warning("%s was not launched: %s", asset, error)
                    done.errors.append(f"{asset}: {error}")
        if self._busy:
            self._inbox.renew(self._owner)


def make_inbox(spec_file: SpecFile, catalogue: Catalogue | None = None) -> Inbox:
    """The inbox of a specification's batch, in the catalogue's database."""
    return Inbox((catalogue or Catalogue()).database, spec_file.spec.name)
