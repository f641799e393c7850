"""Values of extended query tags in the index: written by stores and the re-index, in any order and any number of times.

A study or series has the value that the newest of its instances with one gave it, an instance its own. The version of
that instance stands with the value, and only a later one replaces it: so storing in order and re-indexing afterwards,
or both at once, end alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Transaction
from hounsfield.dicom.person_name import group_keys, suffixes
from hounsfield.index.levels import Level
from hounsfield.index.query_tags import QueryTag, TagStatus
from hounsfield.index.tag_keys import NAME_VR, Indexed

WORDS, GROUPS = 0, (1, 2, 3)
"""Numbers in query_tag_name of word sequences, and of the three groups of a name."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """The value an instance gives a tag."""

    tag: QueryTag
    value: Indexed


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A value with what it is for: the id of the study, series or instance, and the version of who gave it."""

    tag: QueryTag
    object_id: int
    version: int
    partition_key: int
    value: Indexed


@dataclass(frozen=True, slots=True)
class TagError:
    """An instance whose value a tag cannot have; ``message`` does not quote it."""

    tag: QueryTag
    version: int
    message: str


_INSERT_VALUE = "INSERT INTO query_tag_value (tag_id, object_id, version, partition_key, key, value)"
_IF_NEWER = (
    "ON CONFLICT (object_id, tag_id) DO UPDATE SET version = excluded.version, key = excluded.key, "
    "value = excluded.value WHERE query_tag_value.version < excluded.version"
)
_UPSERT = f"{_INSERT_VALUE} VALUES (?, ?, ?, ?, ?, ?) {_IF_NEWER}"
# A third of the work of as many statements with a row each.
_UPSERT_ARRAYS = (
    f"{_INSERT_VALUE} SELECT * FROM unnest(CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[]), "
    f"CAST(? AS integer[]), CAST(? AS text[]), CAST(? AS text[])) {_IF_NEWER}"
)
_INSERT_NAME = "INSERT INTO query_tag_name (tag_id, object_id, part, suffix, partition_key) VALUES (?, ?, ?, ?, ?)"
_DELETE_NAMES = "DELETE FROM query_tag_name WHERE tag_id = ? AND object_id = ?"
_DELETE_VALUE = "DELETE FROM query_tag_value WHERE tag_id = ? AND object_id = ?"


def given(
    values: Sequence[TagValue], study_id: int, series_id: int, version: int, partition_key: int
) -> list[GivenValue]:
    """The values of one instance with what each is for."""
    objects = {Level.STUDY: study_id, Level.SERIES: series_id, Level.INSTANCE: version}
    return [GivenValue(value.tag, objects[value.tag.level], version, partition_key, value.value) for value in values]


async def write(tx: Transaction, values: Sequence[GivenValue]) -> None:
    """Have each study, series or instance keep the newest of its values and these.

    Their studies must be held against deletion until the transaction ends.
    """
    newest: dict[tuple[int, int], GivenValue] = {}
    for value in values:
        key = value.tag.id, value.object_id
        if key not in newest or newest[key].version < value.version:
            newest[key] = value
    # Everybody takes rows in this order.
    ordered = [newest[key] for key in sorted(newest)]
    names = [value for value in ordered if value.tag.vr == NAME_VR]
    await _upsert(tx, [_row(value) for value in ordered if value.tag.vr != NAME_VR])
    for value in names:
        if await tx.execute(_UPSERT, *_row(value)):
            await tx.execute(_DELETE_NAMES, value.tag.id, value.object_id)
            rows = [
                (value.tag.id, value.object_id, part, key, value.partition_key)
                for part, key in _name_keys(value.value.text)
            ]
            await tx.execute_many(_INSERT_NAME, rows)


async def _upsert(tx: Transaction, rows: Sequence[tuple[int, int, int, int, str, str]]) -> None:
    if tx.dialect == "postgresql" and rows:
        await tx.execute(_UPSERT_ARRAYS, *map(list, zip(*rows, strict=True)))
    else:
        await tx.execute_many(_UPSERT, rows)


def _name_keys(name: str) -> list[tuple[int, str]]:
    """Number and key of what a name can be found by in part."""
    words = [(WORDS, suffix) for suffix in dict.fromkeys(suffixes(name))]
    return words + [(part, key) for part, key in zip(GROUPS, group_keys(name), strict=True) if key]


def _row(value: GivenValue) -> tuple[int, int, int, int, str, str]:
    return value.tag.id, value.object_id, value.version, value.partition_key, value.value.key, value.value.text


async def write_errors(tx: Transaction, errors: Sequence[TagError], now: int) -> None:
    """Note what could not be indexed, once for each instance and tag, and disable the tags.

    The instances' studies must be held against deletion, and the tags' rows be locked, until the transaction ends.
    """
    added: dict[int, int] = {}
    for error in errors:
        changed = await tx.execute(
            "INSERT INTO query_tag_error (tag_id, version, created, message) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (tag_id, version) DO NOTHING",
            error.tag.id,
            error.version,
            now,
            error.message,
        )
        if changed:
            added[error.tag.id] = added.get(error.tag.id, 0) + 1
    for tag_id in sorted(added):
        await tx.execute(
            "UPDATE query_tag SET enabled = 0, error_count = error_count + ? WHERE id = ?", added[tag_id], tag_id
        )


async def remove(tx: Transaction, versions: Sequence[int], series_ids: Sequence[int], study_id: int | None) -> None:
    """Remove values and errors of deleted instances, and the values of series and of the study that went with them.

    The study must be locked until the transaction ends.
    """
    tags = await tx.fetch("SELECT id, level, vr, error_count FROM query_tag ORDER BY id")
    if not tags:
        return
    gone = {Level.INSTANCE: versions, Level.SERIES: series_ids, Level.STUDY: [] if study_id is None else [study_id]}
    for tag_id, level, vr, _ in tags:
        rows = [(tag_id, object_id) for object_id in gone[Level(level)]]
        if not rows:
            continue
        await tx.execute_many(_DELETE_VALUE, rows)
        if vr == NAME_VR:
            await tx.execute_many(_DELETE_NAMES, rows)
    for tag_id, _, _, error_count in tags:
        if not error_count:
            continue
        removed = 0
        for version in versions:
            removed += await tx.execute("DELETE FROM query_tag_error WHERE tag_id = ? AND version = ?", tag_id, version)
        if removed:
            await tx.execute("UPDATE query_tag SET error_count = error_count - ? WHERE id = ?", removed, tag_id)


async def lock_adding(tx: Transaction, tags: Sequence[QueryTag], failing: frozenset[int]) -> frozenset[int]:
    """Those of ``tags`` that are still being added, kept so until the transaction ends; those ``failing`` as well
    against others that count their errors.
    """
    found: set[int] = set()
    for tag in sorted(tags, key=lambda tag: tag.id):
        lock = ""
        if tx.dialect == "postgresql":
            lock = " FOR NO KEY UPDATE" if tag.id in failing else " FOR SHARE"
        row = await tx.fetch_one(
            f"SELECT id FROM query_tag WHERE id = ? AND status = ?{lock}", tag.id, int(TagStatus.ADDING)
        )
        if row is not None:
            found.add(tag.id)
    return frozenset(found)
