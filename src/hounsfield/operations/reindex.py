"""Adding extended query tags, and the re-index that gives them the values of what is stored already
(extended-query-tags.md §§3, 4).

Tags and operation begin in one transaction, which also takes down the newest version there is: what is stored later is
indexed by its store. The operation goes through the versions up to that one, newest first, in parts that several
workers share. Every batch may be done twice, or cross a store, a delete or the removal of a tag.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from hounsfield.archive.tag_values import Element, checked_tag_values
from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.errors import BadRequest, Conflict
from hounsfield.index import query_tags, reindexing, tag_deletion
from hounsfield.index.fragments import unpack
from hounsfield.index.query_tags import NewTag, QueryTag, TagStatus
from hounsfield.index.reindexing import Batch
from hounsfield.operations import engine, records
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.operations.job import Job, Operation, Part, Plan, Status, Step

KIND = "reindex"
BATCH = 80
"""Instances in one transaction: some milliseconds."""
PART_VERSIONS = 50_000
"""Versions in a part; at 1,000,000 instances there is work for twenty workers."""
PAUSE_SECONDS = 0.01
"""Between two batches of a part, so that stores need not wait behind one another."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class TagExists(Conflict):
    """A path has been added before."""


class _Abandoned(Exception):
    """Tags whose re-index failed or was cancelled are in the way."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__()
        self.paths = paths


async def add_tags(database: Database, tags: Sequence[NewTag], maximum: int) -> str:
    """Add ``tags`` and start their re-index; returns the operation's id. All or nothing.

    Raises AlreadyRunning, BadRequest where there would be more than ``maximum``, and TagExists.
    """

    async def unit(tx: Transaction) -> str:
        # From here to the commit no store can commit: each sees these tags, or is seen by the re-index.
        await query_tags.next_generation(tx)
        await refuse_beside(tx)
        known = await query_tags.all_tags(tx)
        _check(tags, known, maximum)
        newest = await query_tags.newest_version(tx)
        ids = await query_tags.add(tx, tags)
        operation_id = await engine.start(tx, KIND, {"tags": ids, "newest": newest}, alone=True)
        await query_tags.set_operation(tx, ids, operation_id)
        return operation_id

    while True:
        try:
            return await database.write(unit)
        except _Abandoned as found:
            for path in found.paths:
                await delete_tag(database, path)


async def refuse_beside(reader: Database | Transaction) -> None:
    """Raise AlreadyRunning while a re-index is under way."""
    running = await records.active(reader, KIND)
    if running is not None:
        raise AlreadyRunning(KIND, running)


def _check(tags: Sequence[NewTag], known: Sequence[QueryTag], maximum: int) -> None:
    by_path = {tag.path: tag for tag in known}
    met = [by_path[tag.path] for tag in tags if tag.path in by_path]
    abandoned = [tag.path for tag in met if tag.status is TagStatus.ADDING and tag.operation_id is None]
    if len(known) + len(tags) - len(abandoned) > maximum:
        raise BadRequest(
            f"No more than {maximum} extended query tags are allowed, and there are {len(known)}. Delete tags that are "
            "not needed, or raise DicomServer:Services:ExtendedQueryTag:MaxAllowedCount."
        )
    if len(met) > len(abandoned):
        paths = ", ".join(tag.path for tag in met if tag.path not in abandoned)
        raise TagExists(f"One or more extended query tags have been added before: {paths}.")
    if abandoned:
        raise _Abandoned(abandoned)


async def delete_tag(database: Database, path: str) -> bool:
    """Remove a tag with all its values and errors; whether there was one. May be repeated after a crash."""
    tag_id = await tag_deletion.begin(database, path)
    if tag_id is None:
        return False
    await tag_deletion.finish(database, tag_id)
    return True


async def tags_of(database: Database, operation: Operation) -> list[QueryTag]:
    """The tags a re-index was started for, as far as they still exist."""
    return await query_tags.with_ids(database, operation.arguments["tags"])


def reindex_job(database: Database) -> Job:
    """The job that fills the values of added tags."""
    return Job(KIND, partial(_step, database), split=_split, finish=_finish)


async def _split(operation: Operation) -> Sequence[Plan]:
    newest = operation.arguments["newest"]
    highs = range(newest, 0, -PART_VERSIONS)
    return [Plan(min(PART_VERSIONS, high), {"high": high, "low": max(high - PART_VERSIONS, 0) + 1}) for high in highs]


async def _step(database: Database, operation: Operation, part: Part) -> Step:
    low = part.arguments["low"]
    above = part.arguments["high"] + 1 if part.cursor is None else int(part.cursor)
    tags = [tag for tag in await tags_of(database, operation) if tag.status is TagStatus.ADDING]
    if not tags:
        return Step(cursor=None, is_last=True)
    if part.cursor is not None:
        await asyncio.sleep(PAUSE_SECONDS)
    rows = await reindexing.page(database, low, above, BATCH)
    batch = await asyncio.to_thread(_batch, rows, tags)

    async def unit(tx: Transaction) -> None:
        await reindexing.write(tx, batch, engine.timestamp())

    is_last = len(rows) < BATCH
    cursor = low if is_last else rows[-1][0]
    return Step(str(cursor), above - cursor, is_last, unit if batch.values or batch.errors else None)


async def _finish(tx: Transaction, operation: Operation, status: Status) -> str | None:
    await query_tags.end_operation(tx, operation.id, ready=status is Status.SUCCEEDED)
    return None


def _batch(rows: Sequence[Row], tags: Sequence[QueryTag]) -> Batch:
    batch = Batch(tags)
    read = _reader(tags)
    for version, study_id, series_id, partition_key, live, metadata in rows:
        values, errors = checked_tag_values(read(unpack([metadata])), tags, version)
        batch.add(values, errors, study_id, series_id, version, partition_key, live)
    return batch


def _reader(tags: Sequence[QueryTag]) -> Callable[[bytes], dict[str, Element]]:
    """What gives the elements of a dataset in DICOM JSON that the tags can be about, and passes over the rest."""
    if any(tag.private_creator is not None for tag in tags):
        return partial(_groups, tuple({tag.path[:4] for tag in tags}))
    fields = {f"t{tag.path}": tag.path for tag in tags}
    kinds = [(name, dict[str, Any] | msgspec.UnsetType, msgspec.UNSET) for name in fields]
    decode = msgspec.json.Decoder(msgspec.defstruct("Wanted", kinds, rename=fields)).decode

    def read(json: bytes) -> dict[str, Element]:
        found = decode(json)
        return {path: element for name, path in fields.items() if (element := getattr(found, name))}

    return read


def _groups(groups: tuple[str, ...], json: bytes) -> dict[str, Element]:
    # Which elements are a private tag's, the creators in its group say.
    return {key: msgspec.json.decode(value) for key, value in _decode(json).items() if key.startswith(groups)}
