"""Delete a study, series or instance (store.md §7)."""

import time

from hounsfield.archive.archive import Archive
from hounsfield.database.engine import Transaction
from hounsfield.errors import NotFound
from hounsfield.index import instances
from hounsfield.index.instances import InstancePath


def not_found(path: InstancePath) -> NotFound:
    """The 404 for a path nothing is visible under."""
    return NotFound(f"The specified {path.level.name.lower()} cannot be found.")


async def delete(archive: Archive, path: InstancePath) -> None:
    """Remove everything under ``path`` from sight, in one transaction; files go later. Raises NotFound."""
    now = time.time_ns() // 1000
    cleanup_after = now + int(archive.delete_delay.total_seconds() * 1_000_000)

    async def unit(tx: Transaction) -> int:
        return await instances.delete(tx, path, now, cleanup_after)

    if await archive.database.write(unit) == 0:
        raise not_found(path)
