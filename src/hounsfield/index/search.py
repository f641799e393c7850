"""Searching the index: one typed query, one SQL statement over indexed columns (query.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hounsfield.database.engine import Database, Dialect, Row, Value
from hounsfield.index.attributes import SEARCHABLE, Attribute, Matching
from hounsfield.index.instances import Level


@dataclass(frozen=True, slots=True)
class Equal:
    """The attribute's key equals ``key``."""

    attribute: Attribute
    key: str


@dataclass(frozen=True, slots=True)
class DateBetween:
    """The date lies in an inclusive range of ``YYYYMMDD``; None leaves an end open."""

    attribute: Attribute
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class NameLike:
    """Fuzzy person name: a stored suffix in ``[lower, upper)`` that the regular expression finds (None: all do)."""

    attribute: Attribute
    lower: str
    upper: str
    pattern: str | None


Condition = Equal | DateBetween | NameLike


@dataclass(frozen=True, slots=True)
class Query:
    """A search at one level of one partition, newest first."""

    level: Level
    partition_key: int
    study_uid: str | None = None
    series_uid: str | None = None
    conditions: tuple[Condition, ...] = ()
    limit: int = 100
    offset: int = 0
    with_metadata: bool = False
    """Bring the metadata of the newest instance of each match."""
    with_modalities: bool = False
    with_count: bool = False
    """Bring the number of instances of each match (studies and series)."""


@dataclass(frozen=True, slots=True)
class Found:
    """One match. ``values`` holds the indexed attributes by tag, None where there is no value."""

    values: dict[str, str | None]
    metadata: bytes | None = None
    """Packed fragment (index.fragments)."""
    modalities: tuple[str, ...] = ()
    count: int = 0


@dataclass(slots=True)
class _Statement:
    conditions: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def add(self, condition: str, *values: Value) -> None:
        self.conditions.append(condition)
        self.values.extend(values)


_TABLES = {
    Level.STUDY: "study s",
    Level.SERIES: "series e JOIN study s ON s.id = e.study_id",
    Level.INSTANCE: "instance i JOIN series e ON e.id = i.series_id JOIN study s ON s.id = i.study_id",
}
_ALIAS = {Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
_COLUMNS = {level: tuple(a for a in SEARCHABLE if a.column and a.level.value <= level.value) for level in Level}
_NEWEST = {
    Level.STUDY: "(SELECT max(x.id) FROM instance x WHERE x.study_id = s.id)",
    Level.SERIES: "(SELECT max(x.id) FROM instance x WHERE x.series_id = e.id)",
    Level.INSTANCE: "i.id",
}
_COUNT = {
    Level.STUDY: "(SELECT count(*) FROM instance x WHERE x.study_id = s.id)",
    Level.SERIES: "(SELECT count(*) FROM instance x WHERE x.series_id = e.id)",
    Level.INSTANCE: "1",
}


def statement(query: Query, dialect: Dialect) -> tuple[str, list[Value]]:
    """The SQL of ``query`` and its values; the tests look at its plan."""
    alias = _ALIAS[query.level]
    columns = [attribute.column for attribute in _COLUMNS[query.level]]
    columns.append("s.id")
    columns.append(
        f"(SELECT c.metadata FROM instance_content c WHERE c.instance_id = {_NEWEST[query.level]})"
        if query.with_metadata
        else "NULL"
    )
    columns.append(_COUNT[query.level] if query.with_count else "0")
    where = _Statement()
    where.add(f"{alias}.partition_key = ?", query.partition_key)
    if query.study_uid is not None:
        where.add("s.partition_key = ?", query.partition_key)
        where.add("s.study_uid = ?", query.study_uid)
    if query.series_uid is not None:
        where.add("e.series_uid = ?", query.series_uid)
    for condition in query.conditions:
        _add(where, condition, query.partition_key, dialect)
    sql = (
        f"SELECT {', '.join(columns)} FROM {_TABLES[query.level]} WHERE {' AND '.join(where.conditions)} "
        f"ORDER BY {alias}.id DESC LIMIT ? OFFSET ?"
    )
    return sql, [*where.values, query.limit, query.offset]


def _add(where: _Statement, condition: Condition, partition_key: int, dialect: Dialect) -> None:
    attribute = condition.attribute
    if isinstance(condition, DateBetween):
        if condition.first is not None and condition.first == condition.last:
            where.add(f"{attribute.key} = ?", condition.first)
            return
        # An open end still needs a comparison: a missing date matches no range.
        where.add(f"{attribute.key} >= ?", condition.first or "")
        if condition.last is not None:
            where.add(f"{attribute.key} <= ?", condition.last)
    elif isinstance(condition, NameLike):
        regexp = "~" if dialect == "postgresql" else "REGEXP"
        sql = (
            "s.id IN (SELECT n.study_id FROM person_name n WHERE n.partition_key = ? AND n.attribute = ? "
            "AND n.suffix >= ? AND n.suffix < ?"
        )
        values: list[Value] = [partition_key, attribute.name_number, condition.lower, condition.upper]
        if condition.pattern is not None:
            sql += f" AND n.suffix {regexp} ?"
            values.append(condition.pattern)
        where.add(sql + ")", *values)
    elif attribute.matching is Matching.MODALITIES:
        where.add("EXISTS (SELECT 1 FROM series m WHERE m.study_id = s.id AND m.modality_key = ?)", condition.key)
    else:
        where.add(f"{attribute.key} = ?", condition.key)


async def search(database: Database, query: Query) -> list[Found]:
    """The matches of ``query``, newest first."""
    sql, values = statement(query, database.dialect)
    rows = await database.fetch(sql, *values)
    width = len(_COLUMNS[query.level])
    modalities: dict[int, tuple[str, ...]] = {}
    if query.with_modalities and rows:
        modalities = await _modalities(database, sorted({row[width] for row in rows}))
    return [_found(query, row, width, modalities) for row in rows]


def _found(query: Query, row: Row, width: int, modalities: dict[int, tuple[str, ...]]) -> Found:
    values: dict[str, Any] = {
        attribute.tag: value for attribute, value in zip(_COLUMNS[query.level], row[:width], strict=True)
    }
    return Found(values, row[width + 1], modalities.get(row[width], ()), row[width + 2])


async def _modalities(database: Database, study_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Distinct modalities of each study, in order of series creation."""
    marks = ", ".join("?" * len(study_ids))
    rows = await database.fetch(
        f"SELECT study_id, modality FROM series WHERE study_id IN ({marks}) AND modality IS NOT NULL ORDER BY id",
        *study_ids,
    )
    found: dict[int, dict[str, None]] = {}
    for study_id, modality in rows:
        found.setdefault(study_id, {})[modality] = None
    return {study_id: tuple(names) for study_id, names in found.items()}
