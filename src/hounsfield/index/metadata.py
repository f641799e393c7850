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


async def validator(database: Database, path: InstancePath) -> str | None:
    """The ETag of the metadata under ``path`` (retrieve.md §7); None where nothing is visible."""
    sql = "SELECT max(i.id), count(i.id) FROM study s"
    values: list[Value] = [path.partition_key, path.study_uid]
    if path.level is Level.STUDY:
        sql += " JOIN instance i ON i.study_id = s.id WHERE s.partition_key = ? AND s.study_uid = ?"
    else:
        sql += (
            " JOIN series e ON e.study_id = s.id JOIN instance i ON i.series_id = e.id"
            " WHERE s.partition_key = ? AND s.study_uid = ? AND e.series_uid = ?"
        )
        values.append(path.series_uid)
    if path.level is Level.INSTANCE:
        sql += " AND i.sop_uid = ?"
        values.append(path.sop_uid)
    row = await database.fetch_one(sql, *values, quick=True)
    if row is None or not row[1]:
        return None
    return str(row[0]) if path.level is Level.INSTANCE else f"{row[0]}-{row[1]}"


async def stream(database: Database, path: InstancePath) -> AsyncGenerator[bytes, None]:
    """The JSON objects under ``path``, many at a time joined by commas, oldest instance first."""
    async with aclosing(_pages(database, path, lambda rows: unpack(row[1] for row in rows))) as pages:
        async for objects in pages:
            yield objects


async def gzip_stream(database: Database, path: InstancePath) -> AsyncGenerator[bytes, None]:
    """The JSON array of the objects under ``path`` as a gzip file, made of what is stored. Empty for no instance."""
    array = GzipArray()
    found = False
    async with aclosing(_pages(database, path, lambda rows: array.add([row[1] for row in rows]))) as pages:
        async for piece in pages:
            found = True
            yield piece
    if found:
        yield array.end()


async def each(database: Database, path: InstancePath) -> AsyncGenerator[tuple[int, bytes], None]:
    """Version and JSON object of every instance under ``path``, oldest first."""
    async with aclosing(_pages(database, path, lambda rows: [(row[0], unpack([row[1]])) for row in rows])) as pages:
        async for page in pages:
            for version, json in page:
                yield version, json


async def _pages(
    database: Database, path: InstancePath, made: Callable[[Sequence[Row]], Result]
) -> AsyncGenerator[Result, None]:
    """What ``made`` makes, in a thread, of the instances under ``path``: rows of version and fragment."""
    if path.level is Level.INSTANCE:
        rows, _ = await _page(database, path, 0)
        if rows:
            yield made(rows)
        return

    async def read(after: int) -> tuple[Result | None, int | None]:
        rows, following = await _page(database, path, after)
        return await asyncio.to_thread(made, rows) if rows else None, following

    ahead: asyncio.Task[tuple[Result | None, int | None]] | None = asyncio.create_task(read(0))
    try:
        while ahead is not None:
            page, following = await ahead
            ahead = None if following is None else asyncio.create_task(read(following))
            if page is not None:
                yield page
    finally:
        if ahead is not None:
            ahead.cancel()


async def _page(database: Database, path: InstancePath, after: int) -> tuple[Sequence[Row], int | None]:
    """Rows of version and fragment, and the version behind which the next page begins, if there may be one."""
    condition = "s.partition_key = ? AND s.study_uid = ?"
    values: list[Value] = [path.partition_key, path.study_uid]
    for column, uid in (("e.series_uid", path.series_uid), ("n.sop_uid", path.sop_uid)):
        if uid is not None:
            condition += f" AND {column} = ?"
            values.append(uid)
    # The inner query sorts nothing but numbers.
    rows = await database.fetch(
        "SELECT i.id, c.metadata FROM (SELECT n.id FROM study s JOIN series e ON e.study_id = s.id "
        f"JOIN instance n ON n.series_id = e.id WHERE {condition} AND n.id > ? ORDER BY n.id LIMIT {PAGE}) i "
        "JOIN instance_content c ON c.instance_id = i.id ORDER BY i.id",
        *values,
        after,
        quick=path.level is Level.INSTANCE,
    )
    return rows, rows[-1][0] if len(rows) == PAGE else None
