"""A place where captures are uploaded, with a clock and launches that a test can turn and see."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from pathlib import Path

from flows.plan.captures import Capture
from flows.uploads.poller import Poller, Round
from infra.database import Database
from infra.inbox import Inbox
from infra.queue import Queue
from infra.settings import UploadSettings
from infra.storage import open_store


class Launches:
    """Counts launches; the key decides which run it is, as with a server's idempotency key."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()
        self.photos: dict[str, int] = {}
        self.fail: list[Exception] = []
        self.hold: threading.Event | None = None

    def launch(self, capture: Capture, key: str) -> str:
        if self.hold is not None:
            self.hold.wait(20)
        if self.fail:
            raise self.fail.pop()
        self.keys[key] += 1
        self.photos[capture.asset] = capture.photos
        return f"run of {key}"


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Place:
    """A place, its inbox, and as many pollers as a test wants."""

    def __init__(self, folder: Path, under: str) -> None:
        self.spec = folder / "batch.yaml"
        place = f"captures: [{{under: '{under}', scale: {{kind: none}}, quiet_minutes: 10}}]"
        self.spec.write_text(f"name: shelf\npublish: [{{to: published}}]\n{place}\n")
        self.place = open_store(under)
        self.database = Database(f"sqlite:///{folder / 'catalogue.db'}")
        self.clock = Clock()
        self.inbox = Inbox(self.database, "shelf", self.clock)
        self.launches = Launches()
        self._names = map(str, itertools.count())

    def poller(self, queue: Queue | None = None, sweep_s: float = 300.0) -> Poller:
        settings = UploadSettings(sweep_s=sweep_s, poll_s=0.01)
        args = (self.spec, self.inbox, self.launches, settings, next(self._names), queue, self.clock)
        return Poller(*args)

    def photos(self, asset: str, *names: str) -> None:
        for name in names:
            self.place.put_bytes(f"{asset}/{name}", name.encode())

    def complete(self, asset: str, *names: str) -> None:
        files = [{"path": name} for name in names]
        self.place.put_bytes(f"{asset}/capture.json", json.dumps({"files": files}).encode())


def rounds(poller: Poller) -> Round:
    first = poller.round()
    last = poller.finish()
    last.errors = first.errors + last.errors
    last.waiting = first.waiting
    return last


def event(key: str, bucket: str = "uploads") -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]})
