"""The lives of control: what each must know of those before it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import insert, select

from hostler.store.store import Store
from hostler.store.tables import lives


class Life(NamedTuple):
    """One control. `term`: its number. `passkey`: what gateways open its API with, the same for all of one store."""

    term: int
    passkey: str


def begin(store: Store, now: float, passkey: str) -> Life:
    """Begin a life. `passkey`: that of a new store.

    The term is the time in epoch seconds, but more than the last one: so a control comes after those before it even if
    its store was lost and made anew, or is an older copy.
    """
    with store.database.begin() as connection:
        row = connection.execute(select(lives)).one_or_none()
        life = Life(int(now), passkey) if row is None else Life(max(row.term + 1, int(now)), row.passkey)
        query = insert(lives).prefix_with("OR REPLACE")
        connection.execute(query.values(id=1, term=life.term, passkey=life.passkey))
    return life
