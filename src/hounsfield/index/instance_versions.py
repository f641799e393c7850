"""Versions of instances that a bulk update makes (operations.md §2).

An instance keeps its row for life; ``instance.version`` names the version it has now, null while it is as it was
stored. New versions are *drawn* first, all of a study at once, with the keys of the files to be written: from then on
nothing is written that no row knows of. They are *filled* batch by batch, which nobody sees, and one transaction
*switches* the study. That writes a few numbers and one key an instance, whatever these hold; what they hold is written
by then. A version that was replaced stays until its file is removed, for readers that began before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Database, Transaction
from hounsfield.dicom.person_name import group_keys, suffixes
from hounsfield.index import feed, studies
from hounsfield.index.levels import Level
from hounsfield.index.query_tags import QueryTag, TagStatus, all_tags
from hounsfield.index.studies import Given
from hounsfield.index.tag_keys import NAME_VR, Indexed
from hounsfield.index.tag_values import GROUPS, WORDS


@dataclass(frozen=True, slots=True)
class Drawn:
    """The versions that an operation makes of a study: all from ``first`` to ``last`` in instance_version."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Source:
    """A version that is to be made, and what it is made from: the version the instance has now."""

    version: int
    new_key: str
    series_uid: str
    sop_uid: str
    transfer_syntax: str
    file_key: str
    file_size: int
    metadata: bytes
    """Packed DICOM JSON (index.fragments)."""
    frames: bytes | None


@dataclass(frozen=True, slots=True)
class Filled:
    """A version whose file is durable under the key that was drawn."""

    version: int
    file_size: int
    metadata: bytes
    frames: bytes | None


@dataclass(frozen=True, slots=True)
class NewValues:
    """What the index has to show of a study from the switch on."""

    study: Mapping[str, Given]
    """Columns of the study's row; None blanks one."""
    tags: frozenset[str]
    """Paths of the attributes that change, of whatever extended query tags there are then."""
    tag_value: Callable[[QueryTag], Indexed | None]
    """The value of such a tag; None blanks it."""


def content_of(columns: str) -> str:
    """The statement that reads ``columns`` of the content of a version, which it takes twice."""
    return (
        f"SELECT {columns} FROM instance_content WHERE instance_id = ? "
        f"UNION ALL SELECT {columns} FROM instance_version WHERE version = ?"
    )


async def draw(
    tx: Transaction, operation_id: str, partition_key: int, study_uid: str, key_parts: tuple[str, str]
) -> None:
    """Draw a version for every instance of a study; nothing where there is none.

    A file's key is ``key_parts`` around the UIDs of series and instance (storage.layout.study_key_parts).
    """
    row = await tx.fetch_one(
        "SELECT s.id, (SELECT count(*) FROM instance i WHERE i.study_id = s.id) FROM study s "
        "WHERE s.partition_key = ? AND s.study_uid = ?",
        partition_key,
        study_uid,
    )
    if row is None or not row[1]:
        return
    study_id, count = row
    numbers, values = await _numbers(tx, count)
    await tx.execute(
        f"INSERT INTO instance_version (version, instance_id, file_key) SELECT {numbers}, q.id, "
        "? || q.series_uid || '/' || q.sop_uid || ? FROM (SELECT i.id, e.series_uid, i.sop_uid "
        "FROM instance i JOIN series e ON e.id = i.series_id WHERE i.study_id = ? ORDER BY i.id) q",
        *values,
        *key_parts,
        study_id,
    )
    await tx.execute(
        "INSERT INTO study_update (operation_id, study_id, first_version, last_version) "
        "SELECT CAST(? AS TEXT), i.study_id, min(v.version), max(v.version) FROM instance i "
        "JOIN instance_version v ON v.instance_id = i.id WHERE i.study_id = ? AND v.file_size IS NULL "
        "GROUP BY i.study_id",
        operation_id,
        study_id,
    )


async def _numbers(tx: Transaction, count: int) -> tuple[str, tuple[int, ...]]:
    """An expression that gives ascending versions to ordered rows, from the sequence that numbers instances."""
    if tx.dialect == "postgresql":
        return "nextval(pg_get_serial_sequence('instance', 'id'))", ()
    row = await tx.fetch_one(
        "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'instance' RETURNING seq - ?", count, count
    )
    assert row is not None
    return "? + row_number() OVER (ORDER BY q.id)", (int(row[0]),)


async def drawn(database: Database, operation_id: str) -> Drawn | None:
    """The versions that an operation is making; None where it is making none."""
    row = await database.fetch_one(
        "SELECT first_version, last_version FROM study_update WHERE operation_id = ?", operation_id
    )
    return None if row is None else Drawn(*row)


async def alive(database: Database, versions: Drawn) -> int:
    """How many instances with one of these versions are still there."""
    row = await database.fetch_one(
        "SELECT count(*) FROM instance_version v JOIN instance i ON i.id = v.instance_id "
        "WHERE v.version >= ? AND v.version <= ? AND v.file_size IS NOT NULL",
        versions.first,
        versions.last,
    )
    assert row is not None
    return int(row[0])


UNFILLED = (
    "SELECT v.version, v.file_key, e.series_uid, i.sop_uid, i.transfer_syntax, i.file_key, i.file_size, "
    "coalesce(l.metadata, c.metadata), CASE WHEN l.version IS NULL THEN c.frames ELSE l.frames END "
    "FROM (SELECT version, instance_id, file_key FROM instance_version WHERE version > ? AND version <= ? "
    "AND file_size IS NULL AND (SELECT i.id FROM instance i WHERE i.id = instance_id) IS NOT NULL "
    "ORDER BY version LIMIT ?) v "
    "JOIN instance i ON i.id = v.instance_id JOIN series e ON e.id = i.series_id "
    "JOIN instance_content c ON c.instance_id = i.id LEFT JOIN instance_version l ON l.version = i.version "
    "ORDER BY v.version"
)
"""Sources of versions: those after one, up to one, so many. As ``reindexing.PAGE``, nothing joins before the limit."""


async def unfilled(database: Database, drawn: Drawn, after: int, limit: int) -> list[Source]:
    """The next versions to be made after a version, of instances that are still there."""
    return [Source(*row) for row in await database.fetch(UNFILLED, max(after, drawn.first - 1), drawn.last, limit)]


async def fill(tx: Transaction, versions: Sequence[Filled]) -> None:
    """Write what versions hold; those whose instances were deleted meanwhile are passed over."""
    await tx.execute_many(
        "UPDATE instance_version SET file_size = ?, metadata = ?, frames = ? WHERE version = ?",
        [(one.file_size, one.metadata, one.frames, one.version) for one in versions],
    )


async def switch(tx: Transaction, operation_id: str, values: NewValues, now: int, cleanup_after: int) -> int:
    """Have the study of an operation be what was made of it, index and feed included; returns how many instances.

    0: it has been deleted. Replaced versions are queued for cleanup, the files as first stored are kept.
    """
    row = await tx.fetch_one(
        "SELECT study_id, first_version, last_version FROM study_update WHERE operation_id = ?", operation_id
    )
    if row is None:
        return 0
    study_id, first, last = row
    # Against deletes, stores and the re-index of its instances.
    lock = " FOR UPDATE" if tx.dialect == "postgresql" else ""
    study = await tx.fetch_one(f"SELECT partition_key FROM study WHERE id = ?{lock}", study_id)
    await tx.execute("DELETE FROM study_update WHERE operation_id = ?", operation_id)
    if study is None:
        return 0
    which = "v.version >= ? AND v.version <= ? AND v.file_size IS NOT NULL"
    await tx.execute(
        "INSERT INTO deleted_file (file_key, version, deleted, cleanup_after, retry_count) "
        "SELECT i.file_key, i.version, CAST(? AS BIGINT), CAST(? AS BIGINT), 0 FROM instance_version v "
        f"JOIN instance i ON i.id = v.instance_id WHERE {which} AND i.version IS NOT NULL",
        now,
        cleanup_after,
        first,
        last,
    )
    updated = await tx.execute(
        "UPDATE instance SET version = v.version, file_key = v.file_key, file_size = v.file_size, "
        "first_key = coalesce(instance.first_key, instance.file_key), "
        "first_size = coalesce(instance.first_size, instance.file_size) "
        f"FROM instance_version v WHERE {which} AND instance.id = v.instance_id",
        first,
        last,
    )
    if updated:
        await studies.set_study(tx, study[0], study_id, values.study)
        await _set_tags(tx, values, study[0], study_id, first, last)
        await feed.append_updates(tx, study_id, first, last, updated, now)
    return updated


async def discard(tx: Transaction, operation_id: str, now: int) -> None:
    """Have the versions that an operation was making never be: their files go, those not written yet are not missed."""
    row = await tx.fetch_one(
        "SELECT first_version, last_version FROM study_update WHERE operation_id = ?", operation_id
    )
    if row is None:
        return
    await tx.execute(
        "INSERT INTO deleted_file (file_key, version, deleted, cleanup_after, retry_count) "
        "SELECT file_key, version, CAST(? AS BIGINT), CAST(? AS BIGINT), 0 FROM instance_version "
        "WHERE version >= ? AND version <= ?",
        now,
        now,
        *row,
    )
    await tx.execute("DELETE FROM instance_version WHERE version >= ? AND version <= ?", *row)
    await tx.execute("DELETE FROM study_update WHERE operation_id = ?", operation_id)


_OWNERS = {
    Level.STUDY: "SELECT s.id FROM study s WHERE s.id = ?",
    Level.SERIES: (
        "SELECT i.series_id AS id FROM instance_version v JOIN instance i ON i.id = v.instance_id "
        "WHERE v.version >= ? AND v.version <= ? AND i.version = v.version GROUP BY i.series_id"
    ),
    Level.INSTANCE: (
        "SELECT i.id FROM instance_version v JOIN instance i ON i.id = v.instance_id "
        "WHERE v.version >= ? AND v.version <= ? AND i.version = v.version"
    ),
}
"""Whose value of a tag of each level changes."""


async def _set_tags(
    tx: Transaction, values: NewValues, partition_key: int, study_id: int, first: int, last: int
) -> None:
    lock = " FOR NO KEY UPDATE" if tx.dialect == "postgresql" else ""
    for tag in await all_tags(tx):
        if tag.path not in values.tags:
            continue
        held = await tx.fetch_one(
            f"SELECT error_count FROM query_tag WHERE id = ? AND status <> ?{lock}", tag.id, int(TagStatus.DELETING)
        )
        if held is None:
            continue
        scope = (study_id,) if tag.level is Level.STUDY else (first, last)
        await _set_tag(tx, tag, values.tag_value(tag), partition_key, scope)
        if held[0]:
            gone = await tx.execute(
                "DELETE FROM query_tag_error WHERE tag_id = ? AND version IN "
                "(SELECT instance_id FROM instance_version WHERE version >= ? AND version <= ?)",
                tag.id,
                first,
                last,
            )
            await tx.execute("UPDATE query_tag SET error_count = error_count - ? WHERE id = ?", gone, tag.id)


async def _set_tag(
    tx: Transaction, tag: QueryTag, value: Indexed | None, partition_key: int, scope: tuple[int, ...]
) -> None:
    """Replace the values of a tag by one, or by none, whichever instance gave them."""
    owners = _OWNERS[tag.level]
    for table in ("query_tag_name", "query_tag_value"):
        await tx.execute(f"DELETE FROM {table} WHERE tag_id = ? AND object_id IN ({owners})", tag.id, *scope)
    if value is None:
        return
    newest = await tx.fetch_one("SELECT max(id) FROM instance")
    assert newest is not None
    # Only what is stored from now on may replace it.
    await tx.execute(
        "INSERT INTO query_tag_value (tag_id, object_id, version, partition_key, key, value) "
        "SELECT CAST(? AS BIGINT), w.id, CAST(? AS BIGINT), CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS TEXT) "
        f"FROM ({owners}) w",
        tag.id,
        newest[0],
        partition_key,
        value.key,
        value.text,
        *scope,
    )
    if tag.vr != NAME_VR:
        return
    keys = [(WORDS, suffix) for suffix in dict.fromkeys(suffixes(value.text))]
    keys += [(part, key) for part, key in zip(GROUPS, group_keys(value.text), strict=True) if key]
    for part, suffix in keys:
        await tx.execute(
            "INSERT INTO query_tag_name (tag_id, object_id, part, suffix, partition_key) "
            "SELECT CAST(? AS BIGINT), w.id, CAST(? AS SMALLINT), CAST(? AS TEXT), CAST(? AS INTEGER) "
            f"FROM ({owners}) w",
            tag.id,
            part,
            suffix,
            partition_key,
            *scope,
        )
