"""What was heard of uploads: hints to look at, one row a launch, and letters that nobody could read.

A launch is claimed by inserting its row: the primary key (batch, capture, content) makes it happen once, whoever else
polls. A claim has a lease: when its owner dies before the run exists, another poller takes it over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from infra.database import Database, hints, insert_into, launches, letters

CLAIM_S = 120.0
"""How long a claim is good for unless it is renewed."""
_MOST_BYTES = 64 << 10
"""Of a letter that is kept."""


@dataclass(frozen=True)
class Letter:
    """An event that could not be understood."""

    id: int
    source: str
    reason: str
    body: str
    at: float
    replayed_at: float | None


class Inbox:
    """The inbox of one batch. Safe to use from several threads and processes."""

    def __init__(self, database: Database, batch: str, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._batch = batch
        self._clock = clock

    def hint(self, captures: Iterable[str]) -> None:
        """Something happened to these captures."""
        now = self._clock()
        with self._database.begin() as connection:
            for capture in sorted(set(captures)):
                row = {"batch": self._batch, "capture": capture, "events": 1, "first_at": now, "last_at": now}
                again = {"events": hints.c.events + 1, "last_at": now}
                insert = insert_into(connection, hints).values(row)
                connection.execute(insert.on_conflict_do_update(index_elements=["batch", "capture"], set_=again))

    def hinted(self) -> dict[str, int]:
        """Captures to look at, with the number of events heard of each."""
        query = sa.select(hints.c.capture, hints.c.events).where(hints.c.batch == self._batch)
        return {row["capture"]: row["events"] for row in self._database.rows(query)}

    def settle(self, capture: str, events: int) -> None:
        """Forget a hint, unless more was heard since it was read."""
        with self._database.begin() as connection:
            connection.execute(
                sa.delete(hints).where(
                    hints.c.batch == self._batch, hints.c.capture == capture, hints.c.events == events
                )
            )

    def claim(self, capture: str, digest: str, owner: str) -> bool:
        """Whether `owner` is to start the run of that content: nobody did, and nobody else is about to."""
        now = self._clock()
        row = {
            **{"batch": self._batch, "capture": capture, "digest": digest, "state": "claimed", "owner": owner},
            **{"lease_until": now + CLAIM_S, "run": None, "at": now},
        }
        if self._database.add_new(launches, row):
            return True
        with self._database.begin() as connection:
            # a lease that ends later than any lease can was written by a clock that was ahead: it counts as over
            over = sa.or_(launches.c.lease_until < now, launches.c.lease_until > now + 2 * CLAIM_S)
            taken = connection.execute(
                sa.update(launches)
                .where(self._is(capture, digest), launches.c.state == "claimed", over)
                .values(owner=owner, lease_until=now + CLAIM_S, at=now)
            )
            return taken.rowcount == 1

    def launched(self, capture: str, digest: str, owner: str, run: str) -> bool:
        """Note that the run exists. False when the claim was lost to another poller meanwhile."""
        with self._database.begin() as connection:
            done = connection.execute(
                sa.update(launches)
                .where(self._is(capture, digest), launches.c.owner == owner)
                .values(state="launched", run=run, at=self._clock())
            )
            return done.rowcount == 1

    def release(self, capture: str, digest: str, owner: str) -> None:
        """Give a claim back: the run could not be started."""
        with self._database.begin() as connection:
            connection.execute(
                sa.delete(launches).where(
                    self._is(capture, digest), launches.c.owner == owner, launches.c.state == "claimed"
                )
            )

    def renew(self, owner: str) -> None:
        """Keep the claims of an owner who is alive and still at it."""
        with self._database.begin() as connection:
            mine = sa.and_(launches.c.batch == self._batch, launches.c.owner == owner, launches.c.state == "claimed")
            connection.execute(sa.update(launches).where(mine).values(lease_until=self._clock() + CLAIM_S))

    def runs(self) -> list[dict[str, object]]:
        """Every launch, the latest first: `capture`, `digest`, `state`, `run`, `at`."""
        query = sa.select(launches).where(launches.c.batch == self._batch).order_by(launches.c.at.desc())
        return self._database.rows(query)

    def is_launched(self, capture: str, digest: str) -> bool:
        """Whether that content has its run already."""
        query = sa.select(launches.c.state).where(self._is(capture, digest), launches.c.state == "launched")
        return bool(self._database.rows(query))

    def keep_letter(self, source: str, reason: str, body: str | bytes) -> None:
        """Keep an event that could not be understood."""
        data = body if isinstance(body, bytes) else body.encode("utf-8", "backslashreplace")
        text = data[:_MOST_BYTES].decode("utf-8", "backslashreplace").replace("\0", "\\0")  # Postgres takes no NUL
        with self._database.begin() as connection:
            connection.execute(
                sa.insert(letters).values(
                    batch=self._batch, source=source, reason=reason, body=text, at=self._clock(), replayed_at=None
                )
            )

    def letters(self, unread: bool = True) -> list[Letter]:
        """The letters, the oldest first; all of them, or those that no replay could read yet."""
        query = sa.select(letters).where(letters.c.batch == self._batch).order_by(letters.c.id)
        if unread:
            query = query.where(letters.c.replayed_at.is_(None))
        return [
            Letter(row["id"], row["source"], row["reason"], row["body"], row["at"], row["replayed_at"])
            for row in self._database.rows(query)
        ]

    def mark_replayed(self, letter: Letter) -> None:
        """Note that a letter could be read after all."""
        with self._database.begin() as connection:
            connection.execute(sa.update(letters).where(letters.c.id == letter.id).values(replayed_at=self._clock()))

    def _is(self, capture: str, digest: str) -> sa.ColumnElement[bool]:
        table = launches.c
        return sa.and_(table.batch == self._batch, table.capture == capture, table.digest == digest)
