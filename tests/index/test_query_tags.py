"""Extended query tags in the index: values by level, generations, errors, deletion (extended-query-tags.md)."""

import asyncio
from typing import Any

import pytest

from hounsfield.database.engine import Database, Transaction
from hounsfield.index import instances, new_instances, query_tags, tag_deletion, tag_errors, tag_values
from hounsfield.index.instances import Level
from hounsfield.index.query_tags import KnownTags, NewTag, QueryTag, TagsChanged, TagSet, TagStatus
from hounsfield.index.tag_values import TagError
from tests.index import make, tagging
from tests.index.tagging import element

PATHS = iter(f"{number:08X}" for number in range(0x12051000, 0x12059000))


def tag(vr: str = "LO", level: Level = Level.INSTANCE, creator: str | None = None) -> NewTag:
    """A tag no other test uses."""
    return NewTag(next(PATHS), vr, creator, level)


async def one_tag(database: Database, vr: str = "LO", level: Level = Level.INSTANCE) -> QueryTag:
    (found,) = await tagging.add_tags(database, tag(vr, level))
    return found


async def texts(database: Database, found: QueryTag) -> dict[int, str]:
    rows = await database.fetch("SELECT object_id, value FROM query_tag_value WHERE tag_id = ?", found.id)
    return dict(rows)


async def ids(database: Database, version: int) -> tuple[int, int]:
    """Study and series of an instance."""
    row = await database.fetch_one("SELECT study_id, series_id FROM instance WHERE id = ?", version)
    assert row is not None
    return row[0], row[1]


async def test_the_newest_instance_with_a_value_gives_it_to_study_and_series(database: Database) -> None:
    study, series, own = await tagging.add_tags(
        database, tag(level=Level.STUDY), tag(level=Level.SERIES), tag(level=Level.INSTANCE)
    )
    where = make.path()

    def dataset(value: Any) -> dict[str, Any]:
        return {found.path: element("LO", value) for found in (study, series, own)}

    first = await tagging.store(database, where, dataset("one"))
    second = await tagging.store(database, make.path(where.study_uid, where.series_uid), dataset("two"))
    third = await tagging.store(database, make.path(where.study_uid), dataset(None))
    study_id, series_id = await ids(database, first)
    assert await texts(database, study) == {study_id: "two"}
    assert await texts(database, series) == {series_id: "two"}
    assert await texts(database, own) == {first: "one", second: "two"}
    assert (await ids(database, third))[0] == study_id


async def test_a_request_with_several_instances_of_a_study(database: Database) -> None:
    found = await one_tag(database, level=Level.STUDY)
    tags = await query_tags.indexed_tags(database)
    where = make.path()
    new = [
        tagging.holding(make.path(where.study_uid), {found.path: element("LO", value)}, tags)
        for value in ("a", "c", None, "b", None)
    ]

    async def unit(tx: Transaction) -> list[int | None]:
        return await new_instances.add(tx, new, 1, tags.generation)

    versions = await database.write(unit)
    assert list((await texts(database, found)).values()) == ["b"]
    row = await database.fetch_one("SELECT version FROM query_tag_value WHERE tag_id = ?", found.id)
    assert row == (versions[3],)


async def test_an_older_value_changes_nothing(database: Database) -> None:
    found = await one_tag(database, "PN", Level.STUDY)
    where = make.path()
    old, new = {"Alphabetic": "Old^Name"}, {"Alphabetic": "New^Other"}
    first = await tagging.store(database, where, {})
    await tagging.store(database, make.path(where.study_uid), {found.path: element("PN", new)})
    before = await tagging.values(database, found.id)
    study_id, series_id = await ids(database, first)
    given = tag_values.given(
        [tag_values.TagValue(found, _indexed("PN", old))], study_id, series_id, first, where.partition_key
    )

    async def unit(tx: Transaction) -> None:
        await tag_values.write(tx, given)

    await database.write(unit)
    assert await tagging.values(database, found.id) == before
    assert [row[2:] for row in await tagging.names(database, found.id)] == [
        ("new other", 0),
        ("other", 0),
        ("new^other", 1),
    ]


def _indexed(vr: str, value: Any) -> Any:
    from hounsfield.index.tag_keys import indexed

    return indexed(vr, value)


async def test_a_newer_name_takes_the_words_of_the_older_away(database: Database) -> None:
    found = await one_tag(database, "PN", Level.SERIES)
    where = make.path()
    for name in ("Doe^John", "Roe^Jane=山"):
        groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
        await tagging.store(database, make.path(where.study_uid, where.series_uid), {found.path: element("PN", groups)})
    assert [row[2:] for row in await tagging.names(database, found.id)] == [
        ("jane 山", 0),
        ("roe jane 山", 0),
        ("山", 0),
        ("roe^jane", 1),
        ("山", 2),
    ]


async def test_a_store_that_knew_other_tags_begins_anew(database: Database, other: Database) -> None:
    known = KnownTags()
    assert known.current == TagSet(0)
    tags = await known.read(database)
    found = await one_tag(other)
    assert known.current is tags
    new = make.instance()

    async def unit(tx: Transaction) -> list[int | None]:
        return await new_instances.add(tx, [new], 1, tags.generation)

    with pytest.raises(TagsChanged):
        await database.write(unit)
    assert await instances.find(database, new.path) == []
    assert found in (await known.read(database)).tags
    assert known.current.generation == tags.generation + 1

    await tag_deletion.begin(other, found.path)
    with pytest.raises(TagsChanged):
        await tagging_store_with(database, known.current, new)
    assert found.path not in {each.path for each in (await known.read(database)).tags}
    await tagging_store_with(database, known.current, new)


async def tagging_store_with(database: Database, tags: query_tags.TagSet, new: new_instances.NewInstance) -> None:
    async def unit(tx: Transaction) -> list[int | None]:
        return await new_instances.add(tx, [new], 1, tags.generation)

    await database.write(unit)


async def test_deleting_instances_takes_values_and_errors_along(database: Database) -> None:
    study, series, own = await tagging.add_tags(
        database, tag("PN", Level.STUDY), tag(level=Level.SERIES), tag("PN", Level.INSTANCE)
    )
    where = make.path()
    dataset = {
        study.path: element("PN", {"Alphabetic": "A^B"}),
        series.path: element("LO", "x"),
        own.path: element("PN", {"Alphabetic": "C^D"}),
    }
    paths = [where, make.path(where.study_uid, where.series_uid), make.path(where.study_uid)]
    versions = [await tagging.store(database, path, dataset) for path in paths]

    async def note(tx: Transaction) -> None:
        await tag_values.write_errors(tx, [TagError(series, version, "bad") for version in versions], 7)
        await tag_values.write_errors(tx, [TagError(series, versions[0], "again")], 8)

    await database.write(note)
    (noted,) = await query_tags.with_ids(database, [series.id])
    assert (noted.error_count, noted.enabled) == (3, False)
    assert [error.message for error in await tag_errors.page(database, series.id, 10, 0)] == ["bad"] * 3

    assert await make.delete(database, paths[0]) == 1
    assert len(await texts(database, study)) == 1
    assert len(await texts(database, series)) == 2
    assert set(await texts(database, own)) == set(versions[1:])
    assert (await query_tags.with_ids(database, [series.id]))[0].error_count == 2
    assert await make.delete(database, paths[1]) == 1
    assert len(await texts(database, study)) == 1
    assert len(await texts(database, series)) == 1
    assert await make.delete(database, instances.InstancePath(where.partition_key, where.study_uid)) == 1
    for found in (study, series, own):
        assert await tagging.values(database, found.id) == []
    assert (await query_tags.with_ids(database, [series.id]))[0].error_count == 0
    assert await tagging.left(database) == {}
    assert await make.leftovers(database) == {}


async def test_a_tag_goes_in_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_deletion, "BATCH", 2)
    gone, stays = await tagging.add_tags(database, tag("PN", Level.INSTANCE), tag("PN", Level.INSTANCE))
    versions = [
        await tagging.store(
            database, make.path(), {each.path: element("PN", {"Alphabetic": "A^B C"}) for each in (gone, stays)}
        )
        for _ in range(5)
    ]

    async def note(tx: Transaction) -> None:
        await tag_values.write_errors(tx, [TagError(gone, version, "bad") for version in versions], 7)

    await database.write(note)
    before = await tagging.values(database, stays.id)
    assert await tag_deletion.begin(database, gone.path) == gone.id
    assert gone.id in await tag_deletion.begun(database)
    found = await query_tags.find(database, gone.path)
    assert found is not None
    assert found.status is TagStatus.DELETING
    await asyncio.gather(*(tag_deletion.finish(database, gone.id) for _ in range(3)))
    assert await query_tags.find(database, gone.path) is None
    assert await tagging.values(database, gone.id) == []
    assert await tagging.values(database, stays.id) == before
    assert await tagging.left(database) == {}
    assert await tag_deletion.begin(database, gone.path) is None


async def test_no_number_is_given_twice(database: Database) -> None:
    first = await one_tag(database)
    await tag_deletion.begin(database, first.path)
    await tag_deletion.finish(database, first.id)
    (again,) = await tagging.add_tags(database, NewTag(first.path, "LO", None, Level.STUDY))
    assert again.id > first.id


async def test_private_values_are_found_by_their_creator(database: Database) -> None:
    (found,) = await tagging.add_tags(database, tag(creator="ACME"))
    group, offset = found.path[:4], found.path[6:]

    def dataset(*creators: str, block: str) -> dict[str, Any]:
        reserved = {f"{group}{16 + number:04X}": element("LO", creator) for number, creator in enumerate(creators)}
        return reserved | {f"{group}{block}{offset}": element("LO", "value")}

    versions = [
        await tagging.store(database, make.path(), content)
        for content in (
            dataset("ACME", block="10"),
            dataset("OTHER", "ACME", block="11"),
            {f"{group}0013": element("LO", "ACME"), f"{group}13{offset}": element("LO", "value")},
            dataset("OTHER", block="10"),
            dataset("OTHER", "ACME", block="10"),
            dataset(block="10"),
        )
    ]
    assert set(await texts(database, found)) == set(versions[:3])
