"""The short way to add an instance to a series ends as the long one does."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.connect import is_sqlite, open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.errors import StoreUnavailable
from hounsfield.index import feed, instances, new_instances, next_instance
from hounsfield.index.instances import InstancePath, Level, Received
from hounsfield.index.new_instances import NewInstance
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.index.query_tags import QueryTag, TagsChanged, TagStatus
from hounsfield.index.studies import SeriesValues, StudyValues
from hounsfield.index.tag_keys import Indexed
from hounsfield.index.tag_values import TagValue
from tests.index.make import add, entries, instance, leftovers, path

NAMES = StudyValues(patient_id="P1", patient_name="Doe^Jane", study_time="101112.5", study_description="Chest")
SERIES = SeriesValues(modality="CT", series_number=3, request_attributes='[["a", null]]')


async def add_shortly(database: Database, new: NewInstance, generation: int = 0) -> list[bool]:
    """As the store does."""

    async def unit(tx: Transaction) -> list[bool]:
        return [version is not None for version in await new_instances.add(tx, [new], 1, generation)]

    write = database.pending(unit, next_instance.adding(new, generation))
    write.begin()
    return await write.result()


async def add_only_shortly(database: Database, new: NewInstance, generation: int = 0) -> list[bool]:
    """Raises StoreUnavailable if the short way cannot be gone."""

    async def unit(tx: Transaction) -> list[bool]:
        raise StoreUnavailable("not shortly")

    write = database.pending(unit, next_instance.adding(new, generation))
    write.begin()
    return await write.result()


def beside(new: NewInstance, **values: Any) -> NewInstance:
    """Another instance of the same series."""
    where = InstancePath(DEFAULT_KEY, new.path.study_uid, new.path.series_uid, path().sop_uid)
    return replace(instance(where, new.study, new.series), **values)


async def test_what_goes_by_one_statement(url: str, database: Database) -> None:
    if not is_sqlite(url):
        pytest.skip("PostgreSQL has no short way.")
    first = instance(study=NAMES, series=SERIES, frames=b"f")
    with pytest.raises(StoreUnavailable):
        await add_only_shortly(database, first)
    assert await instances.find(database, first.path) == []
    await add(database, first)
    start = await feed.latest_sequence(database)
    received = Received("1.2.840.10008.1.2.4.90", 77, "other.dcm")
    for new in (
        beside(first),
        beside(first, study=StudyValues(), series=SeriesValues()),
        beside(first, received=received, frames=b"1234", sop_class_uid="1.2", instance_number=-3, file_size=2**40),
    ):
        assert await add_only_shortly(database, new) == [True]
        (found,) = await instances.find(database, new.path)
        assert (found.file_key, found.file_size, found.received) == (new.file_key, new.file_size, new.received)
        (entry,) = await entries(database, start)
        start = entry.sequence
        assert (entry.action, entry.sop_uid, entry.state) == (feed.Action.CREATE, found.sop_uid, feed.State.CURRENT)
        content = "SELECT metadata, frames FROM instance_content WHERE instance_id = ?"
        assert await database.fetch(content, found.version) == [(new.metadata, new.frames)]
        row = "SELECT sop_class_uid, instance_number FROM instance WHERE id = ?"
        assert await database.fetch(row, found.version) == [(new.sop_class_uid, new.instance_number)]
    assert await leftovers(database) == {}


async def test_times_of_the_feed_never_go_back(database: Database) -> None:
    first = instance(study=NAMES, series=SERIES)
    start = await feed.latest_sequence(database)
    later = time.time_ns() // 1000 + 3_600_000_000
    await add(database, first, now=later)
    assert await add_shortly(database, beside(first)) == [True]
    assert [entry.timestamp for entry in await entries(database, start)] == [later, later]


def test_values_of_tags_take_the_long_way() -> None:
    tag = QueryTag(1, "00180015", "CS", None, Level.STUDY, TagStatus.READY, True, 0, None)
    given = TagValue(tag, Indexed("CHEST", "CHEST"))
    assert next_instance.adding(instance(), 1) is not None
    assert next_instance.adding(replace(instance(), tags=(given,)), 1) is None


@pytest.mark.parametrize(
    ("study", "series"),
    [
        (replace(NAMES, patient_name="Doe^June"), SERIES),
        (replace(NAMES, patient_sex="F"), SERIES),
        (NAMES, replace(SERIES, modality="MR")),
        (NAMES, replace(SERIES, series_number=4)),
    ],
)
async def test_what_changes_study_or_series_takes_the_long_way(
    url: str, database: Database, study: StudyValues, series: SeriesValues
) -> None:
    first = instance(study=NAMES, series=SERIES)
    await add(database, first)
    new = beside(first, study=study, series=series)
    start = await feed.latest_sequence(database)
    if is_sqlite(url):
        with pytest.raises(StoreUnavailable):
            await add_only_shortly(database, new)
        assert await feed.latest_sequence(database) == start
        assert await instances.find(database, new.path) == []
    assert await add_shortly(database, new) == [True]
    assert await feed.latest_sequence(database) == start + 1
    rows = await database.fetch(
        "SELECT s.patient_name, s.patient_sex, e.modality, e.series_number FROM study s JOIN series e "
        "ON e.study_id = s.id WHERE s.study_uid = ?",
        new.path.study_uid,
    )
    assert rows == [(study.patient_name, study.patient_sex, series.modality, series.series_number)]


async def test_what_is_there_and_other_tags(database: Database) -> None:
    first = instance(study=NAMES, series=SERIES)
    assert await add_shortly(database, first) == [True]
    assert await add_shortly(database, first) == [False]
    with pytest.raises(TagsChanged):
        await add_shortly(database, beside(first), generation=1_000_000)
    assert len(await instances.find(database, replace(first.path, sop_uid=None))) == 1


VALUES = st.sampled_from([None, "a", "B", "b", "ä "])
SMALL = st.integers(1, 2)
STEPS = st.lists(
    st.tuples(
        SMALL,
        SMALL,
        st.integers(1, 3),
        st.builds(StudyValues, patient_id=VALUES, patient_name=VALUES, study_date=st.sampled_from([None, "20240101"])),
        st.builds(SeriesValues, modality=VALUES, series_number=st.sampled_from([None, 1, 2])),
    ),
    max_size=8,
)


@given(STEPS, st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_end_alike(
    url: str, steps: list[tuple[int, int, int, StudyValues, SeriesValues]], together: bool
) -> None:
    """Also where several are added in one transaction."""
    prefixes = [path().study_uid, path().study_uid]

    async def run() -> None:
        database = open_database(url)
        start = await feed.latest_sequence(database)
        new = [
            [
                instance(InstancePath(DEFAULT_KEY, f"{prefix}.{study}", f"1.{series}", f"1.{sop}"), of_study, of_series)
                for study, series, sop, of_study, of_series in steps
            ]
            for prefix in prefixes
        ]
        by_unit = [(await add(database, one)) != [None] for one in new[0]]
        if together and is_sqlite(url):
            shortly = await asyncio.gather(*(add_shortly(database, one) for one in new[1]))
        else:
            shortly = [await add_shortly(database, one) for one in new[1]]
        assert [added for (added,) in shortly] == by_unit
        seen = [await everything(database, prefix, start) for prefix in prefixes]
        assert seen[0] == seen[1]
        assert await leftovers(database) == {}
        await database.close()

    asyncio.run(run())


async def everything(database: Database, prefix: str, start: int) -> list[object]:
    """All the index says of the studies of a prefix, but for numbers, times and the prefix."""
    said: list[object] = []
    for study in (1, 2):
        uid = f"{prefix}.{study}"
        rows = await database.fetch(
            "SELECT patient_id, patient_id_key, patient_name, patient_name_key, study_date FROM study "
            "WHERE study_uid = ?",
            uid,
        )
        series = await database.fetch(
            "SELECT e.series_uid, e.modality, e.modality_key, e.series_number FROM series e "
            "JOIN study s ON s.id = e.study_id WHERE s.study_uid = ? ORDER BY e.series_uid",
            uid,
        )
        names = await database.fetch(
            "SELECT n.attribute, n.suffix FROM person_name n JOIN study s ON s.id = n.study_id WHERE s.study_uid = ? "
            "ORDER BY n.attribute, n.suffix",
            uid,
        )
        found = await instances.find(database, InstancePath(DEFAULT_KEY, uid))
        said += [rows, series, names, [(one.series_uid, one.sop_uid, one.transfer_syntax) for one in found]]
    here = [entry for entry in await entries(database, start) if entry.study_uid.startswith(prefix)]
    said += [(entry.study_uid[len(prefix) :], entry.series_uid, entry.sop_uid, entry.state) for entry in here]
    return said
