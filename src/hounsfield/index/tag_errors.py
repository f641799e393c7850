"""What the re-index could not index, one row for each tag and instance (extended-query-tags.md §5)."""

from dataclasses import dataclass

from hounsfield.database.engine import Database


@dataclass(frozen=True, slots=True)
class IndexingError:
    """An instance whose value a tag cannot have. ``created`` in microseconds since 1970 UTC."""

    partition_name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    created: int
    message: str


async def page(database: Database, tag_id: int, limit: int, offset: int) -> list[IndexingError]:
    """Errors of a tag, oldest first."""
    rows = await database.fetch(
        "SELECT p.name, s.study_uid, e.series_uid, i.sop_uid, x.created, x.message FROM "
        "(SELECT version, created, message FROM query_tag_error WHERE tag_id = ? "
        "ORDER BY created, version LIMIT ? OFFSET ?) x "
        "JOIN instance i ON i.id = x.version JOIN series e ON e.id = i.series_id "
        "JOIN study s ON s.id = i.study_id JOIN data_partition p ON p.key = i.partition_key "
        "ORDER BY x.created, x.version",
        tag_id,
        limit,
        offset,
    )
    return [IndexingError(*row) for row in rows]
