"""Metadata: validators and streams (retrieve.md §7)."""

import msgspec

from hounsfield.database.engine import Database
from hounsfield.index import metadata
from hounsfield.index.instances import InstancePath
from hounsfield.index.partitions import DEFAULT_KEY
from tests.index.make import add, delete, instance, path


async def read(database: Database, where: InstancePath) -> list[str]:
    """SOP Instance UIDs in the order of the stream."""
    text = b"[" + b",".join([part async for part in metadata.stream(database, where)]) + b"]"
    return [content["00080018"]["Value"][0] for content in msgspec.json.decode(text)]


async def test_levels_and_validators(database: Database) -> None:
    first = path()
    second, third = path(first.study_uid, first.series_uid), path(first.study_uid)
    versions = await add(database, *map(instance, [first, second, third]))
    study = InstancePath(DEFAULT_KEY, first.study_uid)
    series = InstancePath(DEFAULT_KEY, first.study_uid, first.series_uid)
    assert await read(database, study) == [first.sop_uid, second.sop_uid, third.sop_uid]
    assert await read(database, series) == [first.sop_uid, second.sop_uid]
    assert await read(database, second) == [second.sop_uid]
    assert await metadata.validator(database, study) == f"{versions[2]}-3"
    assert await metadata.validator(database, series) == f"{versions[1]}-2"
    assert await metadata.validator(database, second) == f"{versions[1]}"
    await delete(database, second)
    assert await metadata.validator(database, study) == f"{versions[2]}-2"
    assert await metadata.validator(database, second) is None


async def test_nothing_there(database: Database) -> None:
    where = path()
    for one in (
        where,
        InstancePath(DEFAULT_KEY, where.study_uid),
        InstancePath(DEFAULT_KEY, where.study_uid, where.series_uid),
    ):
        assert await metadata.validator(database, one) is None
        assert await read(database, one) == []


async def test_more_than_a_page(database: Database) -> None:
    first = path()
    for count in (metadata.PAGE, 1, metadata.PAGE - 1, 1):
        await add(database, *(instance(path(first.study_uid, first.series_uid)) for _ in range(count)))
        rows = await database.fetch(
            "SELECT i.sop_uid FROM instance i JOIN study s ON s.id = i.study_id WHERE s.study_uid = ? ORDER BY i.id",
            first.study_uid,
        )
        for where in (
            InstancePath(DEFAULT_KEY, first.study_uid),
            InstancePath(DEFAULT_KEY, first.study_uid, first.series_uid),
        ):
            assert await read(database, where) == [row[0] for row in rows]
