"""The entries of a transaction or batch: from the JSON of the request to operations, and the reads among them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from hounsfield.fhir import reads
from hounsfield.fhir.bundles import history_bundle, searchset
from hounsfield.fhir.conditions import Context
from hounsfield.fhir.content import instant
from hounsfield.fhir.drafts import (
    Operation,
    Preconditions,
    create_operation,
    delete_operation,
    parse_query,
    update_operation,
)
from hounsfield.fhir.etags import etag, etag_matches
from hounsfield.fhir.formats import CHECKS
from hounsfield.fhir.outcomes import FhirRefusal, Invalid, TooLarge, UnknownResource
from hounsfield.fhir.search import parse_search
from hounsfield.fhir.search_parameters import TYPES

Json = dict[str, Any]
MAX_ENTRIES = 5000
"""Entries of a bundle. On SQLite nobody else writes while a transaction is carried out: at worst about two seconds."""
# The order of R4 §3.1.0.11.2.
_RANKS = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}


@dataclass(frozen=True, slots=True)
class Request:
    """What one entry asks for. ``path`` are the parts of its URL below the base; ``entry`` its place in the bundle."""

    entry: int
    method: str
    path: tuple[str, ...]
    query: str
    full_url: str
    resource: Any
    preconditions: Preconditions
    if_none_match: str

    @property
    def rank(self) -> int:
        """Its place in the order of processing."""
        return _RANKS[self.method]

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.method in ("GET", "HEAD")


def parse_bundle(bundle: Any, bases: tuple[str, ...]) -> tuple[str, list[Request | FhirRefusal]]:
    """The kind of a bundle, ``transaction`` or ``batch``, and its requests.

    An entry that cannot be understood is a refusal, which a batch answers in its place. Raises Invalid for anything
    else than a transaction or batch, and for full URLs that occur twice in a transaction.
    """
    if type(bundle) is not dict or bundle.get("resourceType") != "Bundle":
        raise Invalid("The body must be a Bundle.", code="structure")
    kind = bundle.get("type")
    if kind not in ("transaction", "batch"):
        raise Invalid("The type of the Bundle must be transaction or batch.", code="value", expression="Bundle.type")
    entries = bundle.get("entry", [])
    if type(entries) is not list:
        raise Invalid("Bundle.entry must be an array.", code="structure", expression="Bundle.entry")
    if len(entries) > MAX_ENTRIES:
        raise TooLarge(f"A Bundle may have at most {MAX_ENTRIES} entries.", code="too-costly")
    requests: list[Request | FhirRefusal] = []
    urls: set[str] = set()
    for place, entry in enumerate(entries):
        try:
            request = _request(place, entry, bases)
            if kind == "transaction" and request.full_url and not request.is_read:
                if request.full_url in urls:
                    raise Invalid("The fullUrl occurs twice in the bundle.", code="duplicate")
                urls.add(request.full_url)
            requests.append(request)
        except FhirRefusal as refusal:
            requests.append(refusal.of_entry(place))
    return kind, requests


def _request(place: int, entry: Any, bases: tuple[str, ...]) -> Request:
    asked = entry.get("request") if type(entry) is dict else None
    if type(asked) is not dict:
        raise Invalid("The entry has no request.", code="required")
    texts = [asked.get(key, "") for key in ("method", "url", "ifNoneExist", "ifMatch", "ifNoneMatch")]
    full_url = entry.get("fullUrl", "")
    if not all(type(text) is str for text in [*texts, full_url]):
        raise Invalid("fullUrl and the elements of request must be strings.", code="structure")
    method, url, if_none_exist, if_match, if_none_match = texts
    if method not in _RANKS:
        raise Invalid("The method must be GET, HEAD, POST, PUT or DELETE.", code="not-supported")
    for base in bases:
        url = url.removeprefix(base + "/")
    path, _, query = url.partition("?")
    return Request(
        place,
        method,
        tuple(unquote(part) for part in path.strip("/").split("/")),
        query,
        full_url,
        entry.get("resource"),
        Preconditions(if_none_exist, if_match),
        if_none_match,
    )


def operation_of(request: Request, context: Context) -> Operation:
    """The write that an entry asks for, its resource checked. Raises FhirRefusal naming the entry."""
    try:
        operation = _operation(request, context)
    except FhirRefusal as refusal:
        raise refusal.of_entry(request.entry) from None
    operation.entry = request.entry
    return operation


def _operation(request: Request, context: Context) -> Operation:
    known_type(request.path[0])
    resource_type, identity = request.path[0], "/".join(request.path[1:])
    if len(request.path) > 2 or (request.method == "POST" and identity):
        raise Invalid("The url of the request does not fit its method.", code="not-supported")
    if request.method == "POST":
        return create_operation(resource_type, request.resource, request.preconditions, context, request.full_url)
    if request.method == "PUT":
        return update_operation(
            *(
                resource_type,
                identity,
                request.query,
                request.resource,
                request.preconditions,
                context,
                request.full_url,
            )
        )
    return delete_operation(resource_type, identity, request.query, request.preconditions, context, request.full_url)


async def read_entry(source: reads.Fetching, request: Request, context: Context, base: str) -> Json:
    """The answer to an entry that reads, searches or asks for a history. Raises FhirRefusal naming the entry."""
    try:
        return await _read(source, request, context, base)
    except FhirRefusal as refusal:
        raise refusal.of_entry(request.entry) from None


async def _read(source: reads.Fetching, request: Request, context: Context, base: str) -> Json:
    path = request.path
    if path[-1] == "_history" and len(path) < 4:
        name = history_name(*path[:-1])
        query, applied = reads.history_query(name, parse_query(request.query))
        found = history_bundle(base, name, applied, await reads.history(source, query))
        return {"resource": found, "response": {"status": "200 OK"}}
    known_type(path[0])
    if len(path) == 1:
        search = parse_search(path[0], parse_query(request.query), context)
        return {
            "resource": searchset(base, search, await reads.search(source, search)),
            "response": {"status": "200 OK"},
        }
    name = known_name(path[0], path[1])
    if len(path) == 2:
        stored = await reads.read(source, name)
        version, updated, json = stored.version, stored.updated, stored.json
    elif len(path) == 4 and path[2] == "_history":
        event = await reads.read_version(source, name, path[3])
        version, updated, json = event.version, event.updated, event.json or b""
    else:
        raise UnknownResource("The url of the request leads nowhere.")
    response = {"status": "200 OK", "etag": etag(version), "lastModified": instant(updated)}
    if etag_matches(request.if_none_match, version):
        return {"response": {**response, "status": "304 Not Modified"}}
    return {"fullUrl": f"{base}/{name}", "resource": msgspec.Raw(json), "response": response}


def known_type(resource_type: str) -> None:
    """Raises UnknownResource for types that the store does not hold."""
    if resource_type not in TYPES:
        raise UnknownResource("The server has no resources of this type.", code="not-supported")


def history_name(resource_type: str = "", identity: str = "") -> str:
    """What a history is of: ``Type/id``, ``Type``, or everything. Raises UnknownResource."""
    if resource_type and not identity:
        known_type(resource_type)
    return known_name(resource_type, identity) if identity else resource_type


def known_name(resource_type: str, identity: str) -> str:
    """``Type/id``. Raises UnknownResource for types that the store does not hold and ids that cannot be."""
    known_type(resource_type)
    if CHECKS["id"](identity):
        raise UnknownResource("There is no such resource.")
    return f"{resource_type}/{identity}"
