"""The metric store: the points of all metrics, by series and minute, for 15 days, in one SQLite file of its own.

A plain, synchronous API for one thread. Points of the same series, minute and unit are merged, in one transaction with
how far the journals were read that they come from: so each point counts once, whenever the process ends. It knows no
operations of AWS's.

No fault of the file stops anything else. A file that is damaged, or of a newer hostler, is set aside, and a new one
begun, as it is when somebody has removed the file. On a full disk the call raises MetricsUnavailable, and hostler's log
has one line for all such calls in a row.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    String,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DatabaseError, OperationalError

from hostler.core.metrics.series import MINUTE, Point, Series
from hostler.core.metrics.statistics import Statistics
from hostler.errors import ApiError
from hostler.store.metric_tables import NewerFile, open_file, pack, points, positions, series, unpack

KEPT = 15 * 86_400  # seconds
_HOUR = 3600

_log = logging.getLogger(__name__)


class MetricsUnavailable(ApiError):
    """The file cannot be read or written now, above all on a full disk; nothing was changed."""

    def __init__(self, reason: str) -> None:
        super().__init__("InternalServiceFault", f"hostler cannot use its file of metrics: {reason}.", 500)


class Reading(NamedTuple):
    """What a series gained in one period, of one unit."""

    at: int  # epoch seconds of the period's begin
    unit: str
    statistics: Statistics


class MetricStore:
    """Points of all regions. `budget`: bytes of the file, over which the oldest points go, first those of the namespace
    `least`. `clock`: epoch seconds.
    """

    def __init__(self, path: Path, budget: int, clock: Callable[[], float], least: str = "") -> None:
        """Open nothing yet: the first call does."""
        self._path = path
        self._budget = budget
        self._clock = clock
        self._least = least
        self._engine: Engine | None = None
        self._opened = 0  # the inode of its file
        self._failing = False  # the last call failed, and the log says so
        self._pruned = 0  # the hour, since the epoch, in which old points were deleted last

    def close(self) -> None:
        if self._engine:
            self._engine.dispose()
            self._engine = None

    # --- writing --------------------------------------------------------------------------------------------------

    def add(self, new: Iterable[Point], journals: Mapping[str, str] | None = None) -> None:
        """Merge points into those that are there, and store the journals' positions. Raises MetricsUnavailable."""
        rows = [_row(point) for point in new if point.statistics.count]
        with self._transaction() as connection:
            if rows:
                connection.execute(_INSERT_SERIES, rows)
                connection.execute(_MERGE_POINT, rows)
            if journals:
                connection.execute(_SET_POSITION, [{"journal": j, "position": p} for j, p in journals.items()])
        self._make_room()

    def positions(self) -> dict[str, str]:
        """Return the positions stored last, by journal. Raises MetricsUnavailable."""
        with self._transaction() as connection:
            return {row.journal: row.position for row in connection.execute(select(positions))}

    def forget(self, journals: Iterable[str]) -> None:
        """Delete the positions of journals that are gone. Raises MetricsUnavailable."""
        with self._transaction() as connection:
            connection.execute(delete(positions).where(positions.c.journal.in_(list(journals))))

    # --- reading --------------------------------------------------------------------------------------------------

    def read(
        self, wanted: Series, start: int, end: int, period: int = MINUTE, unit: str = "", distribution: bool = False
    ) -> Iterator[Reading]:
        """Yield the statistics of each period from `start` to before `end`, by time; none of a period without points.

        `start`, `end`: epoch seconds; the first period begins at `start`. `period`: seconds. `unit`: of no other unit.
        `distribution`: with buckets, which takes longer. Raises MetricsUnavailable.
        """
        asked = {**_identity(wanted), "start": start, "end": end, "period": period, "unit": unit}
        with self._transaction() as connection:
            rows = connection.execute(_READ_DISTRIBUTIONS if distribution else _READ, asked).all()
        if distribution:  # unpacked one after the other, because buckets are large then
            return (Reading(slot, of, Statistics(n, s, low, high, unpack(b))) for slot, of, n, s, low, high, b in rows)
        return (Reading(slot, of, Statistics(n, s, low, high)) for slot, of, n, s, low, high in rows)

    def find(
        self,
        region: str,
        matches: Callable[[Series], bool],
        *,
        namespace: str = "",
        name: str = "",
        since: int = 0,
        after: Series | None = None,
        limit: int = 500,
    ) -> list[Series]:
        """Return the first `limit` series that match, in their order, each once, whatever its units.

        `since`: with a point at that time, in epoch seconds, or later. `after`: the last series of the page before.
        Raises MetricsUnavailable.
        """
        columns = (series.c.namespace, series.c.name, series.c.dimensions)
        query = select(*columns).distinct().where(series.c.region == region).order_by(*columns)
        if namespace:
            query = query.where(series.c.namespace == namespace)
        if name:
            query = query.where(series.c.name == name)
        if since:
            query = query.where(exists().where(points.c.series == series.c.id, points.c.at >= since))
        if after:
            query = query.where(tuple_(*columns) > (after.namespace, after.name, _dimensions(after)))
        found: list[Series] = []
        with self._transaction() as connection:
            for row in connection.execute(query):
                each = Series(region, row.namespace, row.name, _read_dimensions(row.dimensions))
                if matches(each):
                    found.append(each)
                    if len(found) == limit:
                        break
        return found

    # --- the file -------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Begin a transaction, in a file that is opened if need be. Raises MetricsUnavailable."""
        try:
            if self._engine is None or self._inode() != self._opened:
                self.close()
                self._engine = self._open()
                self._opened = self._inode()
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            self._fail(
                f"metrics are dropped: {self._path} cannot be used: {error.orig}. Make room where hostler's data is"
            )
            raise MetricsUnavailable(str(error.orig)) from error
        except DatabaseError as error:
            self._set_aside("damaged")
            raise MetricsUnavailable(str(error.orig)) from error
        self._failing = False

    def _open(self) -> Engine:
        try:
            return open_file(self._path)
        except OperationalError:
            raise
        except NewerFile:
            self._set_aside("of a newer hostler")
        except DatabaseError:
            self._set_aside("damaged")
        return open_file(self._path)

    def _inode(self) -> int:
        """Return the inode of the file that is there now; 0: there is none."""
        with contextlib.suppress(OSError):
            return self._path.stat().st_ino
        return 0

    def _set_aside(self, why: str) -> None:
        """Rename the file, in place of one that was set aside before."""
        self.close()
        aside = f"{self._path}.set-aside"
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{aside}{suffix}").unlink(missing_ok=True)
                if (file := Path(f"{self._path}{suffix}")).exists():
                    file.rename(f"{aside}{suffix}")
        except OSError as error:
            raise MetricsUnavailable(error.strerror or "it cannot be renamed") from error
        _log.warning("the file of metrics is %s: it is %s now, and a new one is begun", why, aside)

    def _fail(self, line: str) -> None:
        if not self._failing:
            _log.warning(line)
        self._failing = True

    # --- its size -------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Delete points that are too old, once an hour, and the oldest while the file is over its budget."""
        now = int(self._clock())
        everything, least = select(series.c.id), select(series.c.id).where(series.c.namespace == self._least)
        if now // _HOUR != self._pruned:
            self._pruned = now // _HOUR
            self._delete_before(now - KEPT, everything)
        for those in (least, everything):
            while (oldest := self._oldest_over_budget(those)) is not None:
                self._delete_before(oldest + max(_HOUR, (now - oldest) // 10), those)

    def _oldest_over_budget(self, those: Select[tuple[int]]) -> int | None:
        """Return the time of the oldest point of those series if the file is over its budget; None if there is none."""
        with self._transaction() as connection:
            pages, free, size = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * size <= self._budget:
                return None
            oldest = select(func.min(points.c.at)).where(points.c.series == series.c.id).scalar_subquery()
            time: int | None = connection.execute(select(func.min(oldest)).where(series.c.id.in_(those))).scalar_one()
            return time

    def _delete_before(self, end: int, those: Select[tuple[int]]) -> None:
        """Delete points of those series before a time, then series without points, and give the space back."""
        with self._transaction() as connection:
            connection.execute(delete(points).where(points.c.series.in_(those), points.c.at < end))
            connection.execute(delete(series).where(~exists().where(points.c.series == series.c.id)))
        with self._transaction() as connection:
            # SQLite gives one page back for each row that is asked for, and each row is empty.
            connection.connection.cursor().execute("PRAGMA incremental_vacuum").fetchall()


def _row(point: Point) -> dict[str, object]:
    each, statistics = point.series, point.statistics
    return {
        **_identity(each),
        "unit": point.unit,
        "at": point.minute * MINUTE + point.second,
        "count": statistics.count,
        "sum": statistics.sum,
        "minimum": statistics.minimum,
        "maximum": statistics.maximum,
        "buckets": pack(statistics.buckets),
    }


def _identity(each: Series) -> dict[str, object]:
    return {
        "region": each.region,
        "namespace": each.namespace,
        "name": each.name,
        "dimensions": _dimensions(each),
    }


def _dimensions(each: Series) -> str:
    return msgspec.json.encode(each.dimensions).decode()


def _read_dimensions(text: str) -> tuple[tuple[str, str], ...]:
    return msgspec.json.decode(text, type=tuple[tuple[str, str], ...])


# Statements are made once: to make one takes several times as long as to execute it.
_KEY = ("region", "namespace", "name", "dimensions", "unit")
_INSERT_SERIES = upsert(series).values({name: bindparam(name) for name in _KEY}).on_conflict_do_nothing()
_NUMBER = select(series.c.id).where(*(series.c[name] == bindparam(name) for name in _KEY)).scalar_subquery()
_NEW_POINT = upsert(points).values(
    {name: bindparam(name) for name in ("at", "count", "sum", "minimum", "maximum", "buckets")} | {"series": _NUMBER}
)
_MERGE_POINT = _NEW_POINT.on_conflict_do_update(
    index_elements=[points.c.series, points.c.at],
    set_={
        "count": points.c.count + _NEW_POINT.excluded.count,
        "sum": points.c.sum + _NEW_POINT.excluded.sum,
        "minimum": func.min(points.c.minimum, _NEW_POINT.excluded.minimum),
        "maximum": func.max(points.c.maximum, _NEW_POINT.excluded.maximum),
        "buckets": func.merge_buckets(points.c.buckets, _NEW_POINT.excluded.buckets),
    },
)
_NEW_POSITION = upsert(positions).values(journal=bindparam("journal"), position=bindparam("position"))
_SET_POSITION = _NEW_POSITION.on_conflict_do_update(
    index_elements=[positions.c.journal], set_={"position": _NEW_POSITION.excluded.position}
)


def _select_readings(*more: ColumnElement[Any]) -> Select[Any]:
    """Return the statement that reads a series: the values of each slot of a period, and of each unit."""
    start, period, unit = (
        bindparam("start", type_=Integer),
        bindparam("period", type_=Integer),
        bindparam("unit", type_=String),
    )
    at = (start + (points.c.at - start) // period * period).label("slot")
    values = (func.sum(points.c.count), func.sum(points.c.sum), func.min(points.c.minimum), func.max(points.c.maximum))
    query = select(at, series.c.unit, *values, *more).join(series, series.c.id == points.c.series)
    query = query.where(*(series.c[name] == bindparam(name) for name in _KEY if name != "unit"))
    query = query.where(points.c.at >= start, points.c.at < bindparam("end"), or_(unit == "", series.c.unit == unit))
    return query.group_by("slot", series.c.unit).order_by("slot", series.c.unit)


_READ = _select_readings()
_READ_DISTRIBUTIONS = _select_readings(func.sum_buckets(points.c.buckets))
