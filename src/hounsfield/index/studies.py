"""Study and series rows: the searchable attributes of what lies below them.

The latest instance's non-empty values win (store.md §6).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from hounsfield.database.engine import Transaction, Value
from hounsfield.dicom.dates import parse_time
from hounsfield.dicom.person_name import group_keys, match_key, suffixes, text_key
from hounsfield.index.instances import InstancePath


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

STUDY_COLUMNS = tuple(field.name for field in fields(StudyValues))
SERIES_COLUMNS = tuple(field.name for field in fields(SeriesValues))
"""Of the attributes, in the order of the values."""
study_row: Callable[[StudyValues], tuple[Given, ...]] = attrgetter(*STUDY_COLUMNS)
series_row: Callable[[SeriesValues], tuple[Given, ...]] = attrgetter(*SERIES_COLUMNS)
"""Their values, in the order of the columns."""


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


_STUDY_STORED = _stored_columns(STUDY_COLUMNS)
_SERIES_STORED = _stored_columns(SERIES_COLUMNS)
_SELECT_STUDY = f"SELECT id, {', '.join(STUDY_COLUMNS)} FROM study WHERE partition_key = ? AND study_uid = ?"
_INSERT_STUDY = (
    f"INSERT INTO study (partition_key, study_uid, created, {', '.join(_STUDY_STORED)}) "
    f"VALUES ({_marks(3 + len(_STUDY_STORED))}) ON CONFLICT (partition_key, study_uid) DO NOTHING RETURNING id"
)
_UPDATE_STUDY = f"UPDATE study SET {', '.join(f'{column} = ?' for column in _STUDY_STORED)} WHERE id = ?"
_SELECT_SERIES = f"SELECT id, {', '.join(SERIES_COLUMNS)} FROM series WHERE study_id = ? AND series_uid = ?"
_INSERT_SERIES = (
    f"INSERT INTO series (partition_key, study_id, series_uid, created, {', '.join(_SERIES_STORED)}) "
    f"VALUES ({_marks(4 + len(_SERIES_STORED))}) ON CONFLICT (study_id, series_uid) DO NOTHING RETURNING id"
)
_UPDATE_SERIES = f"UPDATE series SET {', '.join(f'{column} = ?' for column in _SERIES_STORED)} WHERE id = ?"
_INSERT_NAME = (
    "INSERT INTO person_name (study_id, attribute, suffix, partition_key) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (study_id, attribute, suffix) DO NOTHING"
)
_INSERT_REQUEST = (
    "INSERT INTO request_attribute (series_id, item, partition_key, scheduled_procedure_step_id_key, "
    "requested_procedure_id_key) VALUES (?, ?, ?, ?, ?)"
)


def _share(tx: Transaction) -> str:
    # Held against a delete of the row until the instance below it is in; SQLite has one writer anyway.
    return " FOR KEY SHARE" if tx.dialect == "postgresql" else ""


@dataclass(slots=True)
class HeldRow:
    """A study or series row a transaction adds instances below, kept from being deleted until it ends."""

    id: int
    known: tuple[Given, ...]
    """The row's attributes, in the order of the columns."""
    given: tuple[Given, ...] = ()
    """What the instances added so far say instead; empty as long as there is none."""

    def give(self, values: StudyValues | SeriesValues) -> None:
        """Take an added instance's values; missing ones change nothing (store.md §6)."""
        given = study_row(values) if isinstance(values, StudyValues) else series_row(values)
        self.given = _over(self.given, given) if self.given else given


def _over(base: tuple[Given, ...], values: tuple[Given, ...]) -> tuple[Given, ...]:
    return tuple(old if new is None else new for new, old in zip(values, base, strict=True))


async def hold_study(tx: Transaction, path: InstancePath, values: StudyValues, now: int) -> HeldRow:
    """The study of ``path``, made with ``values`` if there is none."""
    given = study_row(values)
    while True:
        row = await tx.fetch_one(_SELECT_STUDY + _share(tx), path.partition_key, path.study_uid)
        if row is not None:
            return HeldRow(int(row[0]), tuple(row[1:]))
        created = await tx.fetch_one(
            _INSERT_STUDY, path.partition_key, path.study_uid, now, *_with_keys(STUDY_COLUMNS, given)
        )
        if created is not None:
            await _names(tx, path.partition_key, int(created[0]), (None,) * len(given), given)
            return HeldRow(int(created[0]), given)
        # Another transaction made the study meanwhile; it is committed by now, or the insert would still wait.


async def hold_series(tx: Transaction, path: InstancePath, study_id: int, values: SeriesValues, now: int) -> HeldRow:
    """The series of ``path``, made with ``values`` if there is none."""
    given = series_row(values)
    while True:
        row = await tx.fetch_one(_SELECT_SERIES + _share(tx), study_id, path.series_uid)
        if row is not None:
            return HeldRow(int(row[0]), tuple(row[1:]))
        created = await tx.fetch_one(
            _INSERT_SERIES, path.partition_key, study_id, path.series_uid, now, *_with_keys(SERIES_COLUMNS, given)
        )
        if created is not None:
            await _requests(tx, path.partition_key, int(created[0]), None, given)
            return HeldRow(int(created[0]), given)


async def update_study(tx: Transaction, partition_key: int, study: HeldRow) -> None:
    """Have a study show what it was given."""
    if not study.given or _over(study.known, study.given) == study.known:
        return
    known = await _current(tx, "study", STUDY_COLUMNS, study)
    merged = _over(known, study.given)
    await tx.execute(_UPDATE_STUDY, *_with_keys(STUDY_COLUMNS, merged), study.id)
    await _names(tx, partition_key, study.id, known, merged)


async def update_series(tx: Transaction, partition_key: int, series: HeldRow) -> None:
    """Have a series show what it was given."""
    if not series.given or _over(series.known, series.given) == series.known:
        return
    known = await _current(tx, "series", SERIES_COLUMNS, series)
    merged = _over(known, series.given)
    await tx.execute(_UPDATE_SERIES, *_with_keys(SERIES_COLUMNS, merged), series.id)
    await _requests(tx, partition_key, series.id, known, merged)


async def _current(tx: Transaction, table: str, columns: Sequence[str], held: HeldRow) -> tuple[Given, ...]:
    """The attributes of a row about to be updated, locked; another process may have changed them since."""
    if tx.dialect == "sqlite":
        return held.known
    row = await tx.fetch_one(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ? FOR NO KEY UPDATE", held.id)
    assert row is not None
    return tuple(row)


async def _names(
    tx: Transaction, partition_key: int, study_id: int, known: Sequence[Given], merged: Sequence[Given]
) -> None:
    for column, old, new in zip(STUDY_COLUMNS, known, merged, strict=True):
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
    row = await tx.fetch_one(f"SELECT {', '.join(STUDY_COLUMNS)} FROM study WHERE id = ?", study_id)
    assert row is not None
    known = tuple(row)
    new = tuple(values.get(column, old) for column, old in zip(STUDY_COLUMNS, known, strict=True))
    if new != known:
        await tx.execute(_UPDATE_STUDY, *_with_keys(STUDY_COLUMNS, new), study_id)
        await _names(tx, partition_key, study_id, known, new)


_REQUESTS = SERIES_COLUMNS.index("request_attributes")


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
