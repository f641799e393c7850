"""Metadata of studies, series and instances: validators (ETags) and streams."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from hounsfield.database.engine import Database, Row, Value
from hounsfield.index.fragments import GzipArray, unpack
from hounsfield.index.instances import InstancePath, Level

PAGE = 250
"""Instances read from the database at a time, so that a study of any size is streamed. The next are read and unpacked
while these are being sent."""

Result = TypeVar("Result")


async def validator(database: Database, path: InstancePath, *, original: bool = False) -> str | None:
    """The ETag of the metadata under ``path`` (retrieve.md §7); None where nothing is visible.

    Where an update came before what was stored last, it also says which, so that it differs from that of the
    ``original``, and from the one before.
    """
    where, values = _where(path)
    row = await database.fetch_one(f"SELECT max(i.id), count(i.id), max(i.version) {where}", *values, quick=True)
    if row is None or not row[1]:
        return None
    newest, count, updated = row
    highest = newest if original or updated is None else max(newest, updated)
    if path.level is Level.INSTANCE:
        return str(highest)
    return f"{highest}-{count}" if original or updated in (None, highest) else f"{highest}-{count}-{updated}"


async def versions(database: Database, path: InstancePath, *, original: bool = False) -> list[int]:
    """The versions of the instances under ``path`` at this moment, oldest instance first.

    What they hold can be read for some time, whatever updates come: an answer is of one moment.
    """
    where, values = _where(path)
    rows = await database.fetch(
        f"SELECT {'i.id' if original else 'coalesce(i.version, i.id)'} {where} ORDER BY i.id",
        *values,
        quick=path.level is Level.INSTANCE,
    )
    return [row[0] for row in rows]


async def stream(database: Database, path: InstancePath, *, original: bool = False) -> AsyncGenerator[bytes, None]:
    """The JSON objects under ``path``, many at a time joined by commas, oldest instance first."""
    wanted = await versions(database, path, original=original)
    async with aclosing(_pages(database, wanted, lambda rows: unpack(row[1] for row in rows))) as pages:
        async for objects in pages:
            yield objects


async def gzip_stream(database: Database, path: InstancePath, *, original: bool = False) -> AsyncGenerator[bytes, None]:
    """The JSON array of the objects under ``path`` as a gzip file, made of what is stored. Empty for no instance."""
    array = GzipArray()
    found = False
    wanted = await versions(database, path, original=original)
    async with aclosing(_pages(database, wanted, lambda rows: array.add([row[1] for row in rows]))) as pages:
        async for piece in pages:
            found = True
            yield piece
    if found:
        yield array.end()


async def each(database: Database, wanted: Sequence[int]) -> AsyncGenerator[tuple[int, bytes], None]:
    """Version and JSON object of each of these versions; those that are gone are passed over."""
    async with aclosing(_pages(database, wanted, lambda rows: [(row[0], unpack([row[1]])) for row in rows])) as pages:
        async for page in pages:
            for version, json in page:
                yield version, json


async def _pages(
    database: Database, wanted: Sequence[int], made: Callable[[Sequence[Row]], Result]
) -> AsyncGenerator[Result, None]:
    """What ``made`` makes, in a thread, of versions: rows of version and fragment."""
    if not wanted:
        return
    if len(wanted) == 1:
        rows = await _page(database, wanted, quick=True)
        if rows:
            yield made(rows)
        return

    async def read(start: int) -> Result | None:
        rows = await _page(database, wanted[start : start + PAGE])
        return await asyncio.to_thread(made, rows) if rows else None

    ahead: asyncio.Task[Result | None] | None = asyncio.create_task(read(0))
    start = 0
    try:
        while ahead is not None:
            page = await ahead
            start += PAGE
            ahead = asyncio.create_task(read(start)) if start < len(wanted) else None
            if page is not None:
                yield page
    finally:
        if ahead is not None:
            ahead.cancel()


async def _page(database: Database, wanted: Sequence[int], *, quick: bool = False) -> Sequence[Row]:
    """Rows of version and fragment, in that order."""
    marks = ", ".join("?" * len(wanted))
    rows = await database.fetch(
        f"SELECT instance_id, metadata FROM instance_content WHERE instance_id IN ({marks}) "
        f"UNION ALL SELECT version, metadata FROM instance_version WHERE version IN ({marks})",
        *wanted,
        *wanted,
        quick=quick,
    )
    found = {row[0]: row for row in rows}
    return [found[version] for version in wanted if version in found]


def _where(path: InstancePath) -> tuple[str, list[Value]]:
    """From where the instances under a path are to be had."""
    values: list[Value] = [path.partition_key, path.study_uid]
    if path.level is Level.STUDY:
        sql = "FROM study s JOIN instance i ON i.study_id = s.id WHERE s.partition_key = ? AND s.study_uid = ?"
        return sql, values
    sql = (
        "FROM study s JOIN series e ON e.study_id = s.id JOIN instance i ON i.series_id = e.id "
        "WHERE s.partition_key = ? AND s.study_uid = ? AND e.series_uid = ?"
    )
    values.append(path.series_uid)
    if path.level is Level.INSTANCE:
        sql += " AND i.sop_uid = ?"
        values.append(path.sop_uid)
    return sql, values
