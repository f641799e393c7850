"""Searching the index: single rules, and by which plan things are found (query.md §§3, 4, 7)."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import pytest

from hounsfield.database.connect import is_sqlite, open_database
from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.errors import TookTooLong
from hounsfield.index import search as searching
from hounsfield.index.attributes import (
    BY_TAG,
    MODALITIES_IN_STUDY,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_SERIES,
    SEARCHABLE,
    SOP_CLASSES_IN_STUDY,
    Attribute,
    Matching,
)
from hounsfield.index.conditions import Between, Condition, Empty, Like, Moments, OneOf, Words, equal
from hounsfield.index.fragments import unpack
from hounsfield.index.levels import Level
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.index.search import Query, count, counting, driving, probing, search, walking
from hounsfield.index.studies import SeriesValues, StudyValues
from tests.index.make import add, instance, path

BY_KEYWORD = {attribute.keyword: attribute for attribute in SEARCHABLE}
TAG = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}


async def test_below_a_study_and_a_series(database: Database) -> None:
    first = path()
    others = [path(first.study_uid, first.series_uid), path(first.study_uid), path()]
    await add(database, *map(instance, [first, *others]))

    async def found(level: Level, series_uid: str | None = None) -> list[str | int | None]:
        conditions = [equal(BY_TAG["0020000D"], first.study_uid)]
        conditions += [] if series_uid is None else [equal(BY_TAG["0020000E"], series_uid)]
        query = Query(level, DEFAULT_KEY, tuple(conditions))
        return [match.values[TAG[level]] for match in await search(database, query)]

    assert await found(Level.SERIES) == [others[1].series_uid, first.series_uid]
    assert await found(Level.INSTANCE) == [others[1].sop_uid, others[0].sop_uid, first.sop_uid]
    assert await found(Level.INSTANCE, first.series_uid) == [others[0].sop_uid, first.sop_uid]
    assert await found(Level.INSTANCE, others[2].series_uid) == []


async def test_other_partitions_are_not_searched(database: Database) -> None:
    where = path()
    await add(database, instance(where))
    for level in Level:
        conditions = (equal(BY_KEYWORD["StudyInstanceUID"], where.study_uid),)
        assert len(await search(database, Query(level, DEFAULT_KEY, conditions))) == 1
        assert await search(database, Query(level, 2, conditions)) == []
        assert await search(database, Query(level, 2)) == []
        assert await count(database, Query(level, 2), 10) == 0


async def test_values_what_is_computed_and_the_newest_metadata(database: Database) -> None:
    first = path()
    later, elsewhere = path(first.study_uid, first.series_uid), path(first.study_uid)
    values = StudyValues(patient_name="Doe^John", study_date="20240131")
    await add(database, replace(instance(first, values, SeriesValues("CT", None, "Model")), sop_class_uid="1.2.3"))
    await add(database, replace(instance(elsewhere, None, SeriesValues("SR")), sop_class_uid="1.2.4"))
    await add(database, replace(instance(later, None, SeriesValues("CT")), sop_class_uid="1.2.3"))
    query = Query(
        Level.STUDY,
        DEFAULT_KEY,
        (equal(BY_KEYWORD["StudyInstanceUID"], first.study_uid),),
        with_metadata=True,
        computed=frozenset(searching.COMPUTED),
    )
    (study,) = await search(database, query)
    assert study.values["00100010"] == "Doe^John"
    assert study.values["00100020"] is None
    assert study.computed == {
        MODALITIES_IN_STUDY: ["CT", "SR"],
        SOP_CLASSES_IN_STUDY: ["1.2.3", "1.2.4"],
        NUMBER_OF_STUDY_RELATED_SERIES: [2],
        NUMBER_OF_STUDY_RELATED_INSTANCES: [3],
    }
    assert study.metadata is not None
    assert str(later.sop_uid).encode() in unpack([study.metadata])
    series = await search(database, replace(query, level=Level.SERIES))
    assert [one.computed[NUMBER_OF_SERIES_RELATED_INSTANCES] for one in series] == [[1], [2]]
    assert [one.values["00081090"] for one in series] == [None, "Model"]
    assert series[1].metadata is not None
    assert str(later.sop_uid).encode() in unpack([series[1].metadata])


async def test_a_page_goes_on_where_the_last_ended_whatever_is_stored(database: Database) -> None:
    mine = StudyValues(patient_id=path().study_uid)
    conditions = (equal(BY_KEYWORD["PatientID"], mine.patient_id),)
    stored = [path() for _ in range(5)]
    for where in stored:
        await add(database, instance(where, mine))
    query = Query(Level.STUDY, DEFAULT_KEY, conditions, limit=2)
    first = await search(database, query)
    await add(database, instance(path(), mine))
    second = await search(database, replace(query, before=first[-1].id))
    newest_first = [where.study_uid for where in reversed(stored)]
    assert [match.values[TAG[Level.STUDY]] for match in first + second] == newest_first[:4]


async def test_a_count_that_takes_too_long_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(database, instance())

    async def never_done(tx: Transaction, query: Query) -> Condition:
        sql = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000000) SELECT max(x) FROM n"
        )
        await tx.fetch(sql)
        raise AssertionError("that was quick")

    monkeypatch.setattr(searching, "_choose", never_done)
    query = Query(Level.STUDY, DEFAULT_KEY, (equal(BY_KEYWORD["PatientID"], "x"),))
    with pytest.raises(TookTooLong):
        await asyncio.wait_for(count(database, query, 0.05), 10)
    assert await search(database, query) == []


# --- plans ---


def asked_of(attribute: Attribute) -> Iterator[tuple[str, Condition]]:
    """Every kind of condition a search makes of the attribute."""
    numbers: dict[Matching, tuple[Value, Value]] = {Matching.TIME: (1, 2), Matching.INTEGER: (1, 2)}
    low, high = numbers.get(attribute.matching, ("20240101", "20240131"))
    yield "one", equal(attribute, low)
    yield "several", equal(attribute, low, high)
    if attribute.values.own and attribute.matching is not Matching.UID:
        yield "empty", Condition(attribute.values, (Empty(attribute.key),))
    if attribute.matching in (Matching.DATE, Matching.TIME):
        for name, ends in (("range", (low, high)), ("from", (low, None)), ("to", (None, high))):
            yield name, Condition(attribute.values, (Between(attribute.key, *ends),))
    if attribute.matching in (Matching.TEXT, Matching.CODES):
        yield "prefix", Condition(attribute.values, (Like(attribute.key, "a", "b", None),))
        yield "ends in", Condition(attribute.values, (Like(attribute.key, "", "", "%a"),))
    if attribute.keyword in ("StudyDate", "PerformedProcedureStepStartDate"):
        time = BY_KEYWORD[attribute.keyword.replace("Date", "Time")].key
        yield "moments", Condition(attribute.values, (Moments(attribute.key, time, ("20240101", 1), ("20240102", 2)),))
    if attribute.words is not None and attribute.groups is not None:
        yield "fuzzy", Condition(attribute.words, (Words("suffix", "a", "b", "^a[^ ]* b"),))
        yield "group", Condition(attribute.groups, (OneOf("suffix", ("a",)),))
        yield "group prefix", Condition(attribute.groups, (Like("suffix", "a", "b", "a%b"),))
        yield "group ends in", Condition(attribute.groups, (Like("suffix", "", "", "%a"),))


CASES = [
    (level, attribute.keyword, kind, condition)
    for attribute in SEARCHABLE
    for kind, condition in asked_of(attribute)
    for level in Level
    if attribute.level.value <= level.value
]
OTHERS = {
    Level.STUDY: ["StudyDate", "ModalitiesInStudy"],
    Level.SERIES: ["PatientID", "Modality"],
    Level.INSTANCE: ["StudyDate", "Modality", "SOPClassUID"],
}


PLANNED = 60
"""The partition plans are made for."""
ROWS = 3_000
NUMBERED = ("series_number", "instance_number", "study_time_key", "performed_procedure_step_start_time_key")


@pytest.fixture(scope="module")
def filled(url: str) -> str:
    """The database, with enough rows for PostgreSQL to think about a plan."""

    def insert(table: str, columns: dict[str, str]) -> str:
        return (
            f"INSERT INTO {table} (id, partition_key, {', '.join(columns)}) "
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
            f"SELECT 1000000 + i, {PLANNED}, {', '.join(columns.values())} FROM n"
        )

    def keys(level: Level) -> dict[str, str]:
        found = [attribute.key for attribute in SEARCHABLE if attribute.level is level and attribute.values.own]
        return {key: "i" if key in NUMBERED else "'v' || i" for key in found}

    up = {"study_id": "1000000 + i", "created": "1"}
    file = {"transfer_syntax": "''", "file_key": "''", "file_size": "1", "series_id": "1000000 + i"}

    async def run() -> None:
        database = open_database(url)

        async def unit(tx: Transaction) -> None:
            await tx.execute(insert("study", {**keys(Level.STUDY), "created": "1"}))
            await tx.execute(insert("series", {**keys(Level.SERIES), **up}))
            await tx.execute(insert("instance", {**keys(Level.INSTANCE), **up, **file}))
            await tx.execute(
                "INSERT INTO person_name (study_id, attribute, suffix, partition_key) "
                "SELECT s.id, g.attribute, s.patient_name_key, s.partition_key FROM study s CROSS JOIN "
                "(SELECT DISTINCT id % 8 AS attribute FROM study) g WHERE s.partition_key = ?",
                PLANNED,
            )
            await tx.execute(
                "INSERT INTO request_attribute (series_id, item, partition_key, scheduled_procedure_step_id_key, "
                "requested_procedure_id_key) SELECT id, 0, partition_key, series_uid, series_uid FROM series "
                "WHERE partition_key = ?",
                PLANNED,
            )

        await database.write(unit)
        await database.close()
        if not is_sqlite(url):
            connection = await asyncpg.connect(url)
            await connection.execute("VACUUM ANALYZE")
            await connection.close()

    asyncio.run(run())
    return url


async def plan(database: Database, sql: str, values: list[Value]) -> list[str]:
    """The steps of a statement that read tables, in the engine's words."""

    async def unit(tx: Transaction) -> list[str]:
        if tx.dialect == "sqlite":
            return [str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}", *values)]
        # The tables of a test are so small that reading them whole is cheapest: asked is whether it could be avoided.
        await tx.execute("SET LOCAL enable_seqscan = off")
        await tx.execute("SET LOCAL enable_bitmapscan = off")
        return [str(row[0]).strip() for row in await tx.fetch(f"EXPLAIN {sql}", *values)]

    return await database.read(unit)


def assert_by_index(steps: list[str], column: str | None) -> None:
    """No table is read whole, and if a column is given, an index is entered by it."""
    # SQLite calls it a scan when it goes over what a subquery gives: those are c, d, n and p.
    whole = [step for step in steps if "Seq Scan" in step or step.startswith(("SCAN o", "SCAN x", "SCAN y", "SCAN s"))]
    whole += [step for step in steps if step.startswith(("SCAN i", "SCAN e")) or "AUTOMATIC" in step]
    assert not whole, steps
    if column is not None:
        entered = [step for step in steps if step.startswith("SEARCH o") or "Index Cond" in step]
        assert any(column in step.partition("(")[2] for step in entered), steps


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("level", "keyword", "kind", "condition"),
    CASES,
    ids=[f"{level.name.lower()} {keyword} {kind}" for level, keyword, kind, _ in CASES],
)
async def test_every_key_is_found_by_an_index(
    database: Database, level: Level, keyword: str, kind: str, condition: Condition
) -> None:
    more = tuple(equal(BY_KEYWORD[name], "x") for name in OTHERS[level] if name != keyword)
    column = condition.comparisons[0].date if kind == "moments" else condition.comparisons[0].column  # type: ignore[union-attr]
    for query in (Query(level, PLANNED, (condition,)), Query(level, PLANNED, (condition, *more), before=2**40)):
        for sql, values in (
            driving(query, condition, database.dialect),
            counting(query, condition, database.dialect),
            probing(query, database.dialect),
        ):
            assert_by_index(await plan(database, sql, values), column)
        assert_by_index(await plan(database, *walking(query, database.dialect)), None)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("level", Level)
async def test_the_newest_are_found_by_an_index(database: Database, level: Level) -> None:
    query = Query(level, PLANNED, before=2**40, with_metadata=True)
    assert_by_index(await plan(database, *walking(query, database.dialect)), None)
    assert_by_index(await plan(database, *counting(query, None, database.dialect)), "partition_key")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("keyword", ["PatientID", "StudyDate", "ModalitiesInStudy"])
async def test_one_value_comes_in_order_and_is_not_sorted(database: Database, keyword: str) -> None:
    """So that a page of many matches costs no more than one of few."""
    condition = equal(BY_KEYWORD[keyword], "x")
    steps = await plan(database, *driving(Query(Level.STUDY, PLANNED, (condition,)), condition, database.dialect))
    # The page itself is sorted.
    assert len([step for step in steps if "TEMP B-TREE" in step or "Sort Key" in step]) == 1, steps


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("tag", searching.COMPUTED)
async def test_what_is_computed_is_found_by_an_index(database: Database, tag: str) -> None:
    _, sql = searching.COMPUTED[tag]
    steps = await plan(database, sql.format("?, ?"), [1, 2])
    assert not [step for step in steps if "Seq Scan" in step or "SCAN" in step], steps
