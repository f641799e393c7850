"""Searching the index: what is found, in which order, and by which plan (query.md §§3, 4, 7)."""

import asyncio
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom import person_name
from hounsfield.index.attributes import SEARCHABLE, Attribute, Matching
from hounsfield.index.fragments import unpack
from hounsfield.index.instances import InstancePath, Level, SeriesValues, StudyValues
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.index.search import Condition, DateBetween, Equal, NameLike, Query, search, statement
from tests.index.make import add, instance, path

BY_KEYWORD = {attribute.keyword: attribute for attribute in SEARCHABLE}


def equal(keyword: str, value: str) -> Equal:
    """The condition the web layer makes of an exact filter."""
    attribute = BY_KEYWORD[keyword]
    fold = person_name.match_key if attribute.matching is Matching.NAME else person_name.text_key
    return Equal(attribute, fold(value))


def fuzzy(keyword: str, value: str) -> NameLike:
    return NameLike(BY_KEYWORD[keyword], *person_name.fuzzy_pattern(value))


# --- against a model ---

PREFIX = "1.2.826.0.1.3680043.10.999.77"
DATES = [None, "20240101", "20240131", "20240201"]
TEXTS = [None, "a", "A b", "ä", "%", "a_b"]
NAMES = [None, "Doe^John", "doe^jo", "Do^John Doe", "Ärzte^Anna", "王^小东=Wang"]
MODALITIES = [None, "CT", "ct", "MR"]


@dataclass(frozen=True)
class Stored:
    """An instance of the model."""

    where: InstancePath
    study: StudyValues
    series: SeriesValues


ARCHIVES = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(1, 2),
        st.builds(
            StudyValues,
            patient_id=st.sampled_from(TEXTS),
            patient_name=st.sampled_from(NAMES),
            study_date=st.sampled_from(DATES),
            study_description=st.sampled_from(TEXTS),
        ),
        st.builds(SeriesValues, modality=st.sampled_from(MODALITIES), manufacturer_model_name=st.sampled_from(TEXTS)),
    ),
    min_size=1,
    max_size=10,
)
DAYS = st.sampled_from([None, "20240101", "20240115", "20240131", "20240202"])
CONDITIONS = st.lists(
    st.one_of(
        st.builds(equal, st.sampled_from(["PatientID", "StudyDescription"]), st.sampled_from(TEXTS[1:])),
        st.builds(equal, st.just("PatientName"), st.sampled_from(NAMES[1:])),
        st.builds(equal, st.just("ModalitiesInStudy"), st.sampled_from(MODALITIES[1:])),
        st.builds(
            fuzzy, st.just("PatientName"), st.sampled_from(["do", "jo", "doe jo", "John Doe", "an", "小", "wang"])
        ),
        st.builds(DateBetween, st.just(BY_KEYWORD["StudyDate"]), DAYS, DAYS),
    ),
    max_size=2,
)
SERIES_CONDITIONS = st.lists(
    st.builds(equal, st.sampled_from(["Modality", "ManufacturerModelName"]), st.sampled_from(["CT", "a", "MR", "A b"])),
    max_size=1,
)


class Model:
    """The archive as plain rows, oldest first."""

    def __init__(self, stored: list[Stored]) -> None:
        self.studies: dict[str, dict[str, Any]] = {}
        self.series: dict[tuple[str, str], dict[str, Any]] = {}
        self.instances: list[Stored] = stored
        for one in stored:
            study = self.studies.setdefault(one.where.study_uid, {})
            series = self.series.setdefault((one.where.study_uid, str(one.where.series_uid)), {})
            for row, values in ((study, one.study), (series, one.series)):
                given = {name: getattr(values, name) for name in values.__dataclass_fields__}
                row.update({name: value for name, value in given.items() if value is not None or name not in row})

    def holds(self, condition: Condition, study_uid: str, series_uid: str | None) -> bool:
        attribute = condition.attribute
        if attribute.matching is Matching.MODALITIES:
            assert isinstance(condition, Equal)
            values = [row["modality"] for key, row in self.series.items() if key[0] == study_uid]
            return condition.key in [person_name.text_key(value) for value in values if value is not None]
        row = self.studies[study_uid] if attribute.level is Level.STUDY else self.series[study_uid, str(series_uid)]
        value = row[attribute.column.partition(".")[2]]
        if value is None:
            return False
        if isinstance(condition, DateBetween):
            return bool((condition.first or "") <= value <= (condition.last or "9"))
        if isinstance(condition, NameLike):
            return any(
                suffix.startswith(condition.lower) and _finds(condition, suffix)
                for suffix in person_name.suffixes(value)
            )
        fold = person_name.match_key if attribute.matching is Matching.NAME else person_name.text_key
        return bool(fold(value) == condition.key)

    def found(self, level: Level, conditions: tuple[Condition, ...]) -> list[str]:
        """UIDs of the level that meet all conditions, newest first."""
        rows: list[tuple[str, str, str | None]]
        if level is Level.STUDY:
            rows = [(uid, uid, None) for uid in self.studies]
        elif level is Level.SERIES:
            rows = [(series, study, series) for study, series in self.series]
        else:
            rows = [(str(one.where.sop_uid), one.where.study_uid, str(one.where.series_uid)) for one in self.instances]
        return [
            uid
            for uid, study, series in reversed(rows)
            if all(self.holds(condition, study, series) for condition in conditions)
        ]


def _finds(condition: NameLike, suffix: str) -> bool:
    return condition.pattern is None or re.search(condition.pattern, suffix) is not None


TAG = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}
_rounds = iter(range(1, 1_000_000))


@given(ARCHIVES, st.lists(st.tuples(CONDITIONS, SERIES_CONDITIONS), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_searches_find_what_a_plain_loop_would(
    url: str,
    archive: list[tuple[int, int, StudyValues, SeriesValues]],
    queries: list[tuple[list[Condition], list[Condition]]],
) -> None:
    partition = next(_rounds) + 1000

    async def run() -> None:
        database = open_database(url)
        stored = []
        for number, (study, series, study_values, series_values) in enumerate(archive):
            where = InstancePath(partition, f"{PREFIX}.{study}", f"{PREFIX}.{study}.{series}", f"{PREFIX}.9.{number}")
            stored.append(Stored(where, study_values, series_values))
            await add(database, instance(where, study_values, series_values))
        model = Model(stored)
        for study_conditions, series_conditions in queries:
            for level in Level:
                conditions = tuple(study_conditions if level is Level.STUDY else study_conditions + series_conditions)
                expected = model.found(level, conditions)
                for offset, limit in ((0, 100), (1, 2), (len(expected), 5)):
                    query = Query(level, partition, conditions=conditions, offset=offset, limit=limit)
                    found = [match.values[TAG[level]] for match in await search(database, query)]
                    assert found == expected[offset : offset + limit]
        await database.close()

    asyncio.run(run())


# --- single rules ---


async def test_below_a_study_and_a_series(database: Database) -> None:
    first = path()
    others = [path(first.study_uid, first.series_uid), path(first.study_uid), path()]
    await add(database, *map(instance, [first, *others]))

    async def found(level: Level, series_uid: str | None = None) -> list[str | None]:
        query = Query(level, DEFAULT_KEY, study_uid=first.study_uid, series_uid=series_uid)
        return [match.values[TAG[level]] for match in await search(database, query)]

    assert await found(Level.SERIES) == [others[1].series_uid, first.series_uid]
    assert await found(Level.INSTANCE) == [others[1].sop_uid, others[0].sop_uid, first.sop_uid]
    assert await found(Level.INSTANCE, first.series_uid) == [others[0].sop_uid, first.sop_uid]
    assert await found(Level.INSTANCE, others[2].series_uid) == []


async def test_other_partitions_are_not_searched(database: Database) -> None:
    where = path()
    await add(database, instance(where))
    for level in Level:
        conditions = (Equal(BY_KEYWORD["StudyInstanceUID"], where.study_uid),)
        assert len(await search(database, Query(level, DEFAULT_KEY, conditions=conditions))) == 1
        assert await search(database, Query(level, 2, conditions=conditions)) == []


async def test_values_counts_modalities_and_the_newest_metadata(database: Database) -> None:
    first = path()
    later, elsewhere = path(first.study_uid, first.series_uid), path(first.study_uid)
    values = StudyValues(patient_name="Doe^John", study_date="20240131")
    await add(database, instance(first, values, SeriesValues("CT", None, "Model")))
    await add(database, instance(elsewhere, None, SeriesValues("SR")))
    await add(database, instance(later, None, SeriesValues("CT")))
    query = {"study_uid": first.study_uid, "with_metadata": True, "with_modalities": True, "with_count": True}
    (study,) = await search(database, Query(Level.STUDY, DEFAULT_KEY, **query))  # type: ignore[arg-type]
    assert study.values["00100010"] == "Doe^John"
    assert study.values["00100020"] is None
    assert study.modalities == ("CT", "SR")
    assert study.count == 3
    assert study.metadata is not None
    assert str(later.sop_uid).encode() in unpack([study.metadata])
    series = await search(database, Query(Level.SERIES, DEFAULT_KEY, **query))  # type: ignore[arg-type]
    assert [one.count for one in series] == [1, 2]
    assert [one.values["00081090"] for one in series] == [None, "Model"]
    assert series[1].metadata is not None
    assert str(later.sop_uid).encode() in unpack([series[1].metadata])


# --- plans ---


def condition_on(attribute: Attribute) -> Condition:
    if attribute.matching is Matching.DATE:
        return DateBetween(attribute, "20240101", date(2024, 1, 31).strftime("%Y%m%d"))
    return Equal(attribute, "x")


CASES = [
    *((attribute.keyword, condition_on(attribute)) for attribute in SEARCHABLE),
    ("PatientName fuzzy", fuzzy("PatientName", "doe")),
    ("ReferringPhysicianName fuzzy", fuzzy("ReferringPhysicianName", "doe jo")),
]


LEVELS = [
    (name, level, condition)
    for name, condition in CASES
    for level in Level
    if condition.attribute.level.value <= level.value
]


@pytest.mark.parametrize(
    ("name", "level", "condition"), LEVELS, ids=[f"{name}, {level.name}" for name, level, _ in LEVELS]
)
async def test_no_search_reads_a_whole_table(database: Database, name: str, level: Level, condition: Condition) -> None:
    sql, values = statement(Query(level, DEFAULT_KEY, conditions=(condition,)), database.dialect)

    async def unit(tx: Transaction) -> list[str]:
        if tx.dialect == "sqlite":
            return [str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}", *values)]
        # The tables of a test are so small that reading them whole is cheapest: asked is whether it could be avoided.
        await tx.execute("SET LOCAL enable_seqscan = off")
        return [str(row[0]).strip() for row in await tx.fetch(f"EXPLAIN {sql}", *values)]

    plan = await database.read(unit)
    assert not [step for step in plan if step.startswith("SCAN") or "Seq Scan" in step], plan
