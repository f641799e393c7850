"""No search by an extended query tag reads a whole table, nor does anything else that is done with tags."""

import pytest

from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.index import search
from hounsfield.index.instances import Level
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.index.query_tags import QueryTag, TagStatus
from hounsfield.index.search import Query
from hounsfield.index.tag_attributes import as_attribute
from hounsfield.web.search_matching import Filter, How, conditions

ASKED = [
    ("LO", "whole", How()),
    ("LO", "begin*", How()),
    ("LO", "*end", How()),
    ("UI", "1.2,3.4", How()),
    ("DA", "20240101", How()),
    ("DA", "20240101-20240201", How()),
    ("DT", "2024-", How()),
    ("TM", "-12", How()),
    ("IS", "3", How()),
    ("FD", "0.5", How()),
    ("PN", "Doe^John", How()),
    ("PN", "doe jo", How(fuzzy=True)),
    ("PN", "doe", How(fuzzy=True)),
    ("PN", "=山*", How()),
]
LEVELS = [(tag, level) for tag in Level for level in Level if tag.value <= level.value]


def a_tag(vr: str, level: Level) -> QueryTag:
    return QueryTag(7, "12051003", vr, "ACME", level, TagStatus.READY, True, 0, None)


async def plan(database: Database, sql: str, values: list[Value]) -> list[str]:
    async def unit(tx: Transaction) -> list[str]:
        if tx.dialect == "sqlite":
            return [str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}", *values)]
        # The tables of a test are so small that reading them whole is cheapest: asked is whether it could be avoided.
        await tx.execute("SET LOCAL enable_seqscan = off")
        return [str(row[0]).strip() for row in await tx.fetch(f"EXPLAIN {sql}", *values)]

    return await database.read(unit)


def whole_tables(steps: list[str]) -> list[str]:
    """Steps that read all of a table or of an index; not those that read what another step made."""
    made = ("SCAN c", "SCAN d", "SCAN p", "SCAN n", "SCAN page", "SCAN CONSTANT ROW", "SCAN (")
    return [step for step in steps if (step.startswith("SCAN") and not step.startswith(made)) or "Seq Scan" in step]


@pytest.mark.parametrize(("tag_level", "level"), LEVELS)
@pytest.mark.parametrize(("vr", "value", "how"), ASKED)
async def test_searches(database: Database, vr: str, value: str, how: How, tag_level: Level, level: Level) -> None:
    found = conditions([Filter("tag", as_attribute(a_tag(vr, tag_level)), value)], how)
    query = Query(level, DEFAULT_KEY, found)
    for sql, values in (
        search.driving(query, found[0], database.dialect),
        search.walking(query, database.dialect),
        search.probing(query, database.dialect),
        search.counting(query, found[0], database.dialect),
    ):
        steps = await plan(database, sql, values)
        assert whole_tables(steps) == [], steps
    steps = await plan(database, *search.driving(query, found[0], database.dialect))
    table = "query_tag_name" if vr == "PN" and value != "Doe^John" else "query_tag_value"
    assert any(f"ix_{table}_tag_id" in step for step in steps), steps


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT object_id, value FROM query_tag_value WHERE tag_id = ? AND object_id IN (1, 2)",
        "SELECT version FROM query_tag_error WHERE tag_id = ? ORDER BY created, version LIMIT 10",
        "DELETE FROM query_tag_value WHERE tag_id = ? AND object_id IN "
        "(SELECT object_id FROM query_tag_value WHERE tag_id = 7 LIMIT 10)",
        "DELETE FROM query_tag_name WHERE tag_id = ? AND object_id = 3",
        "DELETE FROM query_tag_error WHERE tag_id = ? AND version = 3",
        "SELECT i.id, c.metadata FROM instance i JOIN instance_content c ON c.instance_id = i.id "
        "WHERE i.id >= ? AND i.id < 9 ORDER BY i.id DESC LIMIT 10",
    ],
)
async def test_other_statements(database: Database, sql: str) -> None:
    steps = await plan(database, sql, [7])
    assert whole_tables(steps) == [], steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


async def test_a_table_that_is_read_would_be_noticed(database: Database) -> None:
    steps = await plan(database, "SELECT tag_id FROM query_tag_value WHERE version = ? AND value = 'x'", [7])
    if database.dialect == "sqlite":
        assert whole_tables(steps) == steps
    else:
        # A sequential scan is all there is, however dear we call it.
        assert "Seq Scan" in steps[0]
