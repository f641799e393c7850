"""The embedded FHIR store: every interaction of the REST API as a method, over either database engine."""

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from hounsfield.database.engine import Database, Row, Transaction, Value
from hounsfield.fhir import reads, transactions
from hounsfield.fhir.bundles import history_bundle, searchset, written_entry
from hounsfield.fhir.conditions import Context
from hounsfield.fhir.drafts import Operation, Preconditions, create_operation, delete_operation, update_operation
from hounsfield.fhir.entries import (
    Request,
    history_name,
    known_name,
    known_type,
    operation_of,
    parse_bundle,
    read_entry,
)
from hounsfield.fhir.outcomes import FhirRefusal
from hounsfield.fhir.reads import Event, Stored
from hounsfield.fhir.search import MAX_COUNT, Parameters, parse_search
from hounsfield.fhir.writes import Written

Json = dict[str, Any]


class _Quick:
    """Reads of a few rows by their keys, which SQLite answers without changing threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return await self._database.fetch(sql, *values, quick=True)


class FhirStore:
    """The resources of DICOM Cast, and ServiceRequests, in the server's database (dicom-cast.md §9).

    ``base`` arguments are the URL the client used for the store, without a slash at the end; where empty, ``base_url``.
    Methods raise FhirRefusal, whose OperationOutcome says why, or StoreUnavailable.
    """

    def __init__(self, database: Database, base_url: str) -> None:
        self._database = database
        self._quick = _Quick(database)
        self.base_url = base_url.rstrip("/")

    async def read(self, resource_type: str, identity: str) -> Stored:
        """The current version of a resource."""
        return await reads.read(self._quick, known_name(resource_type, identity))

    async def read_version(self, resource_type: str, identity: str, version: str) -> Event:
        """One version of a resource."""
        name = known_name(resource_type, identity)
        return await self._database.read(lambda tx: reads.read_version(tx, name, version))

    async def history(self, resource_type: str, identity: str, parameters: Parameters, *, base: str = "") -> Json:
        """A history Bundle: of a resource, of a type (no identity), or of everything (no type either)."""
        name = history_name(resource_type, identity)
        query, applied = reads.history_query(name, parameters)
        page = await self._database.read(lambda tx: reads.history(tx, query))
        return history_bundle(base or self.base_url, name, applied, page)

    async def search(self, resource_type: str, parameters: Parameters, *, strict: bool = False, base: str = "") -> Json:
        """A searchset Bundle. ``strict`` makes unknown parameters an error."""
        known_type(resource_type)
        query = parse_search(resource_type, parameters, self._context(base), strict=strict)
        page = await self._database.read(lambda tx: reads.search(tx, query))
        return searchset(base or self.base_url, query, page)

    async def find(self, resource_type: str, parameters: Parameters) -> tuple[list[Stored], list[Stored]]:
        """All matches of a search that is expected to find few, and what it includes."""
        known_type(resource_type)
        matches: list[Stored] = []
        included: dict[str, Stored] = {}
        cursor: list[tuple[str, str]] = []
        while True:
            query = parse_search(resource_type, [*parameters, *cursor], self._context(""))
            query.total, query.count = False, MAX_COUNT
            page = await reads.search(self._quick, query)
            matches += page.matches
            included |= {stored.name: stored for stored in page.included}
            if not page.cursor:
                return matches, list(included.values())
            cursor = [("_cursor", page.cursor)]

    async def pages(self, resource_type: str, parameters: Parameters) -> AsyncIterator[list[Stored]]:
        """The matches of a search that may find very many, page by page, without what it includes."""
        known_type(resource_type)
        cursor: list[tuple[str, str]] = []
        while True:
            query = parse_search(resource_type, [*parameters, *cursor], self._context(""))
            query.total = False
            page = await reads.search(self._quick, query)
            yield page.matches
            if not page.cursor:
                return
            cursor = [("_cursor", page.cursor)]

    async def create(self, resource_type: str, resource: Any, *, if_none_exist: str = "", base: str = "") -> Written:
        """``POST``; with ``if_none_exist`` (a query string) only if nothing matches, else the status is 200."""
        known_type(resource_type)
        context = self._context(base)
        preconditions = Preconditions(if_none_exist=if_none_exist)
        return await self._apply(create_operation(resource_type, resource, preconditions, context), context)

    async def update(
        self, resource_type: str, identity: str, resource: Any, *, query: str = "", if_match: str = "", base: str = ""
    ) -> Written:
        """``PUT``, creating what is not there; conditional on ``query`` where ``identity`` is empty."""
        known_type(resource_type)
        context = self._context(base)
        preconditions = Preconditions(if_match=if_match)
        operation = update_operation(resource_type, identity, query, resource, preconditions, context)
        return await self._apply(operation, context)

    async def delete(
        self, resource_type: str, identity: str, *, query: str = "", if_match: str = "", base: str = ""
    ) -> Written:
        """``DELETE``; version 0 in the answer means that there was nothing to delete."""
        known_type(resource_type)
        context = self._context(base)
        operation = delete_operation(resource_type, identity, query, Preconditions(if_match=if_match), context)
        return await self._apply(operation, context)

    async def bundle(self, bundle: Any, *, with_resources: bool = False, base: str = "") -> Json:
        """Carry out a transaction (all or nothing, in one unit of work) or a batch; the answer is in request order.

        References in ``bundle`` may be rewritten in place.
        """
        context = self._context(base)
        kind, requests = parse_bundle(bundle, context.bases)
        if kind == "transaction":
            entries = await self._transaction(requests, context, base or self.base_url, with_resources)
        else:
            entries = await self._batch(requests, context, base or self.base_url, with_resources)
        answer: Json = {"resourceType": "Bundle", "type": f"{kind}-response"}
        if entries:
            answer["entry"] = entries
        return answer

    async def _transaction(
        self, asked: Sequence[Request | FhirRefusal], context: Context, base: str, with_resources: bool
    ) -> list[Json]:
        requests: list[Request] = []
        for one in asked:
            if isinstance(one, FhirRefusal):
                raise one
            requests.append(one)
        operations = [operation_of(request, context) for request in requests if not request.is_read]

        async def unit(tx: Transaction) -> list[Json]:
            written = iter(await transactions.apply(tx, operations, context) if operations else ())
            # Reads go last, whatever their place (R4 §3.1.0.11.2).
            return [
                await read_entry(tx, request, context, base)
                if request.is_read
                else written_entry(base, next(written), with_resource=with_resources)
                for request in requests
            ]

        return await (self._database.write(unit) if operations else self._database.read(unit))

    async def _batch(
        self, asked: Sequence[Request | FhirRefusal], context: Context, base: str, with_resources: bool
    ) -> list[Json]:
        """Each entry by itself, in the order of a transaction."""
        entries: list[Json] = [{} for _ in asked]
        order = sorted(range(len(asked)), key=lambda place: getattr(asked[place], "rank", 0))
        for place in order:
            try:
                entries[place] = await self._batch_entry(asked[place], context, base, with_resources)
            except FhirRefusal as refusal:
                entries[place] = {"response": {"status": str(refusal.status), "outcome": refusal.outcome()}}
        return entries

    async def _batch_entry(
        self, request: Request | FhirRefusal, context: Context, base: str, with_resources: bool
    ) -> Json:
        if isinstance(request, FhirRefusal):
            raise request
        if request.is_read:
            return await self._database.read(partial(read_entry, request=request, context=context, base=base))
        written = await self._apply(operation_of(request, context), context)
        return written_entry(base, written, with_resource=with_resources)

    async def _apply(self, operation: Operation, context: Context) -> Written:
        results = await self._database.write(lambda tx: transactions.apply(tx, [operation], context))
        return results[0]

    def _context(self, base: str) -> Context:
        bases = (self.base_url,) if base in ("", self.base_url) else (base, self.base_url)
        return Context(bases, time.time_ns() // 1000)
