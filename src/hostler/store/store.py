"""The store: desired state and its outcome, in one SQLite file.

A plain, synchronous API, safe to call from any thread. It knows records, but no operations or messages. Once a method
that writes has returned, the change survives a crash of the process and of the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, true, tuple_, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError

from hostler.core.endpoints.rollout import Failed, Ready
from hostler.errors import HostlerError
from hostler.store import documents
from hostler.store.records import (
    Changes,
    Document,
    EndpointRecord,
    Kind,
    ListQuery,
    Record,
    Revision,
    StoredEndpoint,
)
from hostler.store.tables import STATUS, changes, endpoints, open_file, records, revisions, tags

TableRow = Row[Any]  # its columns are attributes


class NameTaken(HostlerError):
    """A resource of that kind and region has that name already, in some letter case."""


class ResourceNotFound(HostlerError):
    """No resource has that ARN."""


class NotInService(HostlerError):
    """The endpoint cannot be changed now; nothing was changed."""


class TooManyTags(HostlerError):
    """A resource's tags would exceed the limit; nothing was changed."""


class Store:
    """Models, endpoint configs, endpoints with their revisions, and tags, of all regions."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises UserError if it cannot be used (see tables.open_file)."""
        self.database = open_file(path)

    def close(self) -> None:
        self.database.dispose()

    # --- models and endpoint configs ------------------------------------------------------------------------------

    def create_record(self, kind: Kind, record: Record, new_tags: Mapping[str, str]) -> None:
        """Store a model or an endpoint config with its first tags. Raises NameTaken."""
        row = dataclasses.asdict(record) | {"kind": kind, "key": record.name.lower()}
        with self.database.begin() as connection:
            _insert_unique(connection, records, row)
            _put_tags(connection, record.arn, new_tags)

    def record(self, kind: Kind, region: str, name: str) -> Record | None:
        query = select(records).where(*_record_named(kind, region, name))
        with self.database.begin() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _record(row)

    def delete_record(self, kind: Kind, region: str, name: str) -> bool:
        """Delete a model or an endpoint config and its tags; return False if there is none."""
        with self.database.begin() as connection:
            query = delete(records).where(*_record_named(kind, region, name)).returning(records.c.arn)
            arn = connection.execute(query).scalar_one_or_none()
            if arn is not None:
                connection.execute(delete(tags).where(tags.c.arn == arn))
        return arn is not None

    def list_records(self, kind: Kind, page_query: ListQuery) -> list[Record]:
        """Return one page of at most `page_query.limit` items, in the order of the query."""
        with self.database.begin() as connection:
            return [_record(row) for row in _page(connection, records, page_query, [records.c.kind == kind])]

    # --- endpoints ------------------------------------------------------------------------------------------------

    def create_endpoint(
        self,
        *,
        region: str,
        name: str,
        arn: str,
        created: float,
        document: Document,
        config: Document,
        models: Mapping[str, Document],
        new_tags: Mapping[str, str],
    ) -> EndpointRecord:
        """Store an endpoint with revision 1 and its first tags. Raises NameTaken."""
        row = {
            "region": region,
            "key": name.lower(),
            "name": name,
            "arn": arn,
            "created": created,
            "modified": created,
            "document": document,
            "config_name": documents.config_name(config),
            "revision": 1,
            "deleting": False,
            "ready_revision": 0,
            "failed_revision": 0,
            "failure_reason": "",
        }
        with self.database.begin() as connection:
            number = _insert_unique(connection, endpoints, row)
            revision = {"endpoint": number, "number": 1, "fleet": 1, "config": config, "models": dict(models)}
            revision |= {"deployment": documents.deployment(document), "asked": created}
            connection.execute(insert(revisions), revision)
            _put_tags(connection, arn, new_tags)
            _changed(connection, number)
            return _endpoint(connection.execute(select(endpoints).where(endpoints.c.id == number)).one())

    def update_endpoint(
        self,
        uid: str,
        *,
        expected_revision: int,
        share_fleet: bool,
        config: Document,
        models: Mapping[str, Document],
        deployment: Document | None,
        now: float,
    ) -> EndpointRecord:
        """Store one more revision of an endpoint that is InService.

        `expected_revision`: the newest one that the caller has read. `share_fleet`: the revision uses the instances of
        the one that serves, otherwise its own. Raises NotInService, also if another update or a delete came first.
        """
        number = int(uid, 16)
        with self.database.begin() as connection:
            row = connection.execute(select(endpoints).where(endpoints.c.id == number)).one_or_none()
            if row is None or row.revision != expected_revision or _endpoint(row).status != "InService":
                raise NotInService(f"endpoint {uid} is not in service with revision {expected_revision}")
            ready = (revisions.c.endpoint == number) & (revisions.c.number == row.ready_revision)
            shared = connection.execute(select(revisions.c.fleet).where(ready)).scalar_one()
            revision = {
                "endpoint": number,
                "number": expected_revision + 1,
                "fleet": shared if share_fleet else expected_revision + 1,
            }
            revision |= {"config": config, "models": dict(models), "deployment": deployment, "asked": now}
            connection.execute(insert(revisions), revision)
            values = {"revision": expected_revision + 1, "modified": round(now, 3)}
            _changed(connection, number)
            query = update(endpoints).where(endpoints.c.id == number).values(values).returning(endpoints)
            return _endpoint(connection.execute(query).one())

    def endpoint(self, region: str, name: str) -> EndpointRecord | None:
        with self.database.begin() as connection:
            row = connection.execute(select(endpoints).where(*_endpoint_named(region, name))).one_or_none()
        return None if row is None else _endpoint(row)

    def endpoint_and_revisions(self, region: str, name: str) -> tuple[EndpointRecord, tuple[Revision, ...]] | None:
        """Return an endpoint and its revisions from the ready one to the newest; before one is ready, its only one."""
        with self.database.begin() as connection:
            row = connection.execute(select(endpoints).where(*_endpoint_named(region, name))).one_or_none()
            if row is None:
                return None
            conditions = (revisions.c.endpoint == row.id, revisions.c.number >= row.ready_revision)
            rows = connection.execute(select(revisions).where(*conditions).order_by(revisions.c.number))
            return _endpoint(row), tuple(map(_revision, rows))

    def revision(self, uid: str, number: int) -> Revision | None:
        key = (revisions.c.endpoint == int(uid, 16), revisions.c.number == number)
        with self.database.begin() as connection:
            row = connection.execute(select(revisions).where(*key)).one_or_none()
        return None if row is None else _revision(row)

    def list_endpoints(self, page_query: ListQuery) -> list[EndpointRecord]:
        """Return one page of at most `page_query.limit` items, in the order of the query."""
        with self.database.begin() as connection:
            return [_endpoint(row) for row in _page(connection, endpoints, page_query, [])]

    def mark_deleting(self, region: str, name: str, now: float) -> EndpointRecord | None:
        """Mark an endpoint for deletion; a repeated call changes nothing. Return None if there is no such endpoint."""
        conditions = _endpoint_named(region, name)
        values = {"deleting": True, "modified": round(now, 3)}
        with self.database.begin() as connection:
            connection.execute(update(endpoints).where(*conditions, endpoints.c.deleting.is_(False)).values(values))
            row = connection.execute(select(endpoints).where(*conditions)).one_or_none()
            if row is not None:
                _changed(connection, row.id)
        return None if row is None else _endpoint(row)

    # --- for the reconciler ---------------------------------------------------------------------------------------

    def changes(self, since: int | None = None) -> Changes:
        """Return what has changed after a change; None: every endpoint of every region."""
        changed: ColumnElement[bool] = true()
        with self.database.begin() as connection:
            query = select(changes.c.number, changes.c.endpoint)
            if since is not None:
                query = query.where(changes.c.number > since)
                changed = endpoints.c.id.in_(select(changes.c.endpoint).where(changes.c.number > since))
            rows = connection.execute(query).all()
            number = max((row.number for row in rows), default=since or 0)
            if since is not None and not rows:
                return Changes(number, ())
            stored = _stored_endpoints(connection, changed)
        removed = frozenset(f"{row.endpoint:08x}" for row in rows) - {endpoint.record.uid for endpoint in stored}
        return Changes(number, stored, removed)

    def mark(self, outcomes: Mapping[str, Ready | Failed], now: float) -> None:
        """Record what came of revisions, by their endpoints' uids. Does nothing for one that is marked for deletion."""
        with self.database.begin() as connection:
            for uid, outcome in outcomes.items():
                match outcome:
                    case Ready(revision):
                        _mark_ready(connection, uid, revision, now)
                    case Failed(revision, reason):
                        values = {"failed_revision": revision, "failure_reason": reason, "modified": round(now, 3)}
                        connection.execute(update(endpoints).where(*_not_deleting(uid)).values(values))
                _changed(connection, int(uid, 16))

    def remove(self, uid: str) -> None:
        """Delete an endpoint, its revisions and its tags, which frees its name. Does nothing for an unknown `uid`."""
        with self.database.begin() as connection:
            query = delete(endpoints).where(endpoints.c.id == int(uid, 16)).returning(endpoints.c.arn)
            arn = connection.execute(query).scalar_one_or_none()
            connection.execute(delete(tags).where(tags.c.arn == arn))
            _changed(connection, int(uid, 16))

    # --- tags -----------------------------------------------------------------------------------------------------

    def add_tags(self, arn: str, new_tags: Mapping[str, str], limit: int) -> dict[str, str]:
        """Merge tags into those of a resource; return them all, by key. Raises ResourceNotFound, TooManyTags."""
        with self.database.begin() as connection:
            _check_resource(connection, arn)
            _put_tags(connection, arn, new_tags)
            merged = _tags(connection, arn)
            if len(merged) > limit:
                raise TooManyTags(f"{arn} would have {len(merged)} tags")
            _tags_changed(connection, arn)
        return merged

    def list_tags(self, arn: str) -> dict[str, str]:
        """Return a resource's tags, ordered by key. Raises ResourceNotFound."""
        with self.database.begin() as connection:
            _check_resource(connection, arn)
            return _tags(connection, arn)

    def delete_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Delete tags of a resource; unknown keys are ignored. Raises ResourceNotFound."""
        with self.database.begin() as connection:
            _check_resource(connection, arn)
            connection.execute(delete(tags).where(tags.c.arn == arn, tags.c.key.in_(list(keys))))
            _tags_changed(connection, arn)


def _mark_ready(connection: Connection, uid: str, revision: int, now: float) -> None:
    """Record that a revision is InService.

    1. Describe shows this revision's config from now on, and no reason of an earlier failure.
    2. Revisions older than the one that was ready before are deleted, unless one of the two uses their fleet.
    """
    number = int(uid, 16)
    of_revision = (revisions.c.endpoint == number, revisions.c.number == revision)
    config = connection.execute(select(revisions.c.config).where(*of_revision)).scalar_one_or_none()
    if config is None:
        return
    values = {"ready_revision": revision, "failure_reason": "", "modified": round(now, 3)}
    values["config_name"] = documents.config_name(config)
    ready = select(endpoints.c.ready_revision).where(endpoints.c.id == number)
    previous = connection.execute(ready).scalar_one()
    # 1. The revision that Describe shows.
    connection.execute(update(endpoints).where(*_not_deleting(uid)).values(values))
    # 2. The revisions that are not used any more.
    own, used = revisions.c.endpoint == number, revisions.c.number.in_([previous, revision])
    in_use = select(revisions.c.fleet).where(own, used)
    connection.execute(delete(revisions).where(own, revisions.c.number < previous, revisions.c.number.not_in(in_use)))


def _changed(connection: Connection, endpoint: int) -> None:
    """Note that an endpoint, its revisions or its tags have changed."""
    connection.execute(insert(changes).prefix_with("OR REPLACE").values(endpoint=endpoint))


def _tags_changed(connection: Connection, arn: str) -> None:
    for number in connection.execute(select(endpoints.c.id).where(endpoints.c.arn == arn)).scalars():
        _changed(connection, number)


def _not_deleting(uid: str) -> tuple[ColumnElement[bool], ...]:
    return endpoints.c.id == int(uid, 16), ~endpoints.c.deleting


def _record_named(kind: Kind, region: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return records.c.kind == kind, records.c.region == region, records.c.key == name.lower()


def _stored_endpoints(connection: Connection, chosen: ColumnElement[bool]) -> tuple[StoredEndpoint, ...]:
    """Return the chosen endpoints, oldest first."""
    stored = [_endpoint(row) for row in connection.execute(select(endpoints).where(chosen).order_by(endpoints.c.id))]
    revisions_of: dict[str, list[Revision]] = {endpoint.uid: [] for endpoint in stored}
    used = revisions.c.number >= endpoints.c.ready_revision
    query = select(revisions).join(endpoints, revisions.c.endpoint == endpoints.c.id).where(chosen, used)
    for row in connection.execute(query.order_by(revisions.c.number)):
        revision = _revision(row)
        revisions_of[revision.uid].append(revision)
    tags_of: dict[str, dict[str, str]] = {}
    for row in connection.execute(select(tags).join(endpoints, tags.c.arn == endpoints.c.arn).where(chosen)):
        tags_of.setdefault(row.arn, {})[row.key] = row.value
    return tuple(StoredEndpoint(e, tuple(revisions_of[e.uid]), tags_of.get(e.arn, {})) for e in stored)


def _endpoint_named(region: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return endpoints.c.region == region, endpoints.c.key == name.lower()


def _insert_unique(connection: Connection, table: Table, row: Mapping[str, object]) -> int:
    """Insert a row and return its number. The unique index detects a taken name. Raises NameTaken."""
    try:
        return connection.execute(insert(table), row).lastrowid
    except IntegrityError:
        raise NameTaken(f"{row['arn']} exists already") from None


def _page(
    connection: Connection, table: Table, page_query: ListQuery, conditions: list[ColumnElement[bool]]
) -> Iterable[TableRow]:
    """Select a page by keyset: rows after the last one seen, so that rows created meanwhile shift nothing (§2.0)."""
    columns: dict[str, ColumnElement[object]] = {"Name": table.c.key, "CreationTime": table.c.created, "Status": STATUS}
    where = [*conditions, table.c.region == page_query.region]
    if page_query.name_contains:
        where.append(table.c.key.contains(page_query.name_contains.lower(), autoescape=True))
    if page_query.created_before is not None:
        where.append(table.c.created < page_query.created_before)
    if page_query.created_after is not None:
        where.append(table.c.created >= page_query.created_after)
    if page_query.modified_before is not None:
        where.append(table.c.modified < page_query.modified_before)
    if page_query.modified_after is not None:
        where.append(table.c.modified > page_query.modified_after)
    if page_query.status:
        where.append(STATUS == page_query.status)  # noqa: SIM300
    order = (columns[page_query.sort], table.c.key)
    if page_query.after is not None:
        position = tuple_(*order)
        where.append(position < page_query.after if page_query.descending else position > page_query.after)
    by = [column.desc() if page_query.descending else column.asc() for column in order]
    return connection.execute(select(table).where(*where).order_by(*by).limit(page_query.limit))


def _check_resource(connection: Connection, arn: str) -> None:
    for table in (records, endpoints):
        if connection.execute(select(table.c.arn).where(table.c.arn == arn)).first():
            return
    raise ResourceNotFound(f"there is no {arn}")


def _put_tags(connection: Connection, arn: str, new_tags: Mapping[str, str]) -> None:
    if new_tags:
        query = upsert(tags)
        query = query.on_conflict_do_update(index_elements=["arn", "key"], set_={"value": query.excluded.value})
        connection.execute(query, [{"arn": arn, "key": key, "value": value} for key, value in new_tags.items()])


def _tags(connection: Connection, arn: str) -> dict[str, str]:
    query = select(tags.c.key, tags.c.value).where(tags.c.arn == arn).order_by(tags.c.key)
    return {row.key: row.value for row in connection.execute(query)}


def _record(row: TableRow) -> Record:
    return Record(row.region, row.name, row.arn, row.created, row.document)


def _endpoint(row: TableRow) -> EndpointRecord:
    fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(EndpointRecord) if f.name != "uid"}
    return EndpointRecord(**fields, uid=f"{row.id:08x}")


def _revision(row: TableRow) -> Revision:
    return Revision(f"{row.endpoint:08x}", row.number, row.fleet, row.config, row.models, row.deployment, row.asked)
