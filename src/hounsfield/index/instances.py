"""Instances in the index: what names one, finding and deleting them. Those that are added: new_instances."""

from dataclasses import dataclass
from typing import NamedTuple

from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.index import feed, tag_values
from hounsfield.index.levels import Level as Level


@dataclass(frozen=True, slots=True)
class InstancePath:
    """A study, series or instance in a partition. UIDs are normalised (dicom.uid.normalise)."""

    partition_key: int
    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None

    @property
    def level(self) -> Level:
        """The lowest level that is named."""
        if self.sop_uid is not None:
            return Level.INSTANCE
        return Level.STUDY if self.series_uid is None else Level.SERIES

    @property
    def study_key(self) -> tuple[int, str]:
        """What tells the study from all others."""
        return self.partition_key, self.study_uid

    @property
    def series_key(self) -> tuple[int, str, str | None]:
        """What tells the series from all others."""
        return self.partition_key, self.study_uid, self.series_uid


@dataclass(frozen=True, slots=True)
class Received:
    """What an instance was when it came, where another file was made of it."""

    transfer_syntax: str
    file_size: int
    file_key: str | None
    """Of the file as it came; None where it was not kept."""


class StoredInstance(NamedTuple):
    """Where an instance is and what it is made of."""

    version: int
    """The version that was asked for: the id of the row, or a later one that a bulk update made."""
    study_uid: str
    series_uid: str
    sop_uid: str
    transfer_syntax: str
    file_key: str
    file_size: int
    received: Received | None = None
    """None also where the reader had no use for it, and of an updated instance: that file says what it said before."""


_IDENTIFIED = "s.study_uid, e.series_uid, i.sop_uid, i.transfer_syntax"
LIVE = f"i.version IS NULL, coalesce(i.version, i.id), {_IDENTIFIED}, i.file_key, i.file_size"
"""Whether an instance is as it was stored, and what makes a StoredInstance of it."""
_ORIGINAL = (
    f"i.version IS NULL, i.id, {_IDENTIFIED}, coalesce(i.first_key, i.file_key), coalesce(i.first_size, i.file_size)"
)
_FROM = " FROM study s JOIN series e ON e.study_id = s.id JOIN instance i ON i.series_id = e.id"
_OF_STUDY = " WHERE s.partition_key = ? AND s.study_uid = ?"
_OF_SERIES = f"{_OF_STUDY} AND e.series_uid = ?"
_WHERE = {Level.STUDY: _OF_STUDY, Level.SERIES: _OF_SERIES, Level.INSTANCE: f"{_OF_SERIES} AND i.sop_uid = ?"}
_FROM_STUDY = " FROM study s JOIN instance i ON i.study_id = s.id JOIN series e ON e.id = i.series_id"
"""The same rows, for all of a study: they come in the order of ``i.id``."""
_FIND = {
    (original, level): f"SELECT {_ORIGINAL if original else LIVE}, i.received_syntax, i.received_size, i.original_key"
    f"{_FROM_STUDY if level is Level.STUDY else _FROM}{where} ORDER BY i.id"
    for original in (False, True)
    for level, where in _WHERE.items()
}
"""Made once: many clients ask for one instance after the other."""


def _where(path: InstancePath) -> tuple[str, list[Value]]:
    return _WHERE[path.level], _named(path)


def _named(path: InstancePath) -> list[Value]:
    """The values of the place holders of _WHERE."""
    values = (path.partition_key, path.study_uid, path.series_uid, path.sop_uid)
    return [value for value in values if value is not None]


async def find(database: Database, path: InstancePath, *, original: bool = False) -> list[StoredInstance]:
    """The visible instances under ``path``, oldest first; empty where there is none. ``original``: as first stored."""
    level = path.level
    rows = await database.fetch(_FIND[original, level], *_named(path), quick=level is Level.INSTANCE)
    return [
        StoredInstance._make((*row[1:8], None if row[8] is None or not (original or row[0]) else Received(*row[8:])))
        for row in rows
    ]


async def page(database: Database, path: InstancePath, after: tuple[str, str], limit: int) -> list[StoredInstance]:
    """Visible instances under ``path`` in the order of their series and SOP Instance UIDs, those behind ``after`` only.

    In this order an instance that gets a new version meanwhile keeps its place.
    """
    where, values = _where(path)
    rows = await database.fetch(
        f"SELECT {LIVE}{_FROM}{where} AND e.series_uid >= ? AND (e.series_uid > ? OR i.sop_uid > ?) "
        "ORDER BY e.series_uid, i.sop_uid LIMIT ?",
        *values,
        after[0],
        *after,
        limit,
    )
    return [StoredInstance._make((*row[1:8], None)) for row in rows]


async def exists(database: Database, path: InstancePath) -> bool:
    """Whether an instance is visible under ``path``."""
    where, values = _where(path)
    return bool(await database.fetch(f"SELECT 1{_FROM}{where} LIMIT 1", *values, quick=True))


async def file_keys_of(
    tx: Transaction, partition: str, study_uid: str, series_uid: str, sop_uid: str
) -> tuple[str, ...]:
    """The files of the visible instance with these identifiers: its own, the one it was first stored as, the one as
    received where it was kept, and those of versions that are being made or were replaced.

    Empty where there is no such instance.
    """
    of = (
        "FROM data_partition p JOIN study s ON s.partition_key = p.key "
        "JOIN series e ON e.study_id = s.id JOIN instance i ON i.series_id = e.id "
    )
    which = "WHERE p.name = ? AND s.study_uid = ? AND e.series_uid = ? AND i.sop_uid = ?"
    values = partition, study_uid, series_uid, sop_uid
    row = await tx.fetch_one(f"SELECT i.file_key, i.original_key, i.first_key {of}{which}", *values)
    if row is None:
        return ()
    more = await tx.fetch(f"SELECT v.file_key {of}JOIN instance_version v ON v.instance_id = i.id {which}", *values)
    return tuple(dict.fromkeys(key for key in (*row, *(found[0] for found in more)) if key is not None))


async def delete(tx: Transaction, path: InstancePath, now: int, cleanup_after: int) -> int:
    """Remove everything under ``path`` from sight and queue its files for cleanup; returns how many instances went."""
    lock = " FOR UPDATE" if tx.dialect == "postgresql" else ""
    study = await tx.fetch_one(
        f"SELECT id FROM study WHERE partition_key = ? AND study_uid = ?{lock}", path.partition_key, path.study_uid
    )
    if study is None:
        return 0
    where, values = _where(path)
    rows = await tx.fetch(
        "SELECT i.id, e.series_uid, i.sop_uid, i.file_key, e.id, i.original_key, i.first_key, "
        f"coalesce(i.version, i.id){_FROM}{where} ORDER BY i.id",
        *values,
    )
    if not rows:
        return 0
    others = await tx.fetch(
        f"SELECT v.file_key, v.version{_FROM} JOIN instance_version v ON v.instance_id = i.id{where} "
        "AND v.file_key <> i.file_key",
        *values,
    )
    keys = [(key, row[0]) for row in rows for key in (row[3], row[5], row[6]) if key is not None]
    await tx.execute_many(
        "INSERT INTO deleted_file (file_key, version, deleted, cleanup_after, retry_count) VALUES (?, ?, ?, ?, 0)",
        [(key, version, now, cleanup_after) for key, version in (*keys, *others)],
    )
    versions = [(row[0],) for row in rows]
    await tx.execute_many("DELETE FROM instance_version WHERE instance_id = ?", versions)
    touched = sorted({row[4] for row in rows})
    await tx.execute_many("DELETE FROM instance_content WHERE instance_id = ?", versions)
    await tx.execute_many("DELETE FROM instance WHERE id = ?", versions)
    series_ids = [(series_id,) for series_id in touched]
    await tx.execute_many(
        "DELETE FROM request_attribute WHERE series_id = ? "
        "AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.series_id = request_attribute.series_id)",
        series_ids,
    )
    await tx.execute_many(
        "DELETE FROM series WHERE id = ? AND NOT EXISTS (SELECT 1 FROM instance WHERE series_id = series.id)",
        series_ids,
    )
    left = {row[0] for row in await tx.fetch("SELECT id FROM series WHERE study_id = ?", study[0])}
    if not left:
        await tx.execute("DELETE FROM person_name WHERE study_id = ?", study[0])
        await tx.execute("DELETE FROM study WHERE id = ?", study[0])
    gone = [series_id for series_id in touched if series_id not in left]
    await tag_values.remove(tx, [row[0] for row in rows], gone, None if left else study[0])
    await feed.append(
        tx,
        feed.Action.DELETE,
        [feed.NewEntry(path.partition_key, path.study_uid, row[1], row[2], row[7]) for row in rows],
        now,
    )
    return len(rows)
