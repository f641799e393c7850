"""The statements that change the FHIR tables, inside one unit of work.

The first statement of every unit takes the row of ``fhir_head``: on PostgreSQL that makes FHIR writes wait for each
other, as SQLite does anyway, so that what a condition found stays true until the commit.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hounsfield.database.engine import Transaction
from hounsfield.fhir.conditions import Condition
from hounsfield.fhir.content import pack_former, unpack
from hounsfield.fhir.drafts import Draft
from hounsfield.fhir.indexing import Indexed
from hounsfield.fhir.outcomes import Invalid, ResourceConflict, TooLarge
from hounsfield.fhir.search import where
from hounsfield.fhir.search_parameters import TYPES

_CREATE, _UPDATE, _DELETE = 0, 1, 2
_CHUNK = 500
"""Placeholders in one list; SQLite allows many more, but the statement text should stay cacheable."""

MAX_ROWS = 250_000
"""Index rows that one unit may add and remove: some seconds, in which nobody else can write. An instance of an
ImagingStudy is one."""

_HEAD = (
    "INSERT INTO fhir_head (id, sequence, updated) VALUES (1, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET sequence = fhir_head.sequence + excluded.sequence, updated = "
    "CASE WHEN excluded.updated > fhir_head.updated THEN excluded.updated ELSE fhir_head.updated END "
    "RETURNING sequence, updated"
)
_ROWS = {
    "tokens": ("fhir_token", "code", "system"),
    "strings": ("fhir_string", "folded", "exact"),
    "dates": ("fhir_date", "low", "high"),
    "references": ("fhir_reference", "target"),
}


@dataclass(frozen=True, slots=True)
class Current:
    """The row of a resource, deleted or not."""

    key: int
    name: str
    version: int
    deleted: bool
    updated: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one operation: status line, and the version that now is the current one."""

    status: str
    name: str = ""
    version: int = 0
    updated: int = 0
    content: bytes | None = None


class Writes:
    """Writes of one unit, in order; :meth:`finish` checks what must hold between resources."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._sequence = 0
        self.now = 0
        self._targets: dict[str, tuple[int | None, str]] = {}
        self._removed: dict[str, int | None] = {}
        self._rows = 0

    async def begin(self, count: int) -> None:
        """Take the lock, and sequence numbers for ``count`` writes."""
        now = time.time_ns() // 1_000_000 * 1000
        row = await self._tx.fetch_one(_HEAD, count, now)
        assert row is not None
        self._sequence, self.now = row[0] - count, row[1]

    async def matches(self, resource_type: str, criteria: Sequence[Condition]) -> list[str]:
        """Names of the resources that fit, two at most."""
        found = where(resource_type, criteria)
        rows = await self._tx.fetch(f"SELECT r.name FROM fhir_resource r WHERE {found.sql} LIMIT 2", *found.values)
        return [row[0] for row in rows]

    async def current(self, name: str) -> Current | None:
        """The row of a resource, if there ever was one."""
        row = await self._tx.fetch_one(
            "SELECT key, version, deleted, updated, content FROM fhir_resource WHERE name = ?", name
        )
        return None if row is None else Current(row[0], name, row[1], bool(row[2]), row[3], row[4])

    async def save(self, name: str, draft: Draft, current: Current | None, entry: int | None) -> Written:
        """Make ``draft`` the next version of ``name``. Raises TooLarge."""
        self._sequence += 1
        new = current is None or current.deleted
        version = current.version + 1 if current else 1
        kind = TYPES[name.partition("/")[0]]
        if current is None:
            key = self._sequence
            await self._tx.execute(
                "INSERT INTO fhir_resource (key, name, type, deleted, version, updated, content) "
                "VALUES (?, ?, ?, 0, ?, ?, ?)",
                *(key, name, kind, version, self.now, draft.content),
            )
        else:
            key = current.key
            await self._keep_former(current, draft.tail)
            await self._tx.execute(
                "UPDATE fhir_resource SET deleted = 0, version = ?, updated = ?, content = ? WHERE key = ?",
                *(version, self.now, draft.content, key),
            )
        await self._log(key, kind, version, _CREATE if new else _UPDATE)
        await self._index(key, draft.indexed, fresh=new)
        for target, path in draft.targets():
            self._targets.setdefault(target, (entry, path))
        return Written("201 Created" if new else "200 OK", name, version, self.now, draft.content)

    async def remove(self, current: Current, entry: int | None) -> Written:
        """Delete a resource; its versions stay in the history."""
        self._sequence += 1
        version = current.version + 1
        await self._keep_former(current, None)
        await self._tx.execute(
            "UPDATE fhir_resource SET deleted = 1, version = ?, updated = ?, content = NULL WHERE key = ?",
            *(version, self.now, current.key),
        )
        await self._log(current.key, TYPES[current.name.partition("/")[0]], version, _DELETE)
        for table, *_ in _ROWS.values():
            await self._tx.execute(f"DELETE FROM {table} WHERE resource_key = ?", current.key)
        self._removed[current.name] = entry
        return Written("204 No Content", current.name, version, self.now)

    async def finish(self) -> None:
        """Refuse if a reference leads nowhere or a deleted resource is still referred to (dicom-cast.md §9)."""
        names = list(self._targets)
        existing: set[str] = set()
        for start in range(0, len(names), _CHUNK):
            part = names[start : start + _CHUNK]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT name FROM fhir_resource WHERE deleted = 0 AND name IN ({marks})"
            existing.update(row[0] for row in await self._tx.fetch(sql, *part))
        for name, entry in self._removed.items():
            referring = await self._tx.fetch_one(
                "SELECT resource_key FROM fhir_reference WHERE target = ? AND parameter = 0 LIMIT 1", name
            )
            if referring and name not in existing:
                raise ResourceConflict("Another resource refers to the one to be deleted.").of_entry(entry)
        for name, (entry, path) in self._targets.items():
            if name not in existing:
                raise Invalid(f"{path} refers to a resource that does not exist.", expression=path).of_entry(entry)

    async def _keep_former(self, current: Current, following: bytes | None) -> None:
        """Move the content of the version that ends to the history."""
        if current.content is None:
            return
        await self._tx.execute(
            "UPDATE fhir_history SET content = ? WHERE resource_key = ? AND version = ?",
            current.content if following is None else pack_former(unpack(current.content), current.version, following),
            current.key,
            current.version,
        )

    async def _log(self, key: int, kind: int, version: int, method: int) -> None:
        await self._tx.execute(
            "INSERT INTO fhir_history (sequence, resource_key, type, version, updated, method) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(self._sequence, key, kind, version, self.now, method),
        )

    async def _index(self, key: int, indexed: Indexed, *, fresh: bool) -> None:
        """Bring the index rows of a resource to ``indexed``, touching only those that differ. Raises TooLarge."""
        for group, (table, *columns) in _ROWS.items():
            names = ["parameter", *columns]
            wanted: set[tuple[int | str, ...]] = getattr(indexed, group)
            if not fresh:
                sql = f"SELECT {', '.join(names)} FROM {table} WHERE resource_key = ?"
                present = {tuple(row) for row in await self._tx.fetch(sql, key)}
                if stale := present - wanted:
                    self._count(stale)
                    match = " AND ".join(f"{name} = ?" for name in names)
                    await self._tx.execute_many(
                        f"DELETE FROM {table} WHERE resource_key = ? AND {match}", [(key, *row) for row in stale]
                    )
                wanted = wanted - present
            if wanted:
                self._count(wanted)
                sql = (
                    f"INSERT INTO {table} (resource_key, {', '.join(names)}) VALUES (?, {', '.join('?' * len(names))})"
                )
                await self._tx.execute_many(sql, [(key, *row) for row in wanted])

    def _count(self, rows: set[tuple[int | str, ...]]) -> None:
        self._rows += len(rows)
        if self._rows > MAX_ROWS:
            raise TooLarge(f"The request changes more than {MAX_ROWS} index entries.", code="too-costly")
