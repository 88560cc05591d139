"""How a file of SQLite's is opened: each transaction is one from its begin, and the pragmas are those of its owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event


def make_engine(
    path: Path, pragmas: Iterable[str], prepare: Callable[[sqlite3.Connection], None] = lambda connection: None
) -> Engine:
    """Return the engine of a file, which the first connection opens. `prepare` is called with each connection."""

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late to isolate readers from writers
        for pragma in (*pragmas, "busy_timeout = 10000"):
            connection.execute(f"PRAGMA {pragma}")
        prepare(connection)

    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", _begin)
    return engine


def version_of(connection: Connection) -> int:
    """Return the version of a file's tables; 0: it is new."""
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
