"""Instances for the index, and the few calls every test needs."""

import time

import msgspec

from hounsfield.database.engine import Database, Transaction
from hounsfield.index import feed, instances, new_instances
from hounsfield.index.fragments import pack
from hounsfield.index.instances import InstancePath
from hounsfield.index.new_instances import NewInstance
from hounsfield.index.partitions import DEFAULT_KEY
from hounsfield.index.studies import SeriesValues, StudyValues
from tests.factories import uid

FAR = 2**62
"""A time no test reaches."""


def path(study: str | None = None, series: str | None = None, sop: str | None = None) -> InstancePath:
    """A path with new UIDs where none are given."""
    return InstancePath(DEFAULT_KEY, study or uid(), series or uid(), sop or uid())


def instance(
    where: InstancePath | None = None,
    study: StudyValues | None = None,
    series: SeriesValues | None = None,
    *,
    size: int = 1000,
    frames: bytes | None = None,
) -> NewInstance:
    """An instance; its metadata hold its UIDs."""
    where = where or path()
    content = {"00080018": {"vr": "UI", "Value": [where.sop_uid]}, "0020000D": {"vr": "UI", "Value": [where.study_uid]}}
    return NewInstance(
        path=where,
        transfer_syntax="1.2.840.10008.1.2.1",
        file_key=f"{where.study_uid}/{where.series_uid}/{where.sop_uid}_{uid().rpartition('.')[2]}.dcm",
        file_size=size,
        study=study or StudyValues(),
        series=series or SeriesValues(),
        metadata=pack(msgspec.json.encode(content)),
        frames=frames,
    )


async def add(database: Database, *new: NewInstance, now: int | None = None) -> list[int | None]:
    """:func:`hounsfield.index.new_instances.add` in a transaction of its own."""
    moment = time.time_ns() // 1000 if now is None else now

    async def unit(tx: Transaction) -> list[int | None]:
        return await new_instances.add(tx, new, moment)

    return await database.write(unit)


async def delete(database: Database, where: InstancePath, now: int | None = None) -> int:
    """:func:`hounsfield.index.instances.delete` in a transaction of its own."""
    moment = time.time_ns() // 1000 if now is None else now

    async def unit(tx: Transaction) -> int:
        return await instances.delete(tx, where, moment, FAR)

    return await database.write(unit)


async def entries(database: Database, after: int) -> list[feed.Entry]:
    """All feed entries after a sequence."""
    return await feed.after(database, after, FAR, include_metadata=True)


async def leftovers(database: Database) -> dict[str, int]:
    """How many rows hang in the air: none should, ever."""
    conditions = {
        "series without instances": "series WHERE NOT EXISTS (SELECT 1 FROM instance i WHERE i.series_id = series.id)",
        "studies without series": "study WHERE NOT EXISTS (SELECT 1 FROM series e WHERE e.study_id = study.id)",
        "instances of another study": "instance i JOIN series e ON e.id = i.series_id WHERE e.study_id <> i.study_id",
        "instances without content": (
            "instance WHERE NOT EXISTS (SELECT 1 FROM instance_content c WHERE c.instance_id = instance.id)"
        ),
        "content without instance": (
            "instance_content c WHERE NOT EXISTS (SELECT 1 FROM instance i WHERE i.id = c.instance_id)"
        ),
        "names without study": "person_name n WHERE NOT EXISTS (SELECT 1 FROM study s WHERE s.id = n.study_id)",
        "instances without a live create": (
            "instance i WHERE (SELECT count(*) FROM feed f WHERE f.version = i.id AND f.action = 0) <> 1"
        ),
        "files both alive and to be deleted": (
            "instance i WHERE EXISTS (SELECT 1 FROM deleted_file d WHERE d.file_key = i.file_key)"
        ),
    }
    found = {}
    for name, condition in conditions.items():
        row = await database.fetch_one(f"SELECT count(*) FROM {condition}")
        assert row is not None
        if row[0]:
            found[name] = int(row[0])
    return found
