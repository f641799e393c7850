"""Searching the index: one typed query, answered from indexes, newest first (query.md, docs/architecture.md).

No planner chooses between the two ways a search can go, because neither engine's does it well: SQLite keeps no
statistics, and PostgreSQL takes matches to be spread evenly over the ids. A search *drives* from the condition with the
fewest matches, which it takes from an index in the order of their ids, and checks the other conditions match by match
until the page is full. Where even these are many, it *walks* a little first: over the newest rows, checking them all,
which is enough for most of what people ask then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hounsfield.database.engine import Database, Dialect, Row, Transaction, Value
from hounsfield.index.attributes import (
    MODALITIES_IN_STUDY,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_SERIES,
    SEARCHABLE,
    SOP_CLASSES_IN_STUDY,
    TABLE,
)
from hounsfield.index.conditions import Condition, Part, check, joined, meets, source
from hounsfield.index.instances import Level

WALK = 1_000
"""Newest rows that are looked at before anything is counted: one to three milliseconds."""
FEW = 5_000
"""Matches of a condition that are read and sorted faster than the newest rows are looked at."""
PROBE = 20_000
"""Index entries that are counted of a condition to find out which has the fewest matches; more are all alike."""

_ALIAS = {Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
_JOINED = {
    Level.STUDY: "page p CROSS JOIN study s WHERE s.id = p.id",
    Level.SERIES: "page p CROSS JOIN series e CROSS JOIN study s WHERE e.id = p.id AND s.id = e.study_id",
    Level.INSTANCE: (
        "page p CROSS JOIN instance i CROSS JOIN series e CROSS JOIN study s "
        "WHERE i.id = p.id AND e.id = i.series_id AND s.id = i.study_id"
    ),
}
_SHOWN = {level: tuple(a for a in SEARCHABLE if a.column and a.level.value <= level.value) for level in Level}
_NEWEST = {
    Level.STUDY: "(SELECT max(x.id) FROM instance x WHERE x.study_id = s.id)",
    Level.SERIES: "(SELECT max(x.id) FROM instance x WHERE x.series_id = e.id)",
    Level.INSTANCE: "i.id",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A search at one level of one partition, newest first."""

    level: Level
    partition_key: int
    conditions: tuple[Condition, ...] = ()
    """All must be met; of attributes of this level or above."""
    limit: int = 100
    offset: int = 0
    before: int | None = None
    """Only matches with a smaller id: those behind a match already seen, whatever was stored since."""
    with_metadata: bool = False
    """Bring the metadata of the newest instance of each match."""
    computed: frozenset[str] = frozenset()
    """Tags of what is counted or gathered for each match (:data:`COMPUTED`)."""


@dataclass(slots=True)
class Found:
    """One match."""

    id: int
    values: dict[str, str | int | None]
    """Indexed attributes by tag, None where there is no value."""
    metadata: bytes | None
    """Packed fragment (index.fragments)."""
    study_id: int
    series_id: int | None
    computed: dict[str, list[str | int]] = field(default_factory=dict)


async def search(database: Database, query: Query) -> list[Found]:
    """The matches of ``query``, newest first."""

    async def unit(tx: Transaction) -> list[Found]:
        found = [_found(query, row) for row in await _rows(tx, query)]
        for tag in sorted(query.computed) if found else ():
            await _compute(tx, tag, found)
        return found

    return await database.read(unit)


async def count(database: Database, query: Query, seconds: float) -> int:
    """How many matches there are in all, whatever the limit and offset. Raises TookTooLong."""

    async def unit(tx: Transaction) -> int:
        await _steady(tx)
        driver = await _choose(tx, query) if query.conditions else None
        sql, values = counting(query, driver, tx.dialect)
        row = await tx.fetch_one(sql, *values)
        assert row is not None
        return int(row[0])

    return await database.read(unit, seconds=seconds)


# --- which way ---


async def _rows(tx: Transaction, query: Query) -> list[Row]:
    driver = _obvious(query.conditions)
    if query.conditions and driver is None:
        await _steady(tx)
        driver, size = await _fewest(tx, query, FEW)
        if size == FEW:
            if query.offset + query.limit <= WALK:
                rows = await _fetch(tx, walking(query, tx.dialect))
                if len(rows) == query.limit:
                    return rows
            driver = await _choose(tx, query)
    return await _fetch(tx, walking(query, tx.dialect) if driver is None else driving(query, driver, tx.dialect))


async def _steady(tx: Transaction) -> None:
    """Keep PostgreSQL from what it thinks cheaper where much is read, and is not: whole tables in place of an index
    that has all that is asked, and statements compiled for a few milliseconds of work."""
    if tx.dialect == "postgresql":
        await tx.fetch("SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)")


async def _fetch(tx: Transaction, statement: Part) -> list[Row]:
    sql, values = statement
    return await tx.fetch(sql, *values)


def _obvious(conditions: Sequence[Condition]) -> Condition | None:
    """The condition to drive from where nothing has to be counted to know it."""
    identifying = [condition for condition in conditions if condition.identifies]
    if identifying:
        return max(identifying, key=lambda condition: (condition.values.level.value, condition.ordered))
    if len(conditions) == 1 and conditions[0].ordered:
        return conditions[0]
    return None


async def _choose(tx: Transaction, query: Query) -> Condition:
    """The condition with the fewest matches."""
    obvious = _obvious(query.conditions)
    if obvious is not None or len(query.conditions) == 1:
        return obvious or query.conditions[0]
    driver, _ = await _fewest(tx, query, PROBE)
    return driver


async def _fewest(tx: Transaction, query: Query, most: int) -> tuple[Condition, int]:
    """The condition with the fewest matches, and how many these are; ``most`` for as many or more."""
    sql, values = probing(query, tx.dialect, most)
    row = await tx.fetch_one(sql, *values)
    assert row is not None
    sizes = dict(zip(query.conditions, row, strict=True))
    driver = min(query.conditions, key=lambda condition: (sizes[condition], not condition.ordered))
    return driver, sizes[driver]


# --- statements; the tests look at their plans ---


def probing(query: Query, dialect: Dialect, most: int = PROBE) -> Part:
    """How many rows meet each condition, counted up to ``most``."""
    parts = [source(condition, query.partition_key, dialect) for condition in query.conditions]
    counts = ", ".join(f"(SELECT count(*) FROM (SELECT 1 {sql} LIMIT {most}) n)" for sql, _ in parts)
    return f"SELECT {counts}", [value for _, values in parts for value in values]


def walking(query: Query, dialect: Dialect) -> Part:
    """The matches among the newest rows; all of them where there is no condition."""
    # With its columns, so that attributes of the level itself are compared where they are read.
    sql = f"SELECT {'o.*' if query.conditions else 'o.id'} FROM {TABLE[query.level]} o WHERE o.partition_key = ?"
    values: list[Value] = [query.partition_key]
    if query.before is not None:
        sql += " AND o.id < ?"
        values.append(query.before)
    sql += " ORDER BY o.id DESC"
    if query.conditions:
        sql += f" LIMIT {WALK}"
    return _page(query, (sql, values), query.conditions, dialect, rows=True)


def driving(query: Query, driver: Condition, dialect: Dialect) -> Part:
    """The matches of ``driver`` that meet the other conditions as well."""
    others = tuple(condition for condition in query.conditions if condition is not driver)
    sql, values, others = _driven(query, driver, others, dialect)
    # What follows must not be mixed with this: neither engine may reorder it.
    sql += " ORDER BY 1 DESC" + (" OFFSET 0" if dialect == "postgresql" else " LIMIT -1")
    return _page(query, (sql, values), others, dialect)


def counting(query: Query, driver: Condition | None, dialect: Dialect) -> Part:
    """How many matches there are."""
    if driver is None:
        return f"SELECT count(*) FROM {TABLE[query.level]} o WHERE o.partition_key = ?", [query.partition_key]
    others = tuple(condition for condition in query.conditions if condition is not driver)
    sql, values, others = _driven(replace(query, before=None), driver, others, dialect)
    checks, more = joined([check(condition, query.level, "c.id", dialect) for condition in others])
    return f"SELECT count(*) FROM ({sql}) c{' WHERE ' + checks if checks else ''}", [*values, *more]


def _driven(
    query: Query, driver: Condition, others: tuple[Condition, ...], dialect: Dialect
) -> tuple[str, list[Value], tuple[Condition, ...]]:
    """The ids of what meets ``driver``, and the conditions that are still to be checked."""
    where = driver.values
    rows, values = source(driver, query.partition_key, dialect)
    if where.level is query.level:
        # An expression is what no index of ids offers to give in order: else a planner might read all of them.
        owner = f"o.{where.owner}" if driver.ordered else f"o.{where.owner} + 0"
        sql = f"SELECT {owner} AS id {rows}"
        if query.before is not None:
            sql += f" AND {owner} < ?"
            values.append(query.before)
        # SQLite sorts groups three times as fast as it sorts rows, or makes them distinct.
        return sql if driver.ordered and where.own else f"{sql} GROUP BY 1", values, others
    early = tuple(condition for condition in others if condition.values.level.value <= where.level.value)
    for condition in early:
        part, more = check(condition, where.level, f"o.{where.owner}", dialect)
        rows += f" AND {part}"
        values += more
    sql = (
        f"SELECT y.id + 0 AS id FROM (SELECT o.{where.owner} + 0 AS id {rows} GROUP BY 1) d "
        f"CROSS JOIN {TABLE[query.level]} y WHERE y.{TABLE[where.level]}_id = d.id"
    )
    if query.before is not None:
        sql += " AND y.id + 0 < ?"
        values.append(query.before)
    return sql, values, tuple(condition for condition in others if condition not in early)


def _page(query: Query, ids: Part, conditions: Sequence[Condition], dialect: Dialect, *, rows: bool = False) -> Part:
    """A page of ``ids``, which come newest first and may be whole ``rows``: those that meet ``conditions``."""
    sql, values = ids
    checks, more = joined(
        [
            meets(condition, "c", dialect)
            if rows and condition.values.own and condition.values.level is query.level
            else check(condition, query.level, "c.id", dialect)
            for condition in conditions
        ]
    )
    page = f"SELECT c.id FROM ({sql}) c{' WHERE ' + checks if checks else ''}"
    if dialect == "postgresql":
        # It knows that they are in order. SQLite keeps the order, but would sort them again, and so read them all.
        page += " ORDER BY c.id DESC"
    page += f" LIMIT {query.limit} OFFSET ?"
    alias = _ALIAS[query.level]
    columns = [f"{_ALIAS[attribute.level]}.{attribute.column}" for attribute in _SHOWN[query.level]]
    columns += [f"{alias}.id", "s.id", "NULL" if query.level is Level.STUDY else "e.id"]
    columns.append(
        f"(SELECT coalesce(v.metadata, c.metadata) FROM instance n JOIN instance_content c ON c.instance_id = n.id "
        "LEFT JOIN instance_version v ON v.version = n.version "
        f"WHERE n.id = {_NEWEST[query.level]})"
        if query.with_metadata
        else "NULL"
    )
    return (
        f"WITH page AS MATERIALIZED ({page}) SELECT {', '.join(columns)} FROM {_JOINED[query.level]} "
        f"ORDER BY {alias}.id DESC",
        [*values, *more, query.offset],
    )


def _found(query: Query, row: Row) -> Found:
    shown = _SHOWN[query.level]
    values: dict[str, Any] = {attribute.tag: value for attribute, value in zip(shown, row, strict=False)}
    match_id, study_id, series_id, metadata = row[len(shown) :]
    return Found(match_id, values, metadata, study_id, series_id)


# --- computed attributes ---

COMPUTED: dict[str, tuple[Level, str]] = {
    MODALITIES_IN_STUDY: (
        Level.STUDY,
        "SELECT study_id, modality FROM series WHERE study_id IN ({}) AND modality IS NOT NULL ORDER BY id",
    ),
    SOP_CLASSES_IN_STUDY: (
        Level.STUDY,
        "SELECT study_id, sop_class_uid FROM instance WHERE study_id IN ({}) AND sop_class_uid IS NOT NULL "
        "GROUP BY study_id, sop_class_uid ORDER BY min(id)",
    ),
    NUMBER_OF_STUDY_RELATED_SERIES: (
        Level.STUDY,
        "SELECT study_id, count(*) FROM series WHERE study_id IN ({}) GROUP BY study_id",
    ),
    NUMBER_OF_STUDY_RELATED_INSTANCES: (
        Level.STUDY,
        "SELECT study_id, count(*) FROM instance WHERE study_id IN ({}) GROUP BY study_id",
    ),
    NUMBER_OF_SERIES_RELATED_INSTANCES: (
        Level.SERIES,
        "SELECT series_id, count(*) FROM instance WHERE series_id IN ({}) GROUP BY series_id",
    ),
}
"""Attributes no row holds: the level each is of, and the statement that gives them for many ids."""


async def _compute(tx: Transaction, tag: str, found: Sequence[Found]) -> None:
    level, sql = COMPUTED[tag]

    def owner(match: Found) -> int | None:
        return match.study_id if level is Level.STUDY else match.series_id

    ids = sorted({key for match in found if (key := owner(match)) is not None})
    if not ids:
        return
    values: dict[int, dict[str | int, None]] = {}
    for key, value in await tx.fetch(sql.format(", ".join("?" * len(ids))), *ids):
        # Each once, in the order they come.
        values.setdefault(key, {})[value] = None
    for match in found:
        key = owner(match)
        if key is not None:
            match.computed[tag] = list(values.get(key, ()))
