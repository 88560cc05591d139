"""The tables, and how their file is opened. Knows SQLite's peculiarities; knows nothing of operations.

Names are unique per region in lower case (§2.0). Unique indexes enforce it, so of two racing creates exactly one wins.
A commit is on disk when it returns (WAL with synchronous=FULL).
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    case,
)
from sqlalchemy.exc import DatabaseError

from hostler.errors import UserError
from hostler.store.sqlite import make_engine, version_of

VERSION = 2  # of the tables below; stored in PRAGMA user_version

_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")

_metadata = MetaData()

records = Table(
    "records",
    _metadata,
    Column("kind", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("key", String, primary_key=True),  # the name in lower case
    Column("name", String, nullable=False),
    Column("arn", String, nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("document", JSON, nullable=False),
)

endpoints = Table(
    "endpoints",
    _metadata,
    Column("id", Integer, primary_key=True),  # the uid as a number; AUTOINCREMENT never repeats one
    Column("region", String, nullable=False),
    Column("key", String, nullable=False),
    Column("name", String, nullable=False),
    Column("arn", String, nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("modified", Float, nullable=False),
    Column("document", JSON, nullable=False),
    Column("config_name", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("ready_revision", Integer, nullable=False),
    Column("failed_revision", Integer, nullable=False, server_default="0"),
    Column("failure_reason", String, nullable=False),
    UniqueConstraint("region", "key"),
    sqlite_autoincrement=True,
)

revisions = Table(
    "revisions",
    _metadata,
    Column("endpoint", Integer, ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("fleet", Integer, nullable=False, server_default="1"),
    Column("config", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("deployment", JSON),
    Column("asked", Float, nullable=False, server_default="0"),
)

tags = Table(
    "tags",
    _metadata,
    Column("arn", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

# The last change of each endpoint, also of removed ones, under a number that only grows: so a reader finds what has
# changed since it read last. It is of use until the file is opened again: `open_file` empties it.
changes = Table(
    "changes",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("endpoint", Integer, nullable=False, unique=True),
    sqlite_autoincrement=True,
)

# What a control must know of those before it. `term`: its number among them, which only grows. `passkey`: what
# gateways open its API with.
lives = Table(
    "lives",
    _metadata,
    Column("id", Integer, primary_key=True),  # 1: there is one row
    Column("term", Integer, nullable=False),
    Column("passkey", String, nullable=False),
)

# EndpointRecord.status in SQL, so that the database filters, sorts and limits lists
STATUS = case(
    (endpoints.c.deleting, "Deleting"),
    ((endpoints.c.ready_revision == 0) & (endpoints.c.failed_revision > 0), "Failed"),
    (endpoints.c.ready_revision == 0, "Creating"),
    (
        (endpoints.c.ready_revision < endpoints.c.revision) & (endpoints.c.failed_revision < endpoints.c.revision),
        "Updating",
    ),
    else_="InService",
)

# Version of a file -> statements that upgrade it to the next version. Version 1 had no updates: one revision each.
_UPGRADES = {
    1: (
        "ALTER TABLE endpoints ADD COLUMN failed_revision INTEGER NOT NULL DEFAULT 0",
        "UPDATE endpoints SET failed_revision = 1 WHERE failure_reason != ''",
        "ALTER TABLE revisions ADD COLUMN fleet INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE revisions ADD COLUMN deployment JSON",
        "ALTER TABLE revisions ADD COLUMN asked FLOAT NOT NULL DEFAULT 0",
        "UPDATE revisions SET (deployment, asked) = (SELECT json_extract(document, '$.DeploymentConfig'), created"
        " FROM endpoints WHERE id = endpoint)",
    ),
}


def open_file(path: Path) -> Engine:
    """Open, create or upgrade the state file. Raises UserError if a newer hostler wrote it or it is no state file."""
    engine = make_engine(path, _PRAGMAS)
    try:
        with engine.begin() as connection:
            version = version_of(connection)
            if version > VERSION:
                raise UserError(
                    f"{path} was written by a newer hostler (state version {version}; this one reads {VERSION}):"
                    " install that hostler, or choose another data folder"
                )
            if version < VERSION:
                for earlier in range(version or VERSION, VERSION):  # 0: a new file
                    for statement in _UPGRADES.get(earlier, ()):
                        connection.exec_driver_sql(statement)
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            _metadata.create_all(connection)
            connection.execute(changes.delete())
    except BaseException as error:
        engine.dispose()
        if isinstance(error, DatabaseError):
            raise UserError(f"{path} cannot be used as hostler's state: {error.orig}") from None
        raise
    return engine
