"""Bundles as the store answers with them: search results, histories, and what became of a transaction."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from hounsfield.fhir.content import decode_json, encode_json, full, instant, unpack
from hounsfield.fhir.etags import etag
from hounsfield.fhir.outcomes import Issue, outcome
from hounsfield.fhir.reads import Event, HistoryPage, Page, Stored
from hounsfield.fhir.search import MAX_INCLUDED, Search
from hounsfield.fhir.writes import Written

Json = dict[str, Any]
_MANDATORY = frozenset(("resourceType", "id", "meta", "status", "subject", "code", "connectionType", "payloadType"))
"""What stays in a resource whatever ``_elements`` asks for: what a client needs to make sense of it."""
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def query_string(parameters: Sequence[tuple[str, str]]) -> str:
    """Parameters as the query string of a link."""
    return urlencode(parameters, quote_via=quote, safe="/:,|$!")


def searchset(base: str, search: Search, page: Page) -> Json:
    """The answer to a search; resources are raw JSON text."""
    path = f"{base}/{search.resource_type}"
    links = [_link("self", path, search.applied)]
    if page.cursor:
        links.append(_link("next", path, [*search.applied, ("_cursor", page.cursor)]))
    bundle: Json = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if page.total is not None:
        bundle["total"] = page.total
    entries = [_found(base, stored, "match", search.elements) for stored in page.matches]
    entries += [_found(base, stored, "include", frozenset()) for stored in page.included]
    if page.is_incomplete:
        issue = Issue("incomplete", f"Only {MAX_INCLUDED} resources are included.", severity="warning")
        entries.append({"resource": outcome(issue), "search": {"mode": "outcome"}})
    if entries:
        bundle["entry"] = entries
    return bundle


def _link(relation: str, path: str, parameters: Sequence[tuple[str, str]]) -> Json:
    return {"relation": relation, "url": f"{path}?{query_string(parameters)}" if parameters else path}


def _found(base: str, stored: Stored, mode: str, elements: frozenset[str]) -> Json:
    json = stored.json
    if elements:
        json = _subset(json, elements)
    return {"fullUrl": f"{base}/{stored.name}", "resource": msgspec.Raw(json), "search": {"mode": mode}}


def _subset(json: bytes, elements: frozenset[str]) -> bytes:
    kept = {key: value for key, value in decode_json(json).items() if key.lstrip("_") in elements | _MANDATORY}
    kept["meta"]["tag"] = [*kept["meta"].get("tag", []), _SUBSETTED]
    return encode_json(kept)


def history_bundle(base: str, name: str, parameters: Sequence[tuple[str, str]], page: HistoryPage) -> Json:
    """A page of the history of ``name``: a resource, a type, or everything where it is empty."""
    path = f"{base}/{name}/_history" if name else f"{base}/_history"
    links = [_link("self", path, parameters)]
    if page.cursor:
        links.append(_link("next", path, [*parameters, ("_cursor", page.cursor)]))
    bundle: Json = {"resourceType": "Bundle", "type": "history", "total": page.total, "link": links}
    if page.events:
        bundle["entry"] = [_event(base, event) for event in page.events]
    return bundle


def _event(base: str, event: Event) -> Json:
    entry: Json = {"fullUrl": f"{base}/{event.name}"}
    if event.json is not None:
        entry["resource"] = msgspec.Raw(event.json)
    url = event.name.partition("/")[0] if event.verb == "POST" else event.name
    entry["request"] = {"method": event.verb, "url": url}
    entry["response"] = {
        "status": event.status,
        "etag": etag(event.version),
        "lastModified": instant(event.updated),
    }
    return entry


def written_entry(base: str, written: Written, *, with_resource: bool) -> Json:
    """What became of one write, as an entry of a transaction's or batch's answer."""
    response: Json = {"status": written.status}
    entry: Json = {}
    if written.version:
        response["etag"] = etag(written.version)
        response["lastModified"] = instant(written.updated)
    if written.content is not None:
        entry["fullUrl"] = f"{base}/{written.name}"
        response["location"] = f"{base}/{written.name}/_history/{written.version}"
        if with_resource:
            entry["resource"] = msgspec.Raw(representation(written))
    return {**entry, "response": response}


def representation(written: Written) -> bytes:
    """The JSON text of what was written; not for deletions."""
    assert written.content is not None
    return full(written.name, written.version, written.updated, unpack(written.content))
