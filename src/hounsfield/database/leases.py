"""Leases: at most one process at a time does a named piece of background work, whatever dies.

A lease is a row with an owner and an end; the owner renews it while it works, anybody may take one that has ended.
"""

import time

from hounsfield.database.engine import Database, Transaction


async def acquire(database: Database, name: str, owner: str, seconds: float) -> bool:
    """Take or renew the lease ``name`` for ``seconds``; True if ``owner`` holds it now."""
    now = time.time_ns() // 1000
    until = now + int(seconds * 1_000_000)

    async def unit(tx: Transaction) -> bool:
        changed = await tx.execute(
            "INSERT INTO lease (name, owner, expires) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires = excluded.expires "
            "WHERE lease.owner = excluded.owner OR lease.expires < ?",
            name,
            owner,
            until,
            now,
        )
        return changed > 0

    return await database.write(unit)


async def is_held(database: Database, name: str) -> bool:
    """Whether some process holds the lease ``name`` now."""
    now = time.time_ns() // 1000
    row = await database.fetch_one("SELECT 1 FROM lease WHERE name = ? AND expires >= ?", name, now, quick=True)
    return row is not None


async def release(database: Database, name: str, owner: str) -> None:
    """Give the lease back, so that the next process need not wait for its end."""

    async def unit(tx: Transaction) -> None:
        await tx.execute("DELETE FROM lease WHERE name = ? AND owner = ?", name, owner)

    await database.write(unit)
