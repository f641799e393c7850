"""Searching workitems: against a naive search, and by which plan (worklist.md, Search), on both engines."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom.dates import parse_datetime
from hounsfield.worklist import dataset as datasets
from hounsfield.worklist import search as searching
from hounsfield.worklist import workitems
from hounsfield.worklist.index import Attribute
from hounsfield.worklist.search import Condition, Equal, Query, Scheduled, Words, driving, probing, search, walking
from hounsfield.worklist.states import State
from tests.index.test_tag_plans import plan, whole_tables
from tests.worklist import make
from tests.worklist.make import element, sequence

CONDITIONS: list[Condition] = [
    Scheduled("SCHEDULED"),
    Scheduled(None, 63_900_000_000_000_000, 63_900_000_000_000_000),
    Scheduled(None, 63_900_000_000_000_000, None),
    Scheduled("IN PROGRESS", None, 63_900_000_000_000_000),
    Scheduled("SCHEDULED", 63_900_000_000_000_000, 63_900_000_100_000_000),
    Equal(Attribute.PATIENT_ID, "p1"),
    Equal(Attribute.STATION_NAME_CODE, "ct1"),
    Words("do", "dp"),
    Words("do", "dp", "ja"),
    Words("do", "dp", "ja", "^do[^ ]* ja[^ ]* q"),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
async def test_no_search_reads_a_whole_table(database: Database, condition: Condition) -> None:
    query = Query(7, (condition, *(other for other in CONDITIONS if other is not condition)))
    for sql, values in (
        driving(query, condition, database.dialect),
        walking(query, database.dialect),
        probing(query, database.dialect, 10),
    ):
        steps = await plan(database, sql, values)
        assert whole_tables(steps) == [], steps
    steps = await plan(database, *driving(query, condition, database.dialect))
    table = "workitem_partition_key" if isinstance(condition, Scheduled) else "workitem_value_partition_key_attribute"
    assert any(f"ix_{table}" in step for step in steps), steps
    if searching.is_ordered(condition):
        # PostgreSQL sorts the page, whatever its order; only with rows would it tell what else it does.
        assert not any("TEMP B-TREE" in step for step in steps[:-1]), steps


async def test_many_matches_are_merged_in_the_order_of_their_indexes(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite looks at matches one by one")
    merged = [condition for condition in CONDITIONS if searching.is_ordered(condition)]
    query = Query(7, (*merged, Words("do", "dp")))
    sql, values = driving(query, merged[0], database.dialect, merged[1:])

    async def unit(tx: Transaction) -> list[str]:
        await tx.fetch(searching.INDEXES_IN_ORDER)
        return [str(row[0]).strip() for row in await tx.fetch(f"EXPLAIN {sql}", *values)]

    steps = await database.read(unit)
    assert sum("Merge Join" in step for step in steps) == len(merged) - 1, steps
    assert sum("Sort  " in step for step in steps) == 1, steps  # of the page
    assert not [step for step in steps if "Seq Scan" in step or "Bitmap" in step], steps
    # Each is read from an index that has it in order, and the names are only looked at.
    assert sum("ix_workitem" in step for step in steps) == len(merged), steps


async def test_all_workitems_come_from_the_index_of_a_partition(database: Database) -> None:
    steps = await plan(database, *walking(Query(7), database.dialect))
    assert whole_tables(steps) == []
    # PostgreSQL may sort what is no page yet.
    assert database.dialect == "postgresql" or any("ix_workitem_partition_key_id" in step for step in steps), steps


STATIONS = ("CT1", "CT2", "MR 1")
NAMES = ("Doe^Jane", "Doe^John^Q", "Müller^Jörg", "Yamada^Tarou=山田^太郎")


async def populated(database: Database, partition_key: int, count: int) -> list[dict[str, Any]]:
    """Workitems with values by chance, oldest first."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        name, station, day = chance.choice(NAMES), chance.choice(STATIONS), chance.randrange(10, 20)
        groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
        dataset = make.workitem(
            t00100010=element("PN", groups),
            t00404005=element("DT", f"202601{day}0800"),
            t00404025=sequence(make.code(station)),
        )
        state = chance.choice((State.SCHEDULED, State.SCHEDULED, State.CANCELED))
        uid = await workitems.create(database, partition_key, dataset, f"1.2.{number}")
        if state is State.CANCELED:
            await workitems.request_cancellation(database, partition_key, uid, {})
        made.append({"uid": uid, "name": name, "station": station, "day": day, "state": state.value})
    return made


def uids(found: list[bytes]) -> list[str]:
    return [msgspec.json.decode(datasets.as_json(one))["00080018"]["Value"][0] for one in found]


def day(number: int) -> int:
    found = parse_datetime(f"202601{number}0800")
    assert found is not None
    return found


@pytest.mark.parametrize(("few", "walk"), [(5_000, 2_000), (3, 20), (3, 1)])
async def test_finds_what_a_naive_search_finds(
    database: Database, monkeypatch: pytest.MonkeyPatch, few: int, walk: int
) -> None:
    monkeypatch.setattr(searching, "FEW", few)
    monkeypatch.setattr(searching, "FEWER", few)
    monkeypatch.setattr(searching, "WALK", walk)
    partition_key = 100 + few + walk
    made = await populated(database, partition_key, 60)
    asked: list[tuple[tuple[Condition, ...], Callable[[dict[str, Any]], bool]]] = [
        ((), lambda one: True),
        ((Scheduled("CANCELED"),), lambda one: one["state"] == "CANCELED"),
        ((Scheduled(None, day(12), day(15)),), lambda one: 12 <= one["day"] <= 15),
        ((Scheduled("SCHEDULED", day(13), None),), lambda one: one["state"] == "SCHEDULED" and one["day"] >= 13),
        ((Equal(Attribute.STATION_NAME_CODE, "mr 1"),), lambda one: one["station"] == "MR 1"),
        ((Equal(Attribute.PATIENT_NAME, "muller^jorg"),), lambda one: one["name"] == "Müller^Jörg"),
        ((Equal(Attribute.PATIENT_NAME, "山田^太郎"),), lambda one: "山田" in one["name"]),
        ((Words("do", "dp"),), lambda one: one["name"].startswith("Doe")),
        ((Words("do", "dp", "j"),), lambda one: one["name"].startswith("Doe^J")),
        ((Words("do", "dp", "q"),), lambda one: False),
        ((Words("do", "dp", "j", "^do[^ ]* j[^ ]* q"),), lambda one: one["name"] == "Doe^John^Q"),
        (
            (Scheduled("SCHEDULED"), Equal(Attribute.STATION_NAME_CODE, "ct1"), Words("j", "k")),
            lambda one: one["state"] == "SCHEDULED" and one["station"] == "CT1" and "^J" in one["name"],
        ),
        (
            (Scheduled("SCHEDULED"), Equal(Attribute.STATION_NAME_CODE, "ct1")),
            lambda one: one["state"] == "SCHEDULED" and one["station"] == "CT1",
        ),
        (
            (Scheduled(None, day(13), None), Equal(Attribute.STATION_NAME_CODE, "ct1")),
            lambda one: one["day"] >= 13 and one["station"] == "CT1",
        ),
        ((Scheduled("COMPLETED"), Equal(Attribute.STATION_NAME_CODE, "ct1")), lambda one: False),
    ]
    for conditions, matches in asked:
        expected = [one["uid"] for one in reversed(made) if matches(one)]
        for limit, offset in ((200, 0), (5, 0), (5, 3), (5, 200)):
            found = await search(database, Query(partition_key, conditions, limit, offset))
            assert uids(found) == expected[offset : offset + limit], conditions
