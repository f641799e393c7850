"""Adding, finding and deleting instances, alone and at the same time (store.md §§6, 7)."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom.person_name import suffixes
from hounsfield.index import feed, instances, new_instances, statistics
from hounsfield.index.instances import InstancePath, Level, Received
from hounsfield.index.new_instances import NewInstance
from hounsfield.index.partitions import DEFAULT_KEY, DEFAULT_NAME
from hounsfield.index.studies import SeriesValues, StudyValues
from tests.index.make import add, delete, entries, instance, leftovers, path

NAMES = StudyValues(patient_id="P 1", patient_name="Doe^John", study_date="20240131", study_description="Chest")


def up(where: InstancePath, level: Level) -> InstancePath:
    """The path cut to a level."""
    series = where.series_uid if level.value > 1 else None
    return InstancePath(where.partition_key, where.study_uid, series, where.sop_uid if level.value > 2 else None)


async def study_row(database: Database, where: InstancePath) -> tuple[Any, ...]:
    row = await database.fetch_one(
        "SELECT patient_id, patient_id_key, patient_name, patient_name_key, study_date, study_description FROM study "
        "WHERE partition_key = ? AND study_uid = ?",
        where.partition_key,
        where.study_uid,
    )
    assert row is not None
    return row


async def names(database: Database, where: InstancePath) -> set[tuple[int, str]]:
    """Word sequences of the names."""
    rows = await database.fetch(
        "SELECT n.attribute, n.suffix FROM person_name n JOIN study s ON s.id = n.study_id "
        "WHERE s.study_uid = ? AND n.attribute < 2",
        where.study_uid,
    )
    return {(int(attribute), str(suffix)) for attribute, suffix in rows}


async def test_what_is_added_is_found_at_every_level(database: Database) -> None:
    first = path()
    others = [path(first.study_uid, first.series_uid), path(first.study_uid), path()]
    versions = await add(database, *map(instance, [first, *others]))
    assert None not in versions
    assert versions == sorted(versions, key=lambda version: version or 0)
    for level, expected in (
        (Level.INSTANCE, [first]),
        (Level.SERIES, [first, others[0]]),
        (Level.STUDY, [first, *others[:2]]),
    ):
        found = await instances.find(database, up(first, level))
        assert [one.sop_uid for one in found] == [one.sop_uid for one in expected]
        assert [one.version for one in found] == versions[: len(expected)]
        assert await instances.exists(database, up(first, level))
    assert await instances.find(database, path()) == []
    assert not await instances.exists(database, InstancePath(DEFAULT_KEY, others[2].study_uid, first.series_uid))


async def test_entries_of_one_request_have_its_order(database: Database) -> None:
    """Whatever order their rows are locked in."""
    before = await feed.latest_sequence(database)
    asked = [path(study) for study in ("2.9", "2.1", "2.5", "2.1")]
    await add(database, *map(instance, asked))
    written = await feed.after(database, before, 10, include_metadata=False)
    assert [entry.sop_uid for entry in written] == [one.sop_uid for one in asked]


async def test_everything_about_an_instance_comes_back(database: Database) -> None:
    new = instance(size=2**40)
    (version,) = await add(database, new)
    (found,) = await instances.find(database, new.path)
    assert found.version == version
    assert (found.study_uid, found.series_uid, found.sop_uid) == (
        new.path.study_uid,
        new.path.series_uid,
        new.path.sop_uid,
    )
    assert (found.transfer_syntax, found.file_key, found.file_size) == (new.transfer_syntax, new.file_key, 2**40)


async def test_a_duplicate_changes_nothing_but_its_neighbours_are_added(database: Database) -> None:
    old = instance(study=NAMES)
    await add(database, old)
    start = await feed.latest_sequence(database)
    before = await study_row(database, old.path)
    again, fresh = instance(old.path, StudyValues(patient_name="Other^Name")), instance()
    twice = instance(fresh.path)
    versions = await add(database, again, fresh, twice)
    assert versions[0] is None
    assert versions[2] is None
    assert versions[1] is not None
    assert (await instances.find(database, old.path))[0].file_key == old.file_key
    assert (await instances.find(database, fresh.path))[0].file_key == fresh.file_key
    assert len(await entries(database, start)) == 1
    assert await study_row(database, old.path) == before


async def test_the_same_uid_elsewhere_is_another_instance(database: Database) -> None:
    here = path()
    elsewhere = [path(here.study_uid, None, here.sop_uid), path(None, here.series_uid, here.sop_uid)]
    partition = InstancePath(7, here.study_uid, here.series_uid, here.sop_uid)
    assert None not in await add(database, *map(instance, [here, *elsewhere, partition]))
    assert len(await instances.find(database, here)) == 1
    assert await delete(database, here) == 1
    for one in [*elsewhere, partition]:
        assert await instances.exists(database, one)
    await delete(database, partition)


async def test_rows_take_the_latest_value_and_keep_what_is_missing(database: Database) -> None:
    first = path()
    await add(database, instance(first, NAMES, SeriesValues("CT", "20240131", "Model")))
    assert await study_row(database, first) == ("P 1", "p 1", "Doe^John", "doe^john", "20240131", "Chest")
    assert await names(database, first) == {(0, "doe john"), (0, "john")}
    later = path(first.study_uid, first.series_uid)
    change = StudyValues(patient_id="P 2", patient_name="Ärzte^Anna B", referring_physician_name="Doe^John")
    await add(database, instance(later, change, SeriesValues(modality="MR")))
    assert await study_row(database, first) == ("P 2", "p 2", "Ärzte^Anna B", "arzte^anna b", "20240131", "Chest")
    expected = {(0, suffix) for suffix in suffixes("Ärzte^Anna B")} | {(1, suffix) for suffix in suffixes("Doe^John")}
    assert await names(database, first) == expected
    row = await database.fetch_one(
        "SELECT modality, modality_key, performed_procedure_step_start_date, manufacturer_model_name_key FROM series "
        "WHERE series_uid = ?",
        first.series_uid,
    )
    assert row == ("MR", "mr", "20240131", "model")
    await delete(database, later)
    assert (await study_row(database, first))[0] == "P 2"
    await delete(database, up(first, Level.STUDY))
    assert await names(database, first) == set()


@pytest.mark.parametrize("level", list(Level))
async def test_delete_takes_all_below_and_queues_the_files(database: Database, level: Level) -> None:
    first = path()
    paths = [first, path(first.study_uid, first.series_uid), path(first.study_uid)]
    new = [instance(one, NAMES) for one in paths]
    await add(database, *new, instance())
    start = await feed.latest_sequence(database)
    gone = {Level.INSTANCE: 1, Level.SERIES: 2, Level.STUDY: 3}[level]
    assert await delete(database, up(first, level)) == gone
    assert [await instances.exists(database, one) for one in paths] == [False] * gone + [True] * (3 - gone)
    rows = await database.fetch("SELECT file_key FROM deleted_file ORDER BY id")
    assert [row[0] for row in rows][-gone:] == [one.file_key for one in new[:gone]]
    found = await entries(database, start)
    assert [(entry.action, entry.sop_uid) for entry in found] == [
        (feed.Action.DELETE, one.sop_uid) for one in paths[:gone]
    ]
    assert await delete(database, up(first, level)) == 0
    assert await feed.latest_sequence(database) == start + gone
    assert await leftovers(database) == {}


async def test_versions_are_never_used_twice(database: Database) -> None:
    where, seen = path(), []
    for _ in range(3):
        (version,) = await add(database, instance(where))
        assert version is not None
        seen.append(version)
        await delete(database, where)
    assert seen == sorted(set(seen))


async def test_a_unit_that_fails_leaves_nothing(database: Database) -> None:
    new, start, held = instance(study=NAMES), await feed.latest_sequence(database), await statistics.count(database)

    async def unit(tx: Transaction) -> None:
        assert await new_instances.add(tx, [new], 1) != [None]
        raise RuntimeError("the unit changed its mind")

    with pytest.raises(RuntimeError, match="changed its mind"):
        await database.write(unit)
    assert not await instances.exists(database, up(new.path, Level.STUDY))
    assert await feed.latest_sequence(database) == start
    assert await statistics.count(database) == held
    assert await names(database, new.path) == set()


async def test_file_keys_of(database: Database) -> None:
    new = instance()
    await add(database, new)
    assert new.path.series_uid is not None
    assert new.path.sop_uid is not None
    uids = (new.path.study_uid, new.path.series_uid, new.path.sop_uid)

    async def look(partition: str, *uids: str) -> tuple[str, ...]:
        study, series, sop = uids
        return await database.read(lambda tx: instances.file_keys_of(tx, partition, study, series, sop))

    assert await look(DEFAULT_NAME, *uids) == (new.file_key,)
    assert await look("other", *uids) == ()
    assert await look(DEFAULT_NAME, *uids[:2], "1.2") == ()
    await delete(database, new.path)
    assert await look(DEFAULT_NAME, *uids) == ()


async def test_a_recompressed_instance(database: Database) -> None:
    before = await statistics.count(database)
    thrown, kept = instance(size=30), instance(size=40)
    thrown = replace(thrown, received=Received("1.2.840.10008.1.2", 90, None))
    kept = replace(kept, received=Received("1.2.840.10008.1.2.1", 100, kept.file_key + ".original"))
    await add(database, thrown, kept, instance(size=7))
    assert [item.received for item in await instances.find(database, kept.path)] == [kept.received]
    after = await statistics.count(database)
    assert (after.recompressed - before.recompressed, after.bytes - before.bytes) == (2, 77)
    assert after.received_bytes - before.received_bytes == 197
    assert after.original_bytes - before.original_bytes == 100
    study, series, sop = kept.path.study_uid, kept.path.series_uid, kept.path.sop_uid
    assert series is not None and sop is not None
    found = await database.read(lambda tx: instances.file_keys_of(tx, DEFAULT_NAME, study, series, sop))
    assert found == (kept.file_key, kept.file_key + ".original")
    assert await delete(database, kept.path) == 1
    await delete(database, thrown.path)
    queued = {row[0] for row in await database.fetch("SELECT file_key FROM deleted_file")}
    assert queued >= {kept.file_key, kept.file_key + ".original", thrown.file_key}


async def test_statistics(database: Database) -> None:
    before = await statistics.count(database)
    first = path()
    await add(database, instance(first, size=10), instance(path(first.study_uid, first.series_uid), size=2**33))
    await add(database, instance(path(first.study_uid), size=0), instance(size=5))
    after = await statistics.count(database)
    assert after.studies - before.studies == 2
    assert after.series - before.series == 3
    assert after.instances - before.instances == 4
    assert after.bytes - before.bytes == 2**33 + 15


# --- at the same time ---


async def test_one_of_many_concurrent_adds_of_an_instance_wins(database: Database, other: Database) -> None:
    where = path()
    new = [instance(where, StudyValues(patient_name=f"Writer^{number}")) for number in range(12)]
    versions = await asyncio.gather(*(add((database, other)[number % 2], one) for number, one in enumerate(new)))
    winners = [number for number, found in enumerate(versions) if found != [None]]
    assert len(winners) == 1
    (found,) = await instances.find(database, where)
    assert found.file_key == new[winners[0]].file_key


async def test_concurrent_requests_about_the_same_studies(database: Database, other: Database) -> None:
    """Requests name the studies in different orders and change their values: on PostgreSQL they may deadlock."""
    dice = random.Random(1)
    studies = [path() for _ in range(5)]

    def request(number: int) -> list[NewInstance]:
        chosen = [dice.choice(studies) for _ in range(8)]
        values = StudyValues(patient_name=f"Name^{number}", study_description=f"Request {number}")
        return [
            instance(
                path(one.study_uid, one.series_uid if dice.random() < 0.7 else None), values, SeriesValues(f"M{number}")
            )
            for one in chosen
        ]

    requests = [request(number) for number in range(24)]
    start = await feed.latest_sequence(database)
    answers = await asyncio.gather(*(add((database, other)[number % 2], *new) for number, new in enumerate(requests)))
    assert all(None not in versions for versions in answers)
    expected = {one.path.sop_uid for new in requests for one in new}
    found = await entries(database, start)
    assert [entry.sequence for entry in found] == list(range(start + 1, start + 1 + len(expected)))
    assert {entry.sop_uid for entry in found} == expected
    assert await leftovers(database) == {}


async def test_concurrent_requests_do_not_erase_each_others_values(database: Database, other: Database) -> None:
    first = path()
    await add(database, instance(first))
    for number in range(15):
        text = f"{number}"
        await asyncio.gather(
            add(database, instance(path(first.study_uid, first.series_uid), StudyValues(patient_name=text))),
            add(other, instance(path(first.study_uid, first.series_uid), StudyValues(patient_id=text))),
            add(database, instance(path(first.study_uid, first.series_uid), StudyValues(study_description=text))),
            add(other, instance(path(first.study_uid), StudyValues(study_date=text))),
        )
        assert await study_row(database, first) == (text, text, text, text, text, text)
        assert await names(database, first) == {(0, text)}


async def test_adds_and_deletes_of_one_study_at_the_same_time(database: Database, other: Database) -> None:
    dice = random.Random(2)
    first = path(study="1.2.3.4")
    paths = [first] + [path(first.study_uid, dice.choice([first.series_uid, None])) for _ in range(9)]

    async def work(number: int) -> None:
        for _ in range(15):
            where, level = dice.choice(paths), dice.choice([Level.STUDY, Level.SERIES, *[Level.INSTANCE] * 3])
            if dice.random() < 0.6:
                await add((database, other)[number % 2], instance(where, StudyValues(patient_name=f"Name^{number}")))
            else:
                await delete((database, other)[number % 2], up(where, level))

    await asyncio.gather(*(work(number) for number in range(8)))
    assert await leftovers(database) == {}
    visible = {one.sop_uid for one in await instances.find(database, up(first, Level.STUDY))}
    history: dict[str, list[feed.Action]] = {}
    for entry in await entries(database, 0):
        if entry.study_uid == first.study_uid:
            history.setdefault(entry.sop_uid, []).append(entry.action)
    for sop, actions in history.items():
        # Creates and deletes take turns, whatever the order in which the requests came.
        assert actions == [feed.Action.CREATE, feed.Action.DELETE] * (len(actions) // 2) + [feed.Action.CREATE] * (
            len(actions) % 2
        )
        assert (sop in visible) == bool(len(actions) % 2)


# --- against a model ---

SMALL = st.integers(1, 2)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "delete"]), SMALL, SMALL, SMALL, st.sampled_from(list(Level))), max_size=14
)


@given(STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_ends_as_a_set_would(url: str, steps: list[tuple[str, int, int, int, Level]]) -> None:
    prefix = path().study_uid

    async def run() -> None:
        database = open_database(url)
        model: dict[tuple[str, str, str], int] = {}
        start = await feed.latest_sequence(database)
        written = 0
        for step, study, series, sop, level in steps:
            where = InstancePath(DEFAULT_KEY, f"{prefix}.{study}", f"1.{series}", f"1.{sop}")
            key = (f"{prefix}.{study}", f"1.{series}", f"1.{sop}")
            if step == "add":
                (version,) = await add(database, instance(where))
                assert (version is None) == (key in model)
                if version is not None:
                    model[key] = version
                    written += 1
            else:
                gone = [one for one in model if one[: level.value] == key[: level.value]]
                assert await delete(database, up(where, level)) == len(gone)
                written += len(gone)
                for one in gone:
                    del model[one]
        for study in (1, 2):
            found = await instances.find(database, InstancePath(DEFAULT_KEY, f"{prefix}.{study}"))
            expected = {key: version for key, version in model.items() if key[0] == f"{prefix}.{study}"}
            assert {(one.study_uid, one.series_uid, one.sop_uid): one.version for one in found} == expected
            assert [one.version for one in found] == sorted(expected.values())
        assert await feed.latest_sequence(database) == start + written
        live = [entry for entry in await entries(database, start) if entry.state is feed.State.CURRENT]
        assert {(entry.study_uid, entry.series_uid, entry.sop_uid) for entry in live} == set(model)
        assert await leftovers(database) == {}
        await database.close()

    asyncio.run(run())


async def test_items_of_requests_are_rows_of_the_series(database: Database) -> None:
    first = path()

    async def requests() -> list[tuple[Any, ...]]:
        return await database.fetch(
            "SELECT r.item, r.scheduled_procedure_step_id_key, r.requested_procedure_id_key FROM request_attribute r "
            "JOIN series e ON e.id = r.series_id WHERE e.series_uid = ? ORDER BY r.item",
            first.series_uid,
        )

    def sibling(items: str | None) -> NewInstance:
        where = path(first.study_uid, first.series_uid)
        return instance(where, None, SeriesValues(request_attributes=items))

    await add(database, instance(first, None, SeriesValues(request_attributes='[["Step 1","R1"],[null,"R2"]]')))
    assert await requests() == [(0, "step 1", "r1"), (1, None, "r2")]
    await add(database, sibling(None))
    assert len(await requests()) == 2
    await add(database, sibling('[["Step 3",null]]'))
    assert await requests() == [(0, "step 3", None)]
    await delete(database, first)
    assert len(await requests()) == 1
    await delete(database, up(first, Level.SERIES))
    assert await database.fetch("SELECT 1 FROM request_attribute r LEFT JOIN series e ON e.id = r.series_id "
                                "WHERE e.id IS NULL") == []  # fmt: skip


async def test_groups_of_names_follow_the_name(database: Database) -> None:
    first = path()

    async def groups() -> set[tuple[int, str]]:
        rows = await database.fetch(
            "SELECT n.attribute, n.suffix FROM person_name n JOIN study s ON s.id = n.study_id "
            "WHERE s.study_uid = ? AND n.attribute > 1",
            first.study_uid,
        )
        return {(int(attribute), str(suffix)) for attribute, suffix in rows}

    names = StudyValues(patient_name="Yamada^Tarou=山田^太郎", referring_physician_name="Doe^J")
    await add(database, instance(first, names))
    assert await groups() == {(2, "yamada^tarou"), (3, "山田^太郎"), (5, "doe^j")}
    await add(database, instance(path(first.study_uid), StudyValues(patient_name="=山田")))
    assert await groups() == {(3, "山田"), (5, "doe^j")}
    await delete(database, up(first, Level.STUDY))
    assert await groups() == set()
