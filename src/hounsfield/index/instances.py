"""Instances in the index: adding, finding, deleting. Each change writes its feed entries in the same transaction.

Study and series rows hold the searchable attributes, the latest instance's non-empty values winning (store.md §6).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple

from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.dicom.dates import parse_time
from hounsfield.dicom.person_name import group_keys, match_key, suffixes, text_key
from hounsfield.index import feed, tag_values
from hounsfield.index.levels import Level as Level
from hounsfield.index.query_tags import TagsChanged
from hounsfield.index.tag_values import GivenValue, TagValue


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
class StudyValues:
    """Searchable attributes of a study as one instance gives them; None where it has no (valid) value.

    Dates are ``YYYYMMDD``, times as written; the order is that of the columns.
    """

    patient_id: str | None = None
    patient_name: str | None = None
    patient_birth_date: str | None = None
    accession_number: str | None = None
    referring_physician_name: str | None = None
    study_date: str | None = None
    study_description: str | None = None
    study_time: str | None = None
    study_id_text: str | None = None
    patient_sex: str | None = None


@dataclass(frozen=True, slots=True)
class SeriesValues:
    """Searchable attributes of a series as one instance gives them."""

    modality: str | None = None
    performed_procedure_step_start_date: str | None = None
    manufacturer_model_name: str | None = None
    performed_procedure_step_start_time: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    request_attributes: str | None = None
    """ScheduledProcedureStepID and RequestedProcedureID of each item of RequestAttributesSequence that has any:
    a JSON array of arrays of two."""


@dataclass(frozen=True, slots=True)
class NewInstance:
    """Everything the index keeps of one instance; its file is already durable under ``file_key``."""

    path: InstancePath
    transfer_syntax: str
    file_key: str
    file_size: int
    study: StudyValues
    series: SeriesValues
    metadata: bytes
    """Packed DICOM JSON (index.metadata.pack)."""
    frames: bytes | None
    """dicom.frames.FrameIndex.to_bytes, None where there are no frames."""
    received: "Received | None" = None
    sop_class_uid: str | None = None
    instance_number: int | None = None
    tags: tuple[TagValue, ...] = ()
    """Values of extended query tags."""


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


PERSON_NAMES = {"patient_name": 0, "referring_physician_name": 1}
"""Numbers under which table person_name has the word sequences of the name attributes."""
NAME_GROUPS = {"patient_name": (2, 3, 4), "referring_physician_name": (5, 6, 7)}
"""Numbers under which it has their groups: alphabetic, ideographic, phonetic."""

Given = str | int | None
_KEYS: dict[str, Callable[[Any], Value]] = {
    **dict.fromkeys(PERSON_NAMES, match_key),
    **dict.fromkeys(("study_time", "performed_procedure_step_start_time"), parse_time),
    **dict.fromkeys(
        (
            "patient_id",
            "accession_number",
            "study_description",
            "study_id_text",
            "patient_sex",
            "modality",
            "manufacturer_model_name",
            "series_description",
        ),
        text_key,
    ),
}
"""Columns beside which the key stands by which they are searched, and how it is made."""

_STUDY_COLUMNS = tuple(field.name for field in fields(StudyValues))
_SERIES_COLUMNS = tuple(field.name for field in fields(SeriesValues))
_study_values: Callable[[StudyValues], tuple[Given, ...]] = attrgetter(*_STUDY_COLUMNS)
_series_values: Callable[[SeriesValues], tuple[Given, ...]] = attrgetter(*_SERIES_COLUMNS)


def _stored_columns(columns: Sequence[str]) -> list[str]:
    """The columns with their key columns, in the order :func:`_with_keys` gives the values."""
    stored = []
    for column in columns:
        stored.append(column)
        if column in _KEYS:
            stored.append(column + "_key")
    return stored


def _with_keys(columns: Sequence[str], values: Sequence[Given]) -> list[Value]:
    stored: list[Value] = []
    for column, value in zip(columns, values, strict=True):
        stored.append(value)
        if column in _KEYS:
            stored.append(None if value is None else _KEYS[column](value))
    return stored


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_STUDY_STORED = _stored_columns(_STUDY_COLUMNS)
_SERIES_STORED = _stored_columns(_SERIES_COLUMNS)
_SELECT_STUDY = f"SELECT id, {', '.join(_STUDY_COLUMNS)} FROM study WHERE partition_key = ? AND study_uid = ?"
_INSERT_STUDY = (
    f"INSERT INTO study (partition_key, study_uid, created, {', '.join(_STUDY_STORED)}) "
    f"VALUES ({_marks(3 + len(_STUDY_STORED))}) ON CONFLICT (partition_key, study_uid) DO NOTHING RETURNING id"
)
_UPDATE_STUDY = f"UPDATE study SET {', '.join(f'{column} = ?' for column in _STUDY_STORED)} WHERE id = ?"
_SELECT_SERIES = f"SELECT id, {', '.join(_SERIES_COLUMNS)} FROM series WHERE study_id = ? AND series_uid = ?"
_SELECT_BOTH = (
    f"SELECT s.id, {', '.join(f's.{column}' for column in _STUDY_COLUMNS)}, "
    f"e.id, {', '.join(f'e.{column}' for column in _SERIES_COLUMNS)} "
    "FROM study s JOIN series e ON e.study_id = s.id WHERE s.partition_key = ? AND s.study_uid = ? AND e.series_uid = ?"
)
_INSERT_SERIES = (
    f"INSERT INTO series (partition_key, study_id, series_uid, created, {', '.join(_SERIES_STORED)}) "
    f"VALUES ({_marks(4 + len(_SERIES_STORED))}) ON CONFLICT (study_id, series_uid) DO NOTHING RETURNING id"
)
_UPDATE_SERIES = f"UPDATE series SET {', '.join(f'{column} = ?' for column in _SERIES_STORED)} WHERE id = ?"
_INSERT_INSTANCE = (
    "INSERT INTO instance (partition_key, study_id, series_id, sop_uid, transfer_syntax, file_key, file_size, created, "
    "received_syntax, received_size, original_key, sop_class_uid, instance_number) "
    f"VALUES ({_marks(13)}) "
    "ON CONFLICT (series_id, sop_uid) DO NOTHING RETURNING id"
)
_INSERT_CONTENT = "INSERT INTO instance_content (instance_id, metadata, frames) VALUES (?, ?, ?)"
_INSERT_NAME = (
    "INSERT INTO person_name (study_id, attribute, suffix, partition_key) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (study_id, attribute, suffix) DO NOTHING"
)
_INSERT_REQUEST = (
    "INSERT INTO request_attribute (series_id, item, partition_key, scheduled_procedure_step_id_key, "
    "requested_procedure_id_key) VALUES (?, ?, ?, ?, ?)"
)
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


def _share(tx: Transaction) -> str:
    # Held against a delete of the row until the instance below it is in; SQLite has one writer anyway.
    return " FOR KEY SHARE" if tx.dialect == "postgresql" else ""


@dataclass(slots=True)
class _Held:
    """A study or series row a transaction adds instances below, kept from being deleted until it ends."""

    id: int
    known: tuple[Given, ...]
    """The row's attributes, in the order of the columns."""
    given: tuple[Given, ...] = ()
    """What the instances added so far say instead; empty as long as there is none."""

    def give(self, values: tuple[Given, ...]) -> None:
        """Take an added instance's values; missing ones change nothing (store.md §6)."""
        self.given = _over(self.given, values) if self.given else values


def _over(base: tuple[Given, ...], values: tuple[Given, ...]) -> tuple[Given, ...]:
    return tuple(old if new is None else new for new, old in zip(values, base, strict=True))


async def add(tx: Transaction, instances: Sequence[NewInstance], now: int, tag_generation: int = 0) -> list[int | None]:
    """Make ``instances`` visible, in order, and write their feed entries.

    Returns for each its version, or None where the partition already holds that study, series and SOP Instance UID.
    ``tag_generation`` is that of the tags their values were taken for. Raises TagsChanged if there are others now.
    """
    studies: dict[tuple[int, str], _Held] = {}
    series: dict[tuple[int, str, str | None], _Held] = {}
    # Everybody takes rows in this order: two requests about the same studies would else wait for each other.
    ordered = sorted(instances, key=_row_order) if len(instances) > 1 else instances
    if len(ordered) == 1 and tx.dialect == "sqlite":
        await _hold_both(tx, ordered[0], studies, series)
    for new in ordered:
        if new.path.study_key not in studies:
            studies[new.path.study_key] = await _hold_study(tx, new, now)
    for new in ordered:
        if new.path.series_key not in series:
            series[new.path.series_key] = await _hold_series(tx, new, studies[new.path.study_key].id, now)
    versions: list[int | None] = []
    entries: list[feed.NewEntry] = []
    given: list[GivenValue] = []
    for new in instances:
        path = new.path
        study, one_series = studies[path.study_key], series[path.series_key]
        version = await _insert(tx, new, study.id, one_series.id, now)
        versions.append(version)
        if version is not None:
            study.give(_study_values(new.study))
            one_series.give(_series_values(new.series))
            assert path.series_uid is not None and path.sop_uid is not None
            entries.append(feed.NewEntry(path.partition_key, path.study_uid, path.series_uid, path.sop_uid, version))
            if new.tags:
                given += tag_values.given(new.tags, study.id, one_series.id, version, path.partition_key)
    for (partition_key, _), study in studies.items():
        await _update_study(tx, partition_key, study)
    for (partition_key, _, _), one_series in series.items():
        await _update_series(tx, partition_key, one_series)
    if given:
        await tag_values.write(tx, given)
    generation = await feed.append(tx, feed.Action.CREATE, entries, now)
    if generation is not None and generation != tag_generation:
        raise TagsChanged
    return versions


def _row_order(new: NewInstance) -> tuple[int, str, str]:
    partition_key, study_uid, series_uid = new.path.series_key
    return partition_key, study_uid, series_uid or ""


async def _insert(tx: Transaction, new: NewInstance, study_id: int, series_id: int, now: int) -> int | None:
    received = new.received
    row = await tx.fetch_one(
        _INSERT_INSTANCE,
        new.path.partition_key,
        study_id,
        series_id,
        new.path.sop_uid,
        new.transfer_syntax,
        new.file_key,
        new.file_size,
        now,
        None if received is None else received.transfer_syntax,
        None if received is None else received.file_size,
        None if received is None else received.file_key,
        new.sop_class_uid,
        new.instance_number,
    )
    if row is None:
        return None
    version = int(row[0])
    await tx.execute(_INSERT_CONTENT, version, new.metadata, new.frames)
    return version


async def _hold_both(
    tx: Transaction,
    new: NewInstance,
    studies: dict[tuple[int, str], _Held],
    series: dict[tuple[int, str, str | None], _Held],
) -> None:
    """Study and series of an instance with one statement, if both are there, as they are for most."""
    path = new.path
    row = await tx.fetch_one(_SELECT_BOTH, path.partition_key, path.study_uid, path.series_uid)
    if row is not None:
        second = 1 + len(_STUDY_COLUMNS)
        studies[path.study_key] = _Held(int(row[0]), tuple(row[1:second]))
        series[path.series_key] = _Held(int(row[second]), tuple(row[second + 1 :]))


async def _hold_study(tx: Transaction, new: NewInstance, now: int) -> _Held:
    path, given = new.path, _study_values(new.study)
    while True:
        row = await tx.fetch_one(_SELECT_STUDY + _share(tx), path.partition_key, path.study_uid)
        if row is not None:
            return _Held(int(row[0]), tuple(row[1:]))
        created = await tx.fetch_one(
            _INSERT_STUDY, path.partition_key, path.study_uid, now, *_with_keys(_STUDY_COLUMNS, given)
        )
        if created is not None:
            await _names(tx, path.partition_key, int(created[0]), (None,) * len(given), given)
            return _Held(int(created[0]), given)
        # Another transaction made the study meanwhile; it is committed by now, or the insert would still wait.


async def _hold_series(tx: Transaction, new: NewInstance, study_id: int, now: int) -> _Held:
    path, given = new.path, _series_values(new.series)
    while True:
        row = await tx.fetch_one(_SELECT_SERIES + _share(tx), study_id, path.series_uid)
        if row is not None:
            return _Held(int(row[0]), tuple(row[1:]))
        created = await tx.fetch_one(
            _INSERT_SERIES, path.partition_key, study_id, path.series_uid, now, *_with_keys(_SERIES_COLUMNS, given)
        )
        if created is not None:
            await _requests(tx, path.partition_key, int(created[0]), None, given)
            return _Held(int(created[0]), given)


async def _update_study(tx: Transaction, partition_key: int, study: _Held) -> None:
    if not study.given or _over(study.known, study.given) == study.known:
        return
    known = await _current(tx, "study", _STUDY_COLUMNS, study)
    merged = _over(known, study.given)
    await tx.execute(_UPDATE_STUDY, *_with_keys(_STUDY_COLUMNS, merged), study.id)
    await _names(tx, partition_key, study.id, known, merged)


async def _update_series(tx: Transaction, partition_key: int, series: _Held) -> None:
    if not series.given or _over(series.known, series.given) == series.known:
        return
    known = await _current(tx, "series", _SERIES_COLUMNS, series)
    merged = _over(known, series.given)
    await tx.execute(_UPDATE_SERIES, *_with_keys(_SERIES_COLUMNS, merged), series.id)
    await _requests(tx, partition_key, series.id, known, merged)


async def _current(tx: Transaction, table: str, columns: Sequence[str], held: _Held) -> tuple[Given, ...]:
    """The attributes of a row about to be updated, locked; another process may have changed them since."""
    if tx.dialect == "sqlite":
        return held.known
    row = await tx.fetch_one(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ? FOR NO KEY UPDATE", held.id)
    assert row is not None
    return tuple(row)


async def _names(
    tx: Transaction, partition_key: int, study_id: int, known: Sequence[Given], merged: Sequence[Given]
) -> None:
    for column, old, new in zip(_STUDY_COLUMNS, known, merged, strict=True):
        if column not in PERSON_NAMES or new == old:
            continue
        words, groups = PERSON_NAMES[column], NAME_GROUPS[column]
        if old is not None:
            numbers = (words, *groups)
            await tx.execute(
                f"DELETE FROM person_name WHERE study_id = ? AND attribute IN ({_marks(len(numbers))})",
                study_id,
                *numbers,
            )
        if new is None:
            continue
        rows = [(words, suffix) for suffix in suffixes(str(new))]
        rows += [(group, key) for group, key in zip(groups, group_keys(str(new)), strict=True) if key]
        await tx.execute_many(_INSERT_NAME, [(study_id, number, key, partition_key) for number, key in rows])


async def set_study(tx: Transaction, partition_key: int, study_id: int, values: Mapping[str, Given]) -> None:
    """Have a study, which is locked, show ``values`` by column: None blanks one."""
    row = await tx.fetch_one(f"SELECT {', '.join(_STUDY_COLUMNS)} FROM study WHERE id = ?", study_id)
    assert row is not None
    known = tuple(row)
    new = tuple(values.get(column, old) for column, old in zip(_STUDY_COLUMNS, known, strict=True))
    if new != known:
        await tx.execute(_UPDATE_STUDY, *_with_keys(_STUDY_COLUMNS, new), study_id)
        await _names(tx, partition_key, study_id, known, new)


_REQUESTS = _SERIES_COLUMNS.index("request_attributes")


async def _requests(
    tx: Transaction, partition_key: int, series_id: int, known: Sequence[Given] | None, merged: Sequence[Given]
) -> None:
    """Keep the items of RequestAttributesSequence as rows: those of one item must match together (PS3.4 §C.2.2.2.6)."""
    old, new = None if known is None else known[_REQUESTS], merged[_REQUESTS]
    if new == old or new is None:
        return
    if old is not None:
        await tx.execute("DELETE FROM request_attribute WHERE series_id = ?", series_id)
    rows: list[tuple[Value, ...]] = []
    for number, item in enumerate(json.loads(str(new))):
        rows.append((series_id, number, partition_key, *(None if text is None else text_key(text) for text in item)))
    await tx.execute_many(_INSERT_REQUEST, rows)


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
