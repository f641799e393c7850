"""The statements that read the FHIR tables: one resource, one version, histories, searches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hounsfield.database.engine import Row, Value
from hounsfield.fhir.content import full, is_difference, unpack, unpack_former, unpacked_size
from hounsfield.fhir.outcomes import DeletedResource, Invalid, UnknownResource
from hounsfield.fhir.periods import parse_period
from hounsfield.fhir.search import (
    DEFAULT_COUNT,
    MAX_COUNT,
    MAX_INCLUDED,
    MAX_ITERATIONS,
    MAX_PAGE_BYTES,
    Include,
    Parameters,
    Search,
    count_query,
    encode_cursor,
    include_query,
    page_query,
)
from hounsfield.fhir.search_parameters import TYPES

_VERB = {0: "POST", 1: "PUT", 2: "DELETE"}
_STATUS = {0: "201 Created", 1: "200 OK", 2: "204 No Content"}


class Fetching(Protocol):
    """What reading needs: a transaction, or a database by itself."""

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """All rows of one statement."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one resource."""

    key: int
    name: str
    version: int
    updated: int
    content: bytes

    @property
    def json(self) -> bytes:
        """The resource as sent."""
        return full(self.name, self.version, self.updated, unpack(self.content))


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history; ``json`` is None for a deletion."""

    sequence: int
    name: str
    version: int
    updated: int
    verb: str
    status: str
    json: bytes | None


@dataclass(slots=True)
class Page:
    """One page of a search. ``cursor`` is empty on the last, ``total`` None when it was not asked for."""

    matches: list[Stored] = field(default_factory=list)
    included: list[Stored] = field(default_factory=list)
    total: int | None = None
    cursor: str = ""
    is_incomplete: bool = False


@dataclass(slots=True)
class HistoryPage:
    """One page of a history, newest first."""

    events: list[Event]
    total: int
    cursor: str


@dataclass(slots=True)
class HistoryQuery:
    """Which history: of a resource (``name`` is Type/id), of a type (``name`` is the type), or of everything."""

    name: str = ""
    count: int = DEFAULT_COUNT
    since: int | None = None
    before: int | None = None
    """Cursor: only events with a smaller sequence number."""


async def read(source: Fetching, name: str) -> Stored:
    """The current version. Raises UnknownResource, DeletedResource."""
    rows = await source.fetch(
        "SELECT key, name, version, updated, content, deleted FROM fhir_resource WHERE name = ?", name
    )
    if not rows:
        raise UnknownResource("There is no such resource.")
    if rows[0][5]:
        raise DeletedResource("The resource was deleted.", etag=f'W/"{rows[0][2]}"')
    return Stored(*rows[0][:5])


async def read_version(source: Fetching, name: str, version: str) -> Event:
    """A version, current or former. Raises UnknownResource, DeletedResource."""
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise UnknownResource("There is no such version.")
    rows = await source.fetch(
        "SELECT h.sequence, h.resource_key, h.version, h.updated, h.method, h.content, r.name "
        "FROM fhir_history h JOIN fhir_resource r ON r.key = h.resource_key WHERE r.name = ? AND h.version = ?",
        name,
        int(version),
    )
    if not rows:
        raise UnknownResource("There is no such version.")
    event = await _event(source, rows[0])
    if event.json is None:
        raise DeletedResource("The resource was deleted in this version.", etag=f'W/"{version}"')
    return event


async def history(source: Fetching, query: HistoryQuery) -> HistoryPage:
    """A page of history. Raises UnknownResource for a resource that never was."""
    condition, values = "1 = 1", []
    if "/" in query.name:
        rows = await source.fetch("SELECT key FROM fhir_resource WHERE name = ?", query.name)
        if not rows:
            raise UnknownResource("There is no such resource.")
        condition, values = "h.resource_key = ?", [rows[0][0]]
    elif query.name:
        condition, values = f"h.type = {TYPES[query.name]}", []
    if query.since is not None:
        condition, values = f"{condition} AND h.updated >= ?", [*values, query.since]
    total = (await source.fetch(f"SELECT COUNT(*) FROM fhir_history h WHERE {condition}", *values))[0][0]
    if query.before is not None:
        condition, values = f"{condition} AND h.sequence < ?", [*values, query.before]
    rows = await source.fetch(
        "SELECT h.sequence, h.resource_key, h.version, h.updated, h.method, h.content, r.name "
        f"FROM fhir_history h JOIN fhir_resource r ON r.key = h.resource_key WHERE {condition} "
        f"ORDER BY h.sequence DESC LIMIT {query.count + 1}",
        *values,
    )
    events: list[Event] = []
    room = MAX_PAGE_BYTES
    for row in rows[: query.count]:
        events.append(await _event(source, row))
        room -= len(events[-1].json or b"")
        if room < 0:
            break
    return HistoryPage(events, total, str(events[-1].sequence) if len(rows) > len(events) > 0 else "")


async def _event(source: Fetching, row: Row) -> Event:
    sequence, key, version, updated, method, content, name = row
    json = None
    if _VERB[method] != "DELETE":
        json = full(name, version, updated, await _former(source, key, version, content))
    return Event(sequence, name, version, updated, _VERB[method], _STATUS[method], json)


async def _former(source: Fetching, key: int, version: int, content: bytes | None) -> bytes:
    """The tail of a version, put together from the differences that follow it (content.py)."""
    if content is not None and not is_difference(content):
        return unpack(content)
    rows = await source.fetch(
        "SELECT content FROM fhir_history WHERE resource_key = ? AND version >= ? AND content IS NOT NULL "
        "ORDER BY version LIMIT 64",
        key,
        version,
    )
    current = await source.fetch("SELECT content FROM fhir_resource WHERE key = ? AND content IS NOT NULL", key)
    return unpack_former([row[0] for row in [*rows, *current]])


async def search(source: Fetching, query: Search) -> Page:
    """One page of a search, with what it includes."""
    page = Page()
    if query.total or query.count_only:
        counting = count_query(query)
        page.total = (await source.fetch(counting.sql, *counting.values))[0][0]
    if query.count_only:
        return page
    paging = page_query(query)
    rows = await source.fetch(paging.sql, *paging.values)
    kept = min(query.count, _fitting([row[4] for row in rows]))
    page.matches = [Stored(*row[:5]) for row in rows[:kept]]
    if len(rows) > kept:
        last = rows[kept - 1]
        page.cursor = encode_cursor([*last[5:], last[0]])
    if query.includes and page.matches:
        await _include(source, query, page)
    return page


def _fitting(contents: Sequence[bytes]) -> int:
    """How many of these contents a page can hold, at least one."""
    room = MAX_PAGE_BYTES
    for place, content in enumerate(contents):
        room -= unpacked_size(content)
        if room < 0:
            return max(place, 1)
    return len(contents)


async def _include(source: Fetching, query: Search, page: Page) -> None:
    known = {stored.key for stored in page.matches}
    newest: Sequence[Stored] = page.matches
    includes = query.includes
    for _ in range(MAX_ITERATIONS):
        added = []
        for stored in await _included_by(source, includes, newest):
            if stored.key not in known:
                known.add(stored.key)
                added.append(stored)
        page.included += added
        includes = [include for include in includes if include.iterate]
        if not added or not includes or len(page.included) > MAX_INCLUDED:
            break
        newest = added
    kept = min(MAX_INCLUDED, _fitting([stored.content for stored in page.included]))
    page.is_incomplete = len(page.included) > kept
    del page.included[kept:]


async def _included_by(source: Fetching, includes: Iterable[Include], resources: Sequence[Stored]) -> list[Stored]:
    found = []
    for include in includes:
        if include.forward:
            sources = [stored for stored in resources if stored.name.startswith(include.source + "/")]
        else:
            sources = list(resources)
        if sources:
            asking = include_query(include, [s.key for s in sources], [s.name for s in sources])
            found += [Stored(*row) for row in await source.fetch(asking.sql, *asking.values)]
    return found


def history_query(name: str, parameters: Parameters) -> tuple[HistoryQuery, list[tuple[str, str]]]:
    """The history that ``_count``, ``_since`` and a page link ask for, and the parameters in effect. Raises Invalid."""
    query = HistoryQuery(name)
    applied = []
    for key, value in parameters:
        if key == "_count":
            if not (value.isascii() and value.isdigit()):
                raise Invalid("_count must be a whole number, zero or more.", code="value")
            query.count = min(int(value[:9]), MAX_COUNT)
        elif key == "_since":
            period = parse_period(value.replace(" ", "+"))
            if period is None:
                raise Invalid("_since must be an instant.", code="value")
            query.since = period.low
        elif key == "_cursor":
            if not (value.isascii() and value.isdigit() and len(value) < 19):
                raise Invalid("The page link is damaged.", code="value")
            query.before = int(value)
        if key in ("_count", "_since"):
            applied.append((key, value))
    return query, applied
