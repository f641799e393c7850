"""How much the index holds."""

from dataclasses import dataclass

from hounsfield.database.engine import Database


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of visible studies, series and instances, and the bytes of their files."""

    studies: int
    series: int
    instances: int
    bytes: int


async def count(database: Database) -> Statistics:
    """Count everything in all partitions."""
    row = await database.fetch_one(
        "SELECT (SELECT count(*) FROM study), (SELECT count(*) FROM series), count(*), coalesce(sum(file_size), 0) "
        "FROM instance"
    )
    assert row is not None
    return Statistics(*(int(value) for value in row))
