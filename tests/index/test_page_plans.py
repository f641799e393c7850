"""Pages of large jobs: the limit comes before the joins, or PostgreSQL reads whole tables for each page."""

import pytest

from hounsfield.database.engine import Database
from hounsfield.index import instance_versions, reindexing
from tests.index.test_tag_plans import plan, whole_tables


@pytest.mark.parametrize("sql", [reindexing.PAGE, instance_versions.UNFILLED], ids=["re-index", "bulk update"])
async def test_nothing_joins_before_the_limit(database: Database, sql: str) -> None:
    steps = await plan(database, sql, [1, 1_000, 64])
    if database.dialect == "sqlite":
        assert not [step for step in whole_tables(steps) if step not in ("SCAN i", "SCAN v")], steps
        return
    limits = [number for number, step in enumerate(steps) if "Limit" in step]
    assert limits, steps
    assert not any("Join" in steps[number + 1] or "Nested Loop" in steps[number + 1] for number in limits), steps
    assert whole_tables(steps) == [], steps
