"""How much the index holds."""

from dataclasses import dataclass

from hounsfield.database.engine import Database


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of visible studies, series and instances, and the bytes of their files.

    ``received_bytes`` is what these files had when they came, before ``recompressed`` of them were recompressed;
    ``original_bytes`` is what was kept of those besides, and of the ``updated`` ones the files they were before.
    """

    studies: int
    series: int
    instances: int
    bytes: int
    recompressed: int
    received_bytes: int
    original_bytes: int
    updated: int


async def count(database: Database) -> Statistics:
    """Count everything in all partitions."""
    row = await database.fetch_one(
        "SELECT (SELECT count(*) FROM study), (SELECT count(*) FROM series), count(*), coalesce(sum(file_size), 0), "
        "count(received_size), coalesce(sum(coalesce(received_size, first_size, file_size)), 0), "
        "coalesce(sum(CASE WHEN original_key IS NOT NULL THEN received_size ELSE 0 END + coalesce(first_size, 0)), 0), "
        "count(version) FROM instance"
    )
    assert row is not None
    return Statistics(*(int(value) for value in row))
