"""Searching workitems: one query becomes SQL that leaves the planner no choice (see index/search.py for why).

Results are newest first, that is by falling id. Every condition has an index from which its matches come, most of them
in that order; the one with the fewest matches drives, the others are looked at match by match by primary key. Where all
have many matches, the newest workitems are looked at first, as most of them will match.

PostgreSQL takes longer to look at a match by primary key than to read ten from an index. There the matches of
conditions that have many, in order, are merged: all are read, newest first, until the page is full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Database, Dialect, Row, Transaction, Value
from hounsfield.worklist.index import Attribute, IndexValues
from hounsfield.worklist.states import State

FEW = 5_000
"""Matches of one condition that are looked at one by one without further thought: some milliseconds."""
FEWER = 1_000
"""The same where the matches of two conditions could be merged instead."""
WALK = 1_000
"""Newest workitems that are looked at first where every condition has more matches than FEW."""
PROBE = 20_000
"""How far matches are counted to choose the condition to begin with, where the newest do not fill the page."""

Part = tuple[str, list[Value]]
"""Some SQL and the values of its placeholders."""


@dataclass(frozen=True, slots=True)
class Equal:
    """The attribute has a value with this key."""

    attribute: Attribute
    key: str


@dataclass(frozen=True, slots=True)
class Words:
    """Fuzzy name: for some word, ``low <= name from there on < high``, and the word behind it begins with ``next``.

    ``pattern``: a regular expression for all words, where more than two are asked for, as it costs most.
    """

    low: str
    high: str
    next: str = ""
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """State and start, None where they do not matter: ``low <= start <= high``."""

    state: str | None = None
    low: int | None = None
    high: int | None = None


Condition = Equal | Words | Scheduled


@dataclass(frozen=True, slots=True)
class Query:
    """A page of the workitems of a partition that meet all conditions, at most one of them a Scheduled."""

    partition_key: int
    conditions: tuple[Condition, ...] = ()
    limit: int = 100
    offset: int = 0


async def search(database: Database, query: Query) -> list[bytes]:
    """The packed datasets of the page."""

    async def unit(tx: Transaction) -> list[Row]:
        if tx.dialect == "postgresql":
            # As in index/search.py: where much is read these are never cheaper, though it thinks so.
            await tx.fetch(INDEXES_IN_ORDER)
        if not query.conditions:
            return await _fetch(tx, walking(query, tx.dialect))
        driver, *others = query.conditions
        if not others and (is_ordered(driver) or (isinstance(driver, Words) and driver.next)):
            # Of two words too few names have both for the newest workitems to fill a page.
            return await _fetch(tx, driving(query, driver, tx.dialect))
        if others:
            ordered = [condition for condition in query.conditions if is_ordered(condition)]
            is_merged = tx.dialect == "postgresql" and len(ordered) > 1
            few = FEWER if is_merged else FEW
            sizes = await _sizes(tx, query, few)
            driver = _fewest(sizes)
            if sizes[driver] < few:
                return await _fetch(tx, driving(query, driver, tx.dialect))
            if is_merged:
                return await _fetch(tx, driving(query, ordered[0], tx.dialect, ordered[1:]))
        rows = await _fetch(tx, walking(query, tx.dialect))
        if len(rows) == query.limit:
            return rows
        if others:
            driver = _fewest(await _sizes(tx, query, PROBE))
        return await _fetch(tx, driving(query, driver, tx.dialect))

    return [row[0] for row in await database.read(unit)]


_AVOIDED = ("enable_seqscan", "enable_bitmapscan", "enable_nestloop", "enable_hashjoin", "jit")
INDEXES_IN_ORDER = "SELECT " + ", ".join(f"set_config('{name}', 'off', true)" for name in _AVOIDED)
"""Has PostgreSQL read indexes in their order, and join by merging."""


async def _fetch(tx: Transaction, statement: Part) -> list[Row]:
    sql, values = statement
    return await tx.fetch(sql, *values)


async def _sizes(tx: Transaction, query: Query, most: int) -> dict[Condition, int]:
    """How many workitems meet each condition; ``most`` for as many or more."""
    sql, values = probing(query, tx.dialect, most)
    row = await tx.fetch_one(sql, *values)
    assert row is not None
    return dict(zip(query.conditions, row, strict=True))


def _fewest(sizes: Mapping[Condition, int]) -> Condition:
    return min(sizes, key=lambda condition: (sizes[condition], not is_ordered(condition)))


def is_ordered(condition: Condition) -> bool:
    """Whether an index has the matches in order of their ids."""
    return isinstance(condition, Equal) or (isinstance(condition, Scheduled) and condition.low == condition.high)


def meets(condition: Condition, state: State, values: IndexValues) -> bool:
    """Whether a workitem in that state with those values meets a condition; fuzzy ones are for the database alone."""
    if isinstance(condition, Equal):
        return (condition.attribute, condition.key) in values.keys
    assert isinstance(condition, Scheduled)
    if condition.state not in (None, state.value):
        return False
    if condition.low is None and condition.high is None:
        return True
    low, start, high = condition.low, values.start, condition.high
    return start is not None and (low is None or low <= start) and (high is None or start <= high)


# --- statements; the tests look at their plans ---


def probing(query: Query, dialect: Dialect, most: int) -> Part:
    """How many workitems meet each condition, counted up to ``most``."""
    parts = [_source(condition, query.partition_key, dialect) for condition in query.conditions]
    counts = ", ".join(f"(SELECT count(*) FROM (SELECT 1 {sql} LIMIT {most}) n)" for sql, _ in parts)
    return f"SELECT {counts}", [value for _, values in parts for value in values]


def walking(query: Query, dialect: Dialect) -> Part:
    """The matches among the newest workitems; all of them where there is no condition."""
    newest = "FROM workitem w WHERE w.partition_key = ? ORDER BY w.id DESC LIMIT"
    if not query.conditions:
        page = f"SELECT w.id AS id {newest} {query.limit} OFFSET ?"
        return _datasets(page), [query.partition_key, query.offset]
    checks = [
        _comparison(condition, "c", dialect) if isinstance(condition, Scheduled) else _check(condition, "c.id", dialect)
        for condition in query.conditions
    ]
    columns = (
        "w.id AS id, w.state, w.start" if any(isinstance(one, Scheduled) for one in query.conditions) else "w.id AS id"
    )
    sql, values = _page(query, (f"(SELECT {columns} {newest} {WALK}) c", [query.partition_key]), checks, dialect)
    return _datasets(sql), values


def driving(
    query: Query, driver: Condition, dialect: Dialect, merged: Sequence[Condition] = (), *, ids: bool = False
) -> Part:
    """The matches of ``driver`` that meet the other conditions as well: their datasets, or ``ids`` alone.

    Those that meet the ``merged`` are read, too, and so must be ordered; of the others each match is looked at.
    """
    sql, values = _matches(driver, query.partition_key, dialect)
    sources = f"({sql}) c"
    for number, condition in enumerate(merged):
        sql, more = _matches(condition, query.partition_key, dialect)
        sources += f" JOIN ({sql}) m{number} ON m{number}.id = c.id"
        values += more
    checks = [
        _check(condition, "c.id", dialect)
        for condition in query.conditions
        if condition is not driver and condition not in merged
    ]
    sql, values = _page(query, (sources, values), checks, dialect)
    return (sql if ids else _datasets(sql)), values


def _matches(condition: Condition, partition_key: int, dialect: Dialect) -> Part:
    """The ids of all that meet the condition, newest first."""
    rows, values = _source(condition, partition_key, dialect)
    if is_ordered(condition):
        sql = f"SELECT {_owner(condition)} AS id {rows}"
    else:
        # An expression is what no index of ids offers to give in order: else a planner might read all of them.
        sql = f"SELECT {_owner(condition)} + 0 AS id {rows} GROUP BY 1"
    # What follows must not be mixed with this: neither engine may reorder it.
    return sql + " ORDER BY 1 DESC" + (" OFFSET 0" if dialect == "postgresql" else " LIMIT -1"), values


def _page(query: Query, sources: Part, checks: Sequence[Part], dialect: Dialect) -> Part:
    """A page of the ids of ``sources`` (``c``), which come newest first: those that meet ``checks``."""
    sql, values = sources
    page = f"SELECT c.id FROM {sql}"
    if checks:
        page += " WHERE " + " AND ".join(part for part, _ in checks)
    if dialect == "postgresql":
        # It knows that they are in order. SQLite keeps the order, but would sort them again, and so read them all.
        page += " ORDER BY c.id DESC"
    page += f" LIMIT {query.limit} OFFSET ?"
    return page, [*values, *(value for _, more in checks for value in more), query.offset]


def _datasets(page: str) -> str:
    """The datasets of the ids of a page, which is read first."""
    return (
        f"WITH page AS MATERIALIZED ({page}) "
        "SELECT (SELECT d.dataset FROM workitem_content d WHERE d.workitem_id = p.id) FROM page p ORDER BY p.id DESC"
    )


def _owner(condition: Condition) -> str:
    return "o.id" if isinstance(condition, Scheduled) else "o.workitem_id"


def _source(condition: Condition, partition_key: int, dialect: Dialect) -> Part:
    """FROM and WHERE of all rows (``o``) in the partition that meet the condition."""
    table = "workitem" if isinstance(condition, Scheduled) else "workitem_value"
    sql, values = _comparison(condition, "o", dialect)
    return f"FROM {table} o WHERE o.partition_key = ? AND {sql}", [partition_key, *values]


def _check(condition: Condition, owner: str, dialect: Dialect) -> Part:
    """Whether the workitem ``owner`` meets the condition: a scalar subquery, which no planner makes a join."""
    sql, values = _comparison(condition, "x", dialect)
    if isinstance(condition, Scheduled):
        return f"(SELECT 1 FROM workitem x WHERE x.id = {owner} AND {sql}) = 1", values
    return f"(SELECT 1 FROM workitem_value x WHERE x.workitem_id = {owner} AND {sql} LIMIT 1) = 1", values


def _comparison(condition: Condition, alias: str, dialect: Dialect) -> Part:
    if isinstance(condition, Equal):
        return f"{alias}.attribute = ? AND {alias}.key = ?", [int(condition.attribute), condition.key]
    if isinstance(condition, Words):
        sql = f"{alias}.attribute = ? AND {alias}.key >= ? AND {alias}.key < ?"
        values: list[Value] = [int(Attribute.NAME_WORDS), condition.low, condition.high]
        if not condition.next:
            return sql, values  # of a single word the range says it all
        find, regexp = ("strpos", "~") if dialect == "postgresql" else ("instr", "REGEXP")
        follows = f"{find}({alias}.key, ?) > 0 AND {find}({alias}.key, ?) = {find}({alias}.key, ' ')"
        values += [f" {condition.next}"] * 2
        if not condition.pattern:
            return f"{sql} AND {follows}", values
        # Only here the regular expression is last for sure.
        return f"{sql} AND CASE WHEN {follows} THEN {alias}.key {regexp} ? END", [*values, condition.pattern]
    parts: list[tuple[str, Value]] = []
    if condition.state is not None:
        parts.append((f"{alias}.state = ?", condition.state))
    if condition.low is not None and condition.low == condition.high:
        parts.append((f"{alias}.start = ?", condition.low))
    else:
        # A comparison is never true of a missing value, so an open end needs none.
        if condition.low is not None:
            parts.append((f"{alias}.start >= ?", condition.low))
        if condition.high is not None:
            parts.append((f"{alias}.start <= ?", condition.high))
    return " AND ".join(sql for sql, _ in parts), [value for _, value in parts]
