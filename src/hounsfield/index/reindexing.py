"""Re-indexing for extended query tags, a batch of instances at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.index import tag_values
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_values import GivenValue, TagError, TagValue


@dataclass(slots=True)
class Batch:
    """What is to be written for some instances."""

    tags: Sequence[QueryTag]
    values: list[GivenValue] = field(default_factory=list)
    errors: list[TagError] = field(default_factory=list)
    studies: dict[int, int] = field(default_factory=dict)
    """The study of each instance with a value or error."""

    def add(
        self,
        values: Sequence[TagValue],
        errors: Sequence[TagError],
        study_id: int,
        series_id: int,
        version: int,
        partition_key: int,
    ) -> None:
        """Take what an instance has."""
        if values or errors:
            self.studies[version] = study_id
            self.values += tag_values.given(values, study_id, series_id, version, partition_key)
            self.errors += errors


async def page(database: Database, low: int, above: int, limit: int) -> list[Row]:
    """Version, study, series, partition and packed metadata of instances with ``low <= version < above``, newest first.

    Fewer than ``limit`` mean that there are no more.
    """
    return await database.fetch(
        "SELECT i.id, i.study_id, i.series_id, i.partition_key, c.metadata FROM instance i "
        "JOIN instance_content c ON c.instance_id = i.id WHERE i.id >= ? AND i.id < ? ORDER BY i.id DESC LIMIT ?",
        low,
        above,
        limit,
    )


async def write(tx: Transaction, batch: Batch, now: int) -> None:
    """Write what holds of a batch now: of instances that are still there, for tags that are still being added."""
    alive = await _hold(tx, batch.studies)
    errors = [error for error in batch.errors if error.version in alive]
    adding = await tag_values.lock_adding(tx, batch.tags, frozenset(error.tag.id for error in errors))
    await tag_values.write(tx, [value for value in batch.values if value.version in alive and value.tag.id in adding])
    await tag_values.write_errors(tx, [error for error in errors if error.tag.id in adding], now)


async def _hold(tx: Transaction, studies: dict[int, int]) -> set[int]:
    """Those of the instances that are there, kept from being deleted until the transaction ends."""
    if tx.dialect == "postgresql":
        # Whoever deletes an instance locks its study. Stores take studies in the order of their UIDs.
        ids = sorted(set(studies.values()))
        await tx.fetch(
            f"SELECT id FROM study WHERE id IN ({_marks(ids)}) ORDER BY partition_key, study_uid FOR KEY SHARE", *ids
        )
    versions = list(studies)
    return {row[0] for row in await tx.fetch(f"SELECT id FROM instance WHERE id IN ({_marks(versions)})", *versions)}


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))
