"""More that can be searched: columns and indexes, filled from the metadata of what is stored."""

import json
import re
import unicodedata
import zlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BATCH = 500
"""Instances read at a time."""
MAX_TEXT, MAX_ITEMS = 64, 100

STUDY = ("study_time_key", "study_id_text_key", "patient_sex_key")
SERIES = ("performed_procedure_step_start_time_key", "series_number", "series_description_key")
REQUEST = ("scheduled_procedure_step_id_key", "requested_procedure_id_key")
INDEXES = [
    *(("study", ["partition_key", column, "id"]) for column in STUDY),
    ("study", ["partition_key", "id"]),
    *(("series", ["partition_key", column, "id"]) for column in SERIES),
    ("series", ["partition_key", "id"]),
    ("series", ["partition_key", "modality_key", "study_id"]),
    ("instance", ["partition_key", "id"]),
    ("instance", ["partition_key", "sop_class_uid", "id"]),
    ("instance", ["partition_key", "instance_number", "id"]),
    ("person_name", ["partition_key", "attribute", "suffix", "study_id"]),
]


def upgrade() -> None:
    for table, columns in (
        ("study", (("study_time", sa.Text()), ("study_time_key", sa.BigInteger()), ("study_id_text", sa.Text()))),
        ("study", (("study_id_text_key", KEY), ("patient_sex", sa.Text()), ("patient_sex_key", KEY))),
        ("series", (("performed_procedure_step_start_time", sa.Text()),)),
        ("series", (("performed_procedure_step_start_time_key", sa.BigInteger()), ("series_number", sa.BigInteger()))),
        ("series", (("series_description", sa.Text()), ("series_description_key", KEY))),
        ("series", (("request_attributes", sa.Text()),)),
        ("instance", (("sop_class_uid", KEY), ("instance_number", sa.BigInteger()))),
    ):
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.create_table(
        "request_attribute",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition_key", sa.Integer(), nullable=False),
        sa.Column("scheduled_procedure_step_id_key", KEY, nullable=True),
        sa.Column("requested_procedure_id_key", KEY, nullable=True),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_request_attribute_series_id")),
        sa.PrimaryKeyConstraint("series_id", "item", name=op.f("pk_request_attribute")),
        sqlite_with_rowid=False,
    )
    op.drop_index(op.f("ix_person_name_partition_key_attribute_suffix"), "person_name")
    # Filled before they are indexed: each index is then built in one go.
    connection = op.get_bind()
    _fill_names(connection)
    _fill_from_metadata(connection)
    for column in REQUEST:
        op.create_index(
            f"ix_request_attribute_{column}", "request_attribute", ["partition_key", column, "series_id"], unique=False
        )
    for table, names in INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(names)}"), table, names, unique=False)


def _pages(connection: sa.Connection, select: str) -> Iterator[list[Any]]:
    """The rows of a statement that takes ``:after``, the first column of the row before, and is ordered by it."""
    after = 0
    while rows := connection.execute(sa.text(f"{select} LIMIT {BATCH}"), {"after": after}).fetchall():
        yield list(rows)
        after = rows[-1][0]


def _fill_names(connection: sa.Connection) -> None:
    """Groups of the names beside their word sequences: 2 to 4 of the patient's, 5 to 7 of the referring physician's."""
    select = "SELECT id, partition_key, patient_name, referring_physician_name FROM study WHERE id > :after ORDER BY id"
    for page in _pages(connection, select):
        rows = [
            {"study": study, "number": first + group, "key": key, "partition": partition}
            for study, partition, *names in page
            for first, name in zip((2, 5), names, strict=True)
            for group, key in enumerate(_groups(name or ""))
            if key
        ]
        _execute(
            connection,
            "INSERT INTO person_name (study_id, attribute, suffix, partition_key) "
            "VALUES (:study, :number, :key, :partition)",
            rows,
        )


def _fill_from_metadata(connection: sa.Connection) -> None:
    """The new columns: oldest instance first, so that the newest value stays, as if it had been stored now."""
    select = (
        "SELECT i.id, i.study_id, i.series_id, c.metadata FROM instance i "
        "JOIN instance_content c ON c.instance_id = i.id WHERE i.id > :after ORDER BY i.id"
    )
    for page in _pages(connection, select):
        instances: list[dict[str, Any]] = []
        studies: dict[int, dict[str, Any]] = {}
        series: dict[int, dict[str, Any]] = {}
        for instance_id, study_id, series_id, metadata in page:
            dataset = json.loads(_unpacked(metadata))
            class_uid = _text(dataset, "00080016")
            instances.append(
                {
                    "id": instance_id,
                    "class": None if class_uid is None else class_uid.rstrip(" "),
                    "number": _integer(dataset, "00200013"),
                }
            )
            for known, key, values in ((studies, study_id, _study(dataset)), (series, series_id, _series(dataset))):
                given = {name: value for name, value in values.items() if value is not None}
                known.setdefault(key, dict.fromkeys(values)).update(given)
        _execute(
            connection,
            "UPDATE instance SET sop_class_uid = :class, instance_number = :number WHERE id = :id",
            instances,
        )
        for table, found in (("study", studies), ("series", series)):
            columns = next(iter(found.values()))
            changes = ", ".join(f"{column} = coalesce(:{column}, {column})" for column in columns)
            rows = [{"id": key, **values} for key, values in found.items()]
            _execute(connection, f"UPDATE {table} SET {changes} WHERE id = :id", rows)
    _fill_requests(connection)


def _fill_requests(connection: sa.Connection) -> None:
    select = (
        "SELECT id, partition_key, request_attributes FROM series "
        "WHERE id > :after AND request_attributes IS NOT NULL ORDER BY id"
    )
    for page in _pages(connection, select):
        rows = [
            {"series": series, "item": number, "partition": partition, "step": _key(step), "procedure": _key(procedure)}
            for series, partition, pairs in page
            for number, (step, procedure) in enumerate(json.loads(pairs))
        ]
        _execute(
            connection,
            "INSERT INTO request_attribute (series_id, item, partition_key, scheduled_procedure_step_id_key, "
            "requested_procedure_id_key) VALUES (:series, :item, :partition, :step, :procedure)",
            rows,
        )


def _execute(connection: sa.Connection, sql: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.text(sql), rows)


# --- values, as the store of this release indexes them; what later ones change is not changed here ---


def _unpacked(fragment: bytes) -> bytes:
    """The JSON of a fragment: deflate data ended by a sync flush, then checksum and length, which old ones lack."""
    data = bytes(fragment)
    return zlib.decompressobj(-15).decompress(data if data.endswith(b"\0\0\xff\xff") else data[:-8])


def _study(dataset: dict[str, Any]) -> dict[str, Any]:
    time, study_id, sex = _time(dataset, "00080030"), _short(dataset, "00200010"), _short(dataset, "00100040")
    return {
        "study_time": time,
        "study_time_key": None if time is None else _microseconds(time),
        "study_id_text": study_id,
        "study_id_text_key": _key(study_id),
        "patient_sex": sex,
        "patient_sex_key": _key(sex),
    }


def _series(dataset: dict[str, Any]) -> dict[str, Any]:
    time, description = _time(dataset, "00400245"), _short(dataset, "0008103E")
    items = dataset.get("00400275", {}).get("Value") or []
    pairs = [(_short(item, "00400009"), _short(item, "00401001")) for item in items[:MAX_ITEMS]]
    pairs = [pair for pair in pairs if any(pair)]
    return {
        "performed_procedure_step_start_time": time,
        "performed_procedure_step_start_time_key": None if time is None else _microseconds(time),
        "series_number": _integer(dataset, "00200011"),
        "series_description": description,
        "series_description_key": _key(description),
        "request_attributes": json.dumps(pairs, ensure_ascii=False, separators=(",", ":")) if pairs else None,
    }


def _key(value: str | None) -> str | None:
    if value is None:
        return None
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", value.rstrip(" ")).casefold())


def _groups(name: str) -> list[str]:
    letters = (char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    folded = unicodedata.normalize("NFC", "".join(letters).casefold())
    groups = [[component.strip(" ") for component in group.split("^")] for group in folded.split("=")[:3]]
    return ["^".join(components).rstrip("^") for components in groups]


_CLOCK = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")


def _microseconds(time: str) -> int | None:
    match = _CLOCK.fullmatch(time.rstrip(" "))
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + int((match[4] or "").ljust(6, "0"))


def _first(dataset: dict[str, Any], tag: str) -> Any:
    values = dataset.get(tag, {}).get("Value")
    return values[0] if values else None


def _text(dataset: dict[str, Any], tag: str) -> str | None:
    value = _first(dataset, tag)
    return value.replace("\0", "") if isinstance(value, str) and value.strip(" \0") else None


def _short(dataset: dict[str, Any], tag: str) -> str | None:
    value = _text(dataset, tag)
    return value if value is not None and len(value) <= MAX_TEXT else None


def _time(dataset: dict[str, Any], tag: str) -> str | None:
    value = _text(dataset, tag)
    return None if value is None or _microseconds(value) is None else value.strip()


def _integer(dataset: dict[str, Any], tag: str) -> int | None:
    value = _first(dataset, tag)
    return value if isinstance(value, int) and abs(value) < 10**12 else None
