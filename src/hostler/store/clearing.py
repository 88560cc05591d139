"""All that is in the store, and its deletion at once. Endpoints are only marked, as DeleteEndpoint does."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, insert, select, update

from hostler.store.store import Store
from hostler.store.tables import changes, endpoints, records, tags


def arns(store: Store) -> list[str]:
    """Return the ARNs of all models, endpoint configs and endpoints, of all regions."""
    with store.database.begin() as connection:
        queries = (select(table.c.arn).order_by(table.c.arn) for table in (records, endpoints))
        return [arn for query in queries for arn in connection.execute(query).scalars()]


def clear(store: Store, keep: Collection[str], now: float) -> dict[str, str]:
    """Delete all models and endpoint configs with their tags, and mark all endpoints for deletion, but the ARNs `keep`.

    Return the ARNs of the endpoints that are marked now, by uid.
    """
    with store.database.begin() as connection:
        doomed = [arn for arn in connection.execute(select(records.c.arn)).scalars() if arn not in keep]
        for arn in doomed:
            connection.execute(delete(records).where(records.c.arn == arn))
            connection.execute(delete(tags).where(tags.c.arn == arn))
        query = select(endpoints.c.id, endpoints.c.arn, endpoints.c.deleting)
        rows = [row for row in connection.execute(query) if row.arn not in keep]
        for row in rows:
            if not row.deleting:
                values = {"deleting": True, "modified": round(now, 3)}
                connection.execute(update(endpoints).where(endpoints.c.id == row.id).values(values))
                connection.execute(insert(changes).prefix_with("OR REPLACE").values(endpoint=row.id))
    return {f"{row.id:08x}": row.arn for row in rows}
