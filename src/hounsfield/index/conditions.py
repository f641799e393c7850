"""What a search asks of attributes, and the SQL of it: comparisons, and conditions on the rows they are made on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Dialect, Value
from hounsfield.index.attributes import TABLE, Attribute, Values
from hounsfield.index.instances import Level

Part = tuple[str, list[Value]]
"""Some SQL and the values of its placeholders."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column equals one of ``keys``."""

    column: str
    keys: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """``low <= column <= high``; None leaves an end open, never both."""

    column: str
    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class Like:
    """The column begins with ``prefix`` and matches ``pattern`` of SQL's LIKE, escaped by ``!``.

    None where the prefix says it all.
    """

    column: str
    prefix: str
    after: str
    """What sorts behind everything with the prefix, if that is not empty (dicom.person_name.first_after_prefix)."""
    pattern: str | None


@dataclass(frozen=True, slots=True)
class Words:
    """Fuzzy person name: ``low <= column < high``, and the regular expression is found (None: in all)."""

    column: str
    low: str
    high: str
    pattern: str | None


@dataclass(frozen=True, slots=True)
class Empty:
    """The column holds no value."""

    column: str


@dataclass(frozen=True, slots=True)
class Moments:
    """A range of moments given by two columns, a date and a time (PS3.4 §C.2.2.2.5); None leaves an end open."""

    date: str
    time: str
    low: tuple[str, int] | None
    high: tuple[str, int] | None


Comparison = OneOf | Between | Like | Words | Empty | Moments


@dataclass(frozen=True, slots=True)
class Condition:
    """A study, series or instance has a row of ``values`` of which all ``comparisons`` are true."""

    values: Values
    comparisons: tuple[Comparison, ...]
    identifies: bool = False
    """Whether few match: then a search begins with it."""

    @property
    def ordered(self) -> bool:
        """Whether an index has the matches in order of their owners' ids."""
        first = self.comparisons[0]
        equal = isinstance(first, Empty) or (isinstance(first, OneOf) and len(first.keys) == 1)
        return equal and all(len(numbers) == 1 for _, numbers in self.values.fixed)


def equal(attribute: Attribute, *keys: Value) -> Condition:
    """The attribute has one of ``keys``."""
    return Condition(attribute.values, (OneOf(attribute.key, keys),), attribute.identifies)


def source(condition: Condition, partition_key: int, dialect: Dialect) -> Part:
    """FROM and WHERE of all rows (``o``) in the partition that meet ``condition``; by an index, never a table."""
    sql, values = meets(condition, "o", dialect)
    return f"FROM {condition.values.table} o WHERE o.partition_key = ? AND {sql}", [partition_key, *values]


def check(condition: Condition, level: Level, owner: str, dialect: Dialect) -> Part:
    """An expression: whether the study, series or instance at ``level`` whose id is ``owner`` meets ``condition``.

    It is a scalar subquery and not a join or EXISTS, so that no planner turns it into a scan of everything that would
    meet the condition.
    """
    where = condition.values
    sql, values = meets(condition, "x", dialect)
    if where.level is level:
        return f"(SELECT 1 FROM {where.table} x WHERE x.{where.owner} = {owner} AND {sql} LIMIT 1) = 1", values
    up = f"x.{where.owner} = y.{TABLE[where.level]}_id"
    return (
        f"(SELECT 1 FROM {TABLE[level]} y CROSS JOIN {where.table} x WHERE y.id = {owner} AND {up} AND {sql} LIMIT 1) "
        "= 1",
        values,
    )


def meets(condition: Condition, alias: str, dialect: Dialect) -> Part:
    """Whether the row ``alias`` of the condition's table meets it."""
    fixed: list[Part] = [
        (f"{alias}.{column} {_one_of(numbers)}", list(numbers)) for column, numbers in condition.values.fixed
    ]
    return joined([*fixed, *(_compare(comparison, alias, dialect) for comparison in condition.comparisons)])


def joined(parts: Iterable[Part]) -> Part:
    """All of them, by AND."""
    found = list(parts)
    return " AND ".join(sql for sql, _ in found), [value for _, values in found for value in values]


def _one_of(values: Sequence[Value]) -> str:
    return "= ?" if len(values) == 1 else f"IN ({', '.join('?' * len(values))})"


def _compare(comparison: Comparison, alias: str, dialect: Dialect) -> Part:
    if isinstance(comparison, Moments):
        return _moments(comparison, alias)
    column = f"{alias}.{comparison.column}"
    if isinstance(comparison, OneOf):
        return f"{column} {_one_of(comparison.keys)}", list(comparison.keys)
    if isinstance(comparison, Empty):
        return f"{column} IS NULL", []
    parts: list[Part] = []
    if isinstance(comparison, Between):
        # A comparison is never true of a missing value, so an open end needs none.
        if comparison.low is not None:
            parts.append((f"{column} >= ?", [comparison.low]))
        if comparison.high is not None:
            parts.append((f"{column} <= ?", [comparison.high]))
        return joined(parts)
    if isinstance(comparison, Words):
        regexp = "~" if dialect == "postgresql" else "REGEXP"
        parts.append((f"{column} >= ? AND {column} < ?", [comparison.low, comparison.high]))
        if comparison.pattern is not None:
            parts.append((f"{column} {regexp} ?", [comparison.pattern]))
        return joined(parts)
    # Without a prefix it is said that there is a value: an index is then read from there on.
    parts.append((f"{column} >= ?", [comparison.prefix]))
    if comparison.prefix:
        parts.append((f"{column} < ?", [comparison.after]))
    if comparison.pattern is not None:
        parts.append((f"{column} LIKE ? ESCAPE '!'", [comparison.pattern]))
    return joined(parts)


def _moments(comparison: Moments, alias: str) -> Part:
    """The date alone, for its index, and both as a row value: where the date decides, the time may be missing."""
    date, pair = f"{alias}.{comparison.date}", f"({alias}.{comparison.date}, {alias}.{comparison.time})"
    parts: list[Part] = []
    if comparison.low is not None:
        parts.append((f"{date} >= ? AND {pair} >= (?, ?)", [comparison.low[0], *comparison.low]))
    if comparison.high is not None:
        parts.append((f"{date} <= ? AND {pair} <= (?, ?)", [comparison.high[0], *comparison.high]))
    return joined(parts)
