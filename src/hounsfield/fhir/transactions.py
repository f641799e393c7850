"""Carrying out writes together: the order, the matching and the rewriting of references of FHIR R4 §3.1.0.11."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from hounsfield.database.engine import Transaction
from hounsfield.fhir.conditions import Context
from hounsfield.fhir.drafts import Draft, Operation, conditional, parse_query, renaming
from hounsfield.fhir.etags import etag_matches
from hounsfield.fhir.outcomes import FhirRefusal, Invalid, MultipleMatches, ResourceConflict, VersionMismatch
from hounsfield.fhir.search import parse_criteria
from hounsfield.fhir.writes import Current, Writes, Written

R = TypeVar("R")


async def apply(tx: Transaction, operations: Sequence[Operation], context: Context) -> list[Written]:
    """Carry out all operations or, by raising FhirRefusal, none; results in the order of ``operations``.

    Deletes go first, then creates, then updates. Criteria of conditional creates and updates see the state after the
    deletes; conditional references see everything written before them, resources that hold none come first.
    """
    writes = Writes(tx)
    await writes.begin(len(operations))
    run = _Run(writes, context)
    results: dict[int, Written] = {}
    for place, operation in _having(operations, "DELETE"):
        results[place] = await run.guarded(run.delete, operation)
    for place, operation in [*_having(operations, "POST"), *_having(operations, "PUT")]:
        if found := await run.guarded(run.resolve, operation):
            results[place] = found
    waiting = [(place, operation) for place, operation in enumerate(operations) if place not in results]
    # A stable sort: false before true, and POST before PUT.
    waiting.sort(key=lambda pair: (_draft(pair[1]).has_conditional_references, pair[1].method))
    for place, operation in waiting:
        results[place] = await run.guarded(run.write, operation)
    await writes.finish()
    return [run.final(results[place]) for place in range(len(operations))]


def _having(operations: Sequence[Operation], method: str) -> list[tuple[int, Operation]]:
    return [(place, operation) for place, operation in enumerate(operations) if operation.method == method]


def _draft(operation: Operation) -> Draft:
    assert operation.draft is not None
    return operation.draft


class _Run:
    """The state of one attempt: what the entries of the bundle are called, and which resources are spoken for."""

    def __init__(self, writes: Writes, context: Context) -> None:
        self.writes = writes
        self.context = context
        self.names: dict[str, str] = {}
        self.resolved: dict[int, tuple[str, Current | None]] = {}
        self.taken: set[str] = set()
        self.created: dict[tuple[str, str], str] = {}
        self.written: dict[str, Written] = {}

    async def guarded(self, step: Callable[[Operation], Awaitable[R]], operation: Operation) -> R:
        """Run a step; a refusal names the entry."""
        try:
            return await step(operation)
        except FhirRefusal as refusal:
            raise refusal.of_entry(operation.entry) from None

    def take(self, name: str) -> None:
        """Reserve a resource for one change (R4: identities in a transaction must not overlap)."""
        if name in self.taken:
            raise Invalid("Two entries of the bundle change the same resource.", code="duplicate")
        self.taken.add(name)

    async def delete(self, operation: Operation) -> Written:
        name = operation.name
        if operation.criteria is not None:
            found = await self._one(operation)
            if found is None:
                return Written("204 No Content")
            name = found
        self.take(name)
        current = await self.writes.current(name)
        check_version(operation.if_match, current)
        if current is None or current.deleted:
            return Written("204 No Content")
        return await self.writes.remove(current, operation.entry)

    async def resolve(self, operation: Operation) -> Written | None:
        """Find out which resource a create or update is about; a create that finds one is done."""
        if operation.method == "POST":
            return await self._resolve_create(operation)
        name = operation.name
        found = await self._one(operation) if operation.criteria is not None else name
        if found is None:
            name = name if operation.identity else f"{operation.resource_type}/{operation.new_identity}"
        elif operation.identity and found != name:
            raise Invalid("The criteria find a resource with another id than that of the body.", code="value")
        else:
            name = found
        self.take(name)
        current = await self.writes.current(name)
        if found is None and current and not current.deleted:
            raise ResourceConflict("The criteria find nothing, but a resource with the id of the body exists.")
        check_version(operation.if_match, current)
        self._name(operation, name, current)
        return None

    async def _resolve_create(self, operation: Operation) -> Written | None:
        if operation.criteria is not None:
            key = (operation.resource_type, operation.criteria_text)
            found = self.created.get(key) or await self._one(operation)
            if found:
                self._name(operation, found, None)
                current = await self.writes.current(found)
                if current is None:
                    return Written("200 OK", found)
                return Written("200 OK", found, current.version, current.updated, current.content)
            self.created[key] = operation.name
        self.take(operation.name)
        self._name(operation, operation.name, None)
        return None

    def _name(self, operation: Operation, name: str, current: Current | None) -> None:
        self.resolved[id(operation)] = (name, current)
        if operation.full_url:
            self.names[operation.full_url] = name

    async def write(self, operation: Operation) -> Written:
        name, current = self.resolved[id(operation)]
        draft = _draft(operation)
        renamed = renaming(operation.full_url, self.names)
        replacements = {literal: renamed(literal) for literal in draft.literals()}
        for reference in draft.references:
            literal = replacements[reference.literal]
            if conditional(literal):
                replacements[reference.literal] = await self._look_up(literal)
            elif literal.startswith("urn:uuid:"):
                raise Invalid(
                    f"{reference.path} names no entry of the bundle.", code="not-found", expression=reference.path
                )
        draft.complete(replacements.__getitem__)
        self.written[name] = await self.writes.save(name, draft, current, operation.entry)
        return self.written[name]

    def final(self, result: Written) -> Written:
        """``result``, filled in for a create that found what an earlier entry with its criteria was yet to write."""
        if result.version or not result.name:
            return result
        return replace(self.written[result.name], status=result.status)

    async def _look_up(self, literal: str) -> str:
        """The resource a conditional reference means."""
        resource_type, _, query = literal.partition("?")
        found = await self.writes.matches(
            resource_type, parse_criteria(resource_type, parse_query(query), self.context)
        )
        if not found:
            raise Invalid("A conditional reference finds nothing.", code="not-found")
        if len(found) > 1:
            raise MultipleMatches("A conditional reference finds more than one resource.")
        return found[0]

    async def _one(self, operation: Operation) -> str | None:
        found = await self.writes.matches(operation.resource_type, operation.criteria or ())
        if len(found) > 1:
            raise MultipleMatches("The criteria of the conditional interaction find more than one resource.")
        return found[0] if found else None


def check_version(if_match: str, current: Current | None) -> None:
    """Raises VersionMismatch unless ``If-Match`` (empty: none given) names the current version."""
    if not if_match:
        return
    if current is None or current.deleted:
        raise VersionMismatch("If-Match was given, but there is no current version of the resource.")
    if not etag_matches(if_match, current.version):
        raise VersionMismatch("The current version of the resource is not the one that If-Match names.")
