"""Extended query tags for tests of the index: tags, instances with values, and what of it is in the tables."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from hounsfield.archive.tag_values import tag_values
from hounsfield.database.engine import Database, Transaction
from hounsfield.index import query_tags
from hounsfield.index.fragments import pack
from hounsfield.index.instances import InstancePath, Level
from hounsfield.index.new_instances import NewInstance
from hounsfield.index.query_tags import NewTag, QueryTag
from tests.index import make

AGE, DATE, NAME, TEXT = "00101010", "00400244", "00400006", "00180015"
PERFORMER = NewTag(NAME, "PN", None, Level.STUDY)

Rows = list[tuple[Any, ...]]


async def add_tags(database: Database, *tags: NewTag) -> list[QueryTag]:
    """Tags that nothing re-indexes."""

    async def unit(tx: Transaction) -> list[int]:
        await query_tags.next_generation(tx)
        return await query_tags.add(tx, tags)

    return await query_tags.with_ids(database, await database.write(unit))


def element(vr: str, value: Any) -> dict[str, Any]:
    """An element in DICOM JSON."""
    return {"vr": vr} if value is None else {"vr": vr, "Value": [value]}


def holding(where: InstancePath, dataset: Mapping[str, Any], tags: query_tags.TagSet) -> NewInstance:
    """An instance with that metadata, as a store makes it that knows ``tags``."""
    return replace(
        make.instance(where),
        metadata=pack(msgspec.json.encode(dataset)),
        tags=tag_values(dict(dataset), tags.tags),
    )


async def store(database: Database, where: InstancePath, dataset: Mapping[str, Any]) -> int:
    """Store an instance with the tags there are; returns its version."""
    tags = await query_tags.indexed_tags(database)

    async def unit(tx: Transaction) -> list[int | None]:
        from hounsfield.index import new_instances

        return await new_instances.add(tx, [holding(where, dataset, tags)], 1, tags.generation)

    (version,) = await database.write(unit)
    assert version is not None
    return version


async def values(database: Database, *tag_ids: int) -> Rows:
    """Everything in the index for these tags."""
    marks = ", ".join("?" * len(tag_ids))
    rows = await database.fetch(
        f"SELECT tag_id, object_id, version, partition_key, key, value FROM query_tag_value WHERE tag_id IN ({marks}) "
        "ORDER BY tag_id, object_id",
        *tag_ids,
    )
    return [*rows, *await names(database, *tag_ids)]


async def names(database: Database, *tag_ids: int) -> Rows:
    """Word sequences (part 0) and groups of names."""
    marks = ", ".join("?" * len(tag_ids))
    return await database.fetch(
        f"SELECT tag_id, object_id, suffix, part FROM query_tag_name WHERE tag_id IN ({marks}) "
        "ORDER BY tag_id, object_id, part, suffix",
        *tag_ids,
    )


async def left(database: Database) -> dict[str, int]:
    """Rows of values and errors that belong to nothing."""
    of = {1: "study", 2: "series", 3: "instance"}
    found = {}
    for level, table in of.items():
        for values_table in ("query_tag_value", "query_tag_name"):
            row = await database.fetch_one(
                f"SELECT count(*) FROM {values_table} v JOIN query_tag t ON t.id = v.tag_id WHERE t.level = ? "
                f"AND NOT EXISTS (SELECT 1 FROM {table} o WHERE o.id = v.object_id)",
                level,
            )
            assert row is not None
            found[f"{values_table} of no {table}"] = row[0]
    for name, condition in {
        "values of no tag": "query_tag_value v WHERE NOT EXISTS (SELECT 1 FROM query_tag t WHERE t.id = v.tag_id)",
        "names of no tag": "query_tag_name v WHERE NOT EXISTS (SELECT 1 FROM query_tag t WHERE t.id = v.tag_id)",
        "errors of no tag": "query_tag_error v WHERE NOT EXISTS (SELECT 1 FROM query_tag t WHERE t.id = v.tag_id)",
        "errors of no instance": (
            "query_tag_error v WHERE NOT EXISTS (SELECT 1 FROM instance i WHERE i.id = v.version)"
        ),
        "wrong counts": (
            "query_tag t WHERE error_count <> (SELECT count(*) FROM query_tag_error x WHERE x.tag_id = t.id)"
        ),
    }.items():
        row = await database.fetch_one(f"SELECT count(*) FROM {condition}")
        assert row is not None
        found[name] = row[0]
    return {name: count for name, count in found.items() if count}
