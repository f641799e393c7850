"""Metadata of studies, series and instances: validators (ETags) and streams."""

from collections.abc import AsyncIterator

from hounsfield.database.engine import Database, Value
from hounsfield.index.fragments import unpack
from hounsfield.index.instances import InstancePath, Level

PAGE = 500
"""Instances read from the database at a time, so that a study of any size is streamed."""


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


async def stream(database: Database, path: InstancePath) -> AsyncIterator[bytes]:
    """The JSON objects under ``path``, many at a time joined by commas, oldest instance first."""
    condition = "s.partition_key = ? AND s.study_uid = ?"
    values: list[Value] = [path.partition_key, path.study_uid]
    for column, uid in (("e.series_uid", path.series_uid), ("i.sop_uid", path.sop_uid)):
        if uid is not None:
            condition += f" AND {column} = ?"
            values.append(uid)
    after = 0
    while True:
        rows = await database.fetch(
            "SELECT i.id, c.metadata FROM study s JOIN series e ON e.study_id = s.id "
            "JOIN instance i ON i.series_id = e.id JOIN instance_content c ON c.instance_id = i.id "
            f"WHERE {condition} AND i.id > ? ORDER BY i.id LIMIT {PAGE}",
            *values,
            after,
            quick=path.level is Level.INSTANCE,
        )
        if rows:
            yield unpack(row[1] for row in rows)
        if len(rows) < PAGE:
            return
        after = rows[-1][0]
