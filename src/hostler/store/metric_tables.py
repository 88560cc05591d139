"""The tables of the metric store, how their file is opened, and how buckets are stored.

The file is apart from the state's, and may be lost: nothing that hostler hosts depends on it. A commit survives the end
of the process at any point, not that of the machine (WAL with synchronous=NORMAL).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import msgspec
from sqlalchemy import (
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from hostler.store.sqlite import make_engine, version_of

VERSION = 1  # of the tables below; stored in PRAGMA user_version

_PRAGMAS = (
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    f"journal_size_limit = {4 * 2**20}",
    "synchronous = NORMAL",
)

_metadata = MetaData()

# A series of the API has a row here for each unit in which it was written.
series = Table(
    "series",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("region", String, nullable=False),
    Column("namespace", String, nullable=False),
    Column("name", String, nullable=False),
    Column("dimensions", String, nullable=False),  # JSON, [[name, value], ...]
    Column("unit", String, nullable=False),
    UniqueConstraint("region", "namespace", "name", "dimensions", "unit"),
)

points = Table(
    "points",
    _metadata,
    Column("series", Integer, ForeignKey("series.id"), primary_key=True),
    Column("at", Integer, primary_key=True),  # epoch seconds of the minute's begin; of high resolution, the second's
    Column("count", Float, nullable=False),
    Column("sum", Float, nullable=False),
    Column("minimum", Float, nullable=False),
    Column("maximum", Float, nullable=False),
    Column("buckets", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# How far each journal has been added to the points.
positions = Table(
    "positions",
    _metadata,
    Column("journal", String, primary_key=True),
    Column("position", String, nullable=False),
)


class NewerFile(Exception):
    """A newer hostler wrote the file."""


def open_file(path: Path) -> Engine:
    """Open or create the file. Raises NewerFile, and SQLAlchemy's DatabaseError if it cannot be used."""
    engine = make_engine(path, _PRAGMAS, _add_functions)
    try:
        with engine.begin() as connection:
            version = version_of(connection)
            if version > VERSION:
                raise NewerFile
            if version < VERSION:  # else nothing is written, for which a full disk has no room
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
                _metadata.create_all(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("merge_buckets", 2, _merged, deterministic=True)
    connection.create_aggregate("sum_buckets", 1, _Sum)  # type: ignore[arg-type]  # typeshed knows integers alone


# --- buckets ------------------------------------------------------------------------------------------------------

_LARGE = 2**53  # a number of values from which on it is stored as a float


def pack(buckets: Mapping[int, float]) -> bytes:
    """Return buckets as bytes, most of them as two: how far it is from the one before, and how many values it has."""
    flat: list[float] = []
    last = 0
    for bucket in sorted(buckets):
        times = buckets[bucket]
        flat += (bucket - last, int(times) if times < _LARGE and times == int(times) else times)
        last = bucket
    return msgspec.msgpack.encode(flat)


def unpack(packed: bytes) -> dict[int, float]:
    flat = msgspec.msgpack.decode(packed)
    return dict(zip(accumulate(flat[::2]), flat[1::2], strict=True))


def _add(buckets: dict[int, float], packed: bytes) -> None:
    for bucket, times in unpack(packed).items():
        buckets[bucket] = buckets.get(bucket, 0) + times


def _merged(one: bytes, other: bytes) -> bytes:
    buckets = unpack(one)
    _add(buckets, other)
    return pack(buckets)


class _Sum:
    """SQL's aggregate function for columns of buckets."""

    def __init__(self) -> None:
        self._first: bytes | None = None  # as long as it is the only one, which is usual
        self._buckets: dict[int, float] | None = None

    def step(self, packed: bytes) -> None:
        if self._first is None:
            self._first = packed
            return
        if self._buckets is None:
            self._buckets = unpack(self._first)
        _add(self._buckets, packed)

    def finalize(self) -> bytes | None:
        return self._first if self._buckets is None else pack(self._buckets)
