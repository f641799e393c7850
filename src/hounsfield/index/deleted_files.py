"""The queue of files whose instances are deleted (server.md §12)."""

from collections.abc import Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Database, Transaction


@dataclass(frozen=True, slots=True)
class DeletedFile:
    """A file to remove; ``retry_count`` counts the attempts that failed."""

    id: int
    file_key: str
    retry_count: int
    version: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be removed. ``oldest`` is when the oldest entry was made, in microseconds since 1970 UTC."""

    pending: int
    """All entries, those that ran out of retries included."""
    exhausted: int
    """Entries that are not tried any more."""
    oldest: int | None


async def backlog(database: Database, max_retries: int) -> Backlog:
    """The queue in figures (server.md §12, metrics)."""
    row = await database.fetch_one(
        "SELECT count(*), coalesce(sum(CASE WHEN retry_count > ? THEN 1 ELSE 0 END), 0), min(deleted) "
        "FROM deleted_file",
        max_retries,
    )
    assert row is not None
    return Backlog(int(row[0]), int(row[1]), row[2])


async def due(database: Database, now: int, max_retries: int, limit: int) -> list[DeletedFile]:
    """Files whose delay is over and that have not run out of retries, oldest first."""
    rows = await database.fetch(
        "SELECT id, file_key, retry_count, version FROM deleted_file WHERE cleanup_after <= ? AND retry_count <= ? "
        "ORDER BY cleanup_after, id LIMIT ?",
        now,
        max_retries,
        limit,
    )
    return [DeletedFile(*row) for row in rows]


async def removed(database: Database, files: Sequence[DeletedFile]) -> None:
    """Forget files that are gone from the object store, and the versions that a bulk update replaced."""

    async def unit(tx: Transaction) -> None:
        await tx.execute_many("DELETE FROM deleted_file WHERE id = ?", [(file.id,) for file in files])
        await tx.execute_many("DELETE FROM instance_version WHERE version = ?", [(file.version,) for file in files])

    await database.write(unit)


async def failed(database: Database, file: DeletedFile, next_try: int) -> None:
    """Count a failed removal and put the next one off."""

    async def unit(tx: Transaction) -> None:
        await tx.execute(
            "UPDATE deleted_file SET retry_count = retry_count + 1, cleanup_after = ? WHERE id = ?", next_try, file.id
        )

    await database.write(unit)


async def queue_orphan(tx: Transaction, file_key: str, now: int) -> None:
    """Queue a file no instance refers to."""
    await tx.execute(
        "INSERT INTO deleted_file (file_key, version, deleted, cleanup_after, retry_count) VALUES (?, 0, ?, ?, 0)",
        file_key,
        now,
        now,
    )
