"""Instances that are added to the index, with their feed entries, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Transaction, Value
from hounsfield.index import feed, studies, tag_values
from hounsfield.index.instances import InstancePath, Received
from hounsfield.index.query_tags import TagsChanged
from hounsfield.index.studies import HeldRow, SeriesValues, StudyValues
from hounsfield.index.tag_values import GivenValue, TagValue


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
    received: Received | None = None
    sop_class_uid: str | None = None
    instance_number: int | None = None
    tags: tuple[TagValue, ...] = ()
    """Values of extended query tags."""


ROW_COLUMNS = (
    "sop_uid",
    "transfer_syntax",
    "file_key",
    "file_size",
    "created",
    "received_syntax",
    "received_size",
    "original_key",
    "sop_class_uid",
    "instance_number",
)
"""Columns of table instance, but for those that say where it belongs."""


def row(new: NewInstance, now: int) -> tuple[Value, ...]:
    """What an instance has in ``ROW_COLUMNS``."""
    received = new.received
    return (
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


_INSERT_INSTANCE = (
    f"INSERT INTO instance (partition_key, study_id, series_id, {', '.join(ROW_COLUMNS)}) "
    f"VALUES ({', '.join('?' * (3 + len(ROW_COLUMNS)))}) "
    "ON CONFLICT (series_id, sop_uid) DO NOTHING RETURNING id"
)
_INSERT_CONTENT = "INSERT INTO instance_content (instance_id, metadata, frames) VALUES (?, ?, ?)"


async def add(tx: Transaction, instances: Sequence[NewInstance], now: int, tag_generation: int = 0) -> list[int | None]:
    """Make ``instances`` visible, in order, and write their feed entries.

    Returns for each its version, or None where the partition already holds that study, series and SOP Instance UID.
    ``tag_generation`` is that of the tags their values were taken for. Raises TagsChanged if there are others now.
    """
    study_rows: dict[tuple[int, str], HeldRow] = {}
    series_rows: dict[tuple[int, str, str | None], HeldRow] = {}
    # Everybody takes rows in this order: two requests about the same studies would else wait for each other.
    ordered = sorted(instances, key=_row_order) if len(instances) > 1 else instances
    for new in ordered:
        if new.path.study_key not in study_rows:
            study_rows[new.path.study_key] = await studies.hold_study(tx, new.path, new.study, now)
    for new in ordered:
        if new.path.series_key not in series_rows:
            study = study_rows[new.path.study_key]
            series_rows[new.path.series_key] = await studies.hold_series(tx, new.path, study.id, new.series, now)
    versions: list[int | None] = []
    entries: list[feed.NewEntry] = []
    given: list[GivenValue] = []
    for new in instances:
        path = new.path
        study, series = study_rows[path.study_key], series_rows[path.series_key]
        version = await _insert(tx, new, study.id, series.id, now)
        versions.append(version)
        if version is not None:
            study.give(new.study)
            series.give(new.series)
            assert path.series_uid is not None and path.sop_uid is not None
            entries.append(feed.NewEntry(path.partition_key, path.study_uid, path.series_uid, path.sop_uid, version))
            if new.tags:
                given += tag_values.given(new.tags, study.id, series.id, version, path.partition_key)
    for (partition_key, _), study in study_rows.items():
        await studies.update_study(tx, partition_key, study)
    for (partition_key, _, _), series in series_rows.items():
        await studies.update_series(tx, partition_key, series)
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
    inserted = await tx.fetch_one(_INSERT_INSTANCE, new.path.partition_key, study_id, series_id, *row(new, now))
    if inserted is None:
        return None
    version = int(inserted[0])
    await tx.execute(_INSERT_CONTENT, version, new.metadata, new.frames)
    return version
