"""The database behind the catalogue and the inbox of uploads: SQLite for one machine, Postgres for several workers.

Everything in it can be rebuilt from the stores: losing it costs time, never an asset. Timestamps are Unix seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from infra.settings import NightSettings
from models.errors import DigitizeError, ReasonCode

SCHEMA = 1
"""Raised when a table changes; a database of another schema is refused by name."""

_CHUNK = 200
metadata = sa.MetaData()


def _text(name: str, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=not key)


def _real(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Double)


def _whole(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger)


schemas = sa.Table("digitize_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

published = sa.Table(
    "published",
    metadata,
    *(_text("target", key=True), _text("asset", key=True), _whole("version"), _text("verdict")),
    *(_text("manifest"), _text("manifest_sha256"), _text("etag"), _text("software"), _whole("bytes"), _real("seen_at")),
)
"""`latest.json` of each asset at each target."""

published_stages = sa.Table(
    "published_stages",
    metadata,
    *(_text("target", key=True), _text("asset", key=True), _text("stage", key=True)),
    *(_text("method"), _text("version"), _text("stage_key"), _text("options")),
)
"""How each stage of a published version was done. `options` is the digest of the effective options."""

outcomes = sa.Table(
    "outcomes",
    metadata,
    *(_text("store", key=True), _text("batch", key=True), _text("asset", key=True)),
    *(_text("sources"), _text("stages"), _text("phase"), _text("verdict"), _whole("tries"), _text("run")),
    _real("ended_at"),
)
"""How each asset's last attempt ended, and for which sources (digest) and stages (JSON) that was."""

stage_times = sa.Table(
    "stage_times",
    metadata,
    *(_text("store", key=True), _text("asset", key=True), _text("stage", key=True), _text("stage_key", key=True)),
    *(_text("method"), _text("version"), _text("options"), _whole("photos")),
    *(_real("seconds"), _real("cpu_seconds"), _real("peak_memory_gb"), _real("seen_at")),
)
"""What each commit took."""

sources = sa.Table("sources", metadata, _text("uri", key=True), _text("fingerprint"), _text("ref"), _real("seen_at"))
"""Folders that were hashed: their files' names, sizes and times, and what they hashed to."""

nights = sa.Table(
    "nights",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *(_text("store"), _text("batch"), _real("started_at"), _real("ended_at"), _text("run"), _text("counts")),
    *(_real("success_ratio"), _whole("left_over"), _whole("ok")),
)

hints = sa.Table(
    "upload_hints",
    metadata,
    *(_text("batch", key=True), _text("capture", key=True), _whole("events"), _real("first_at"), _real("last_at")),
)
"""Captures that something was heard of and that were not looked at since."""

launches = sa.Table(
    "upload_launches",
    metadata,
    *(_text("batch", key=True), _text("capture", key=True), _text("digest", key=True)),
    *(_text("state"), _text("owner"), _real("lease_until"), _text("run"), _real("at")),
)
"""One row a capture and content: the primary key is what makes a run happen once."""

letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *(_text("batch"), _text("source"), _text("reason"), _text("body"), _real("at"), _real("replayed_at")),
)
"""Events that could not be understood, kept as they came."""


def default_url() -> str:
    """A file of this user: `digitize/catalogue.db` in the folder for data."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return f"sqlite:///{data / 'digitize' / 'catalogue.db'}"


class Database:
    """A connection pool, with the tables made on first use. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.dialect = self._engine.dialect.name
        self._make()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction. Raises DigitizeError(store_unreachable, retryable) when the database does not answer."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise self._unreachable(error) from error

    def rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """The rows of a query, as dictionaries by column."""
        with self.begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def put(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows, replacing those with the same primary key."""
        with self.begin() as connection:
            for start in range(0, len(rows), _CHUNK):
                put_rows(connection, table, rows[start : start + _CHUNK])

    def add_new(self, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert a row unless its primary key is taken; whether it was inserted."""
        with self.begin() as connection:
            return connection.execute(insert_into(connection, table).values(row).on_conflict_do_nothing()).rowcount == 1

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _make(self) -> None:
        with self.begin() as connection:
            if self.dialect == "postgresql":  # two workers may start at once, and CREATE IF NOT EXISTS can collide
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7215301)"))
            metadata.create_all(connection)
            found = connection.execute(sa.select(schemas.c.version)).scalars().all()
            if not found:
                put_rows(connection, schemas, [{"version": SCHEMA}])
        if found and found != [SCHEMA]:
            raise DigitizeError(
                ReasonCode.STORE_UNREACHABLE,
                f"expected a catalogue of schema {SCHEMA}, found {found}",
                "Use another database: what is published is read into it again.",
                path=self._place(),
            )

    def _place(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    def _unreachable(self, error: Exception) -> DigitizeError:
        cause = getattr(error, "orig", None) or error
        return DigitizeError(
            ReasonCode.STORE_UNREACHABLE,
            f"the catalogue's database did not answer: {type(cause).__name__}: {cause}",
            "Check DIGITIZE_DATABASE_URL and that the database runs.",
            retryable=True,
            path=self._place(),
        )


def open_database(settings: NightSettings | None = None) -> Database:
    """The database of the settings."""
    secret = (settings or NightSettings()).database_url
    return Database(secret.get_secret_value() if secret else default_url())


def put_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """`Database.put` within a transaction. Few rows: they become one statement."""
    if not rows:
        return
    insert = insert_into(connection, table).values(list(rows))
    keys = [column.name for column in table.primary_key]
    changed = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    update = insert.on_conflict_do_update(index_elements=keys, set_=changed) if changed else None
    connection.execute(insert.on_conflict_do_nothing() if update is None else update)


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the words of this connection's database."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise sa.exc.ArgumentError("expected sqlite or postgresql+pg8000")
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except (sa.exc.ArgumentError, ImportError, OSError) as error:
        raise DigitizeError(
            ReasonCode.MISSING_DEPENDENCY if isinstance(error, ImportError) else ReasonCode.SPEC_INVALID,
            f"DIGITIZE_DATABASE_URL: {str(error).partition(' from ')[0]}",
            "sqlite:////path/catalogue.db, or postgresql+pg8000://user:password@host/name with the extra `postgres`.",
        ) from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Readers do not block the writer, writers wait for each other, and transactions begin when they are told to."""
    connection.isolation_level = None
    for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
