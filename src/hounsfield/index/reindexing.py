"""Re-indexing for extended query tags, a batch of instances at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.errors import HounsfieldError
from hounsfield.index import tag_values
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_values import GivenValue, TagError, TagValue


class Updated(HounsfieldError):
    """A bulk update came between reading a batch and writing it: what was read may not hold any more."""

    def __init__(self) -> None:
        super().__init__("Instances were updated meanwhile.")


@dataclass(slots=True)
class Batch:
    """What is to be written for some instances."""

    tags: Sequence[QueryTag]
    values: list[GivenValue] = field(default_factory=list)
    errors: list[TagError] = field(default_factory=list)
    studies: dict[int, int] = field(default_factory=dict)
    """The study of each instance with a value or error."""
    read: dict[int, int] = field(default_factory=dict)
    """The version of each instance that these were read from."""

    def add(
        self,
        values: Sequence[TagValue],
        errors: Sequence[TagError],
        study_id: int,
        series_id: int,
        version: int,
        partition_key: int,
        live: int,
    ) -> None:
        """Take what an instance has; ``live`` is the version it has it in."""
        if values or errors:
            self.read[version] = live
            self.studies[version] = study_id
            self.values += tag_values.given(values, study_id, series_id, version, partition_key)
            self.errors += errors


PAGE = (
    "SELECT i.id, i.study_id, i.series_id, i.partition_key, coalesce(i.version, i.id), "
    "coalesce(v.metadata, c.metadata) FROM (SELECT id, study_id, series_id, partition_key, version FROM instance "
    "WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?) i JOIN instance_content c ON c.instance_id = i.id "
    "LEFT JOIN instance_version v ON v.version = i.version ORDER BY i.id DESC"
)
"""What :func:`page` reads: a planner that joined before the limit would read the content of a whole archive for it."""


async def page(database: Database, low: int, above: int, limit: int) -> list[Row]:
    """Id, study, series, partition, version and packed metadata of instances with ``low <= id < above``, newest first.

    Fewer than ``limit`` mean that there are no more.
    """
    return await database.fetch(PAGE, low, above, limit)


async def write(tx: Transaction, batch: Batch, now: int) -> None:
    """Write what holds of a batch now: of instances that are still there, for tags that are still being added.

    Raises Updated.
    """
    alive = await _hold(tx, batch.studies)
    if any(version != batch.read[instance_id] for instance_id, version in alive.items()):
        raise Updated
    errors = [error for error in batch.errors if error.version in alive]
    adding = await tag_values.lock_adding(tx, batch.tags, frozenset(error.tag.id for error in errors))
    await tag_values.write(tx, [value for value in batch.values if value.version in alive and value.tag.id in adding])
    await tag_values.write_errors(tx, [error for error in errors if error.tag.id in adding], now)


async def _hold(tx: Transaction, studies: dict[int, int]) -> dict[int, int]:
    """Those of the instances that are there, and their versions, kept from being deleted or updated until the end."""
    versions = list(studies)
    alive = "SELECT id, coalesce(version, id) FROM instance WHERE id"
    if tx.dialect == "postgresql":
        # Whoever deletes an instance locks its study. Stores take studies in the order of their UIDs.
        held = "SELECT id FROM study WHERE id = ANY (CAST(? AS bigint[])) ORDER BY partition_key, study_uid"
        await tx.fetch(f"{held} FOR KEY SHARE", list(set(studies.values())))
        rows = await tx.fetch(f"{alive} = ANY (CAST(? AS bigint[]))", versions)
    else:
        rows = await tx.fetch(f"{alive} IN ({', '.join('?' * len(versions))})", *versions)
    return {row[0]: row[1] for row in rows}
