"""The embedded FHIR store over HTTP, at ``/fhir`` (FHIR R4 §3.1.0; dicom-cast.md §9).

Everything below ``/fhir`` is answered as FHIR, errors included: an OperationOutcome in JSON.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hounsfield.errors import HounsfieldError
from hounsfield.fhir.bundles import representation
from hounsfield.fhir.capability import capability_statement
from hounsfield.fhir.content import encode_json, parse
from hounsfield.fhir.drafts import parse_query
from hounsfield.fhir.entries import known_type
from hounsfield.fhir.etags import etag, etag_matches
from hounsfield.fhir.outcomes import (
    FhirRefusal,
    Invalid,
    Issue,
    MethodNotAllowed,
    TooLarge,
    UnknownResource,
    UnsupportedContent,
    UnsupportedFormat,
    outcome,
)
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.writes import Written
from hounsfield.security.roles import DataAction
from hounsfield.web.access import ProtectedRoute, caller_of
from hounsfield.web.request_body import request_body

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a request; an ImagingStudy of 100,000 instances takes a quarter of it."""
FHIR_JSON = "application/fhir+json"

_JSON_TYPES = frozenset((FHIR_JSON, "application/json", "text/json", "application/json+fhir"))
_FORMATS = {"json": FHIR_JSON, "html": "text/html", "text/html": "text/html"} | {name: name for name in _JSON_TYPES}
_FHIR_VERSIONS = frozenset(("4.0", "4.0.0", "4.0.1"))
_VERSION_PARAMETER = re.compile(r';\s*fhirversion\s*=\s*"?([^";]*)"?', re.IGNORECASE)
_ZERO = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)")


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer is to be written."""

    media_type: str = FHIR_JSON
    pretty: bool = False


def negotiate(accept: str, format_parameter: str, pretty: bool) -> Form:
    """The form of the answer. ``_format`` counts more than Accept; a browser gets readable JSON.

    Raises UnsupportedFormat where the client takes no JSON, or only that of another FHIR version (R4 §3.1.0.1.10).
    """
    if format_parameter:
        # An unencoded plus sign in a URL arrives as a space.
        accepted = [format_parameter.replace(" ", "+").lower()]
    else:
        accepted = [part.strip().lower() for part in accept.split(",") if part.strip() and not _ZERO.search(part)]
    types = []
    for part in accepted:
        version = _VERSION_PARAMETER.search(part)
        if version is None or version[1].strip() in _FHIR_VERSIONS:
            name = part.partition(";")[0].strip()
            types.append(_FORMATS.get(name, name) if format_parameter else name)
    if json := [name for name in types if name in _JSON_TYPES]:
        return Form(FHIR_JSON if FHIR_JSON in json or "json+fhir" in json[0] else "application/json", pretty)
    if "text/html" in types:
        return Form("application/json", True)
    if not (accept or format_parameter) or "*/*" in types or "application/*" in types:
        return Form(FHIR_JSON, pretty)
    raise UnsupportedFormat("The server speaks JSON only, of FHIR R4.")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its parts below ``/fhir``, and what its headers ask for."""

    request: Request
    path: tuple[str, ...]
    base: str
    form: Form
    preferences: frozenset[str]

    def header(self, name: str) -> str:
        """A request header, empty if absent."""
        return self.request.headers.get(name, "")

    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of the query string. Raises Invalid."""
        return parse_query(self.query)

    @property
    def query(self) -> str:
        """The query string as sent. Raises Invalid."""
        return _text(self.request.scope["query_string"])

    @property
    def is_strict(self) -> bool:
        """Whether unknown search parameters are errors."""
        return "handling=strict" in self.preferences

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """A response with JSON text or a value to be written as JSON."""
        body = content if isinstance(content, bytes) else encode_json(content)
        if self.form.pretty:
            body = msgspec.json.format(body, indent=2)
        return Response(body, status, headers, media_type=f"{self.form.media_type}; charset=utf-8")


_ISSUE_CODES = {400: "invalid", 403: "forbidden", 413: "too-long", 415: "not-supported", 503: "transient"}
_CHANGES = {"POST": "create", "PUT": "update", "DELETE": "delete"}

Handler = Callable[["FhirApplication", Call], Awaitable[Response]]


class FhirApplication:
    """The ASGI application of the routes."""

    def __init__(self, store: FhirStore) -> None:
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = _path(request)
        base = str(request.base_url).rstrip("/") + "/fhir"
        preferences = frozenset(re.split(r"[\s,;]+", request.headers.get("prefer", "").lower()))
        call = Call(request, path, base, Form(), preferences)
        try:
            shown = request.query_params
            form = negotiate(
                request.headers.get("accept", ""), shown.get("_format", ""), shown.get("_pretty", "") == "true"
            )
            call = Call(request, path, base, form, preferences)
            handler = self._handler(call)
            if path:
                caller_of(request).require(_data_action(request.method, path))
            return await handler(self, call)
        except FhirRefusal as refusal:
            headers = {"ETag": refusal.etag} if refusal.etag else {}
            if isinstance(refusal, MethodNotAllowed):
                headers["Allow"] = ", ".join(_methods(path))
            return call.answer(refusal.outcome(), refusal.status, headers)
        except HounsfieldError as error:
            code = _ISSUE_CODES.get(error.status, "exception")
            return call.answer(outcome(Issue(code, error.message)), error.status, dict(error.headers))
        except Exception as error:
            logger.error("Unexpected error: %s", type(error).__name__, exc_info=error)
            issue = Issue("exception", "The server encountered an internal error.", severity="fatal")
            return call.answer(outcome(issue), 500)

    @staticmethod
    def _handler(call: Call) -> Handler:
        known = _methods(call.path)
        method = "GET" if call.request.method == "HEAD" else call.request.method
        if method not in known:
            # A person who tries the bare address in a browser is told where to go.
            hint = (
                "" if call.path else f" See {call.base}/metadata for what there is, {call.base}/Patient for patients."
            )
            raise MethodNotAllowed(f"There is no such interaction on this URL.{hint}")
        return known[method]

    async def _metadata(self, call: Call) -> Response:
        return call.answer(capability_statement(call.base))

    async def _search(self, call: Call) -> Response:
        bundle = await self._store.search(call.path[0], call.parameters(), strict=call.is_strict, base=call.base)
        return call.answer(bundle)

    async def _search_by_form(self, call: Call) -> Response:
        body = await _body(call, frozenset(("application/x-www-form-urlencoded",)))
        parameters = [*call.parameters(), *parse_query(_text(body))]
        return call.answer(await self._store.search(call.path[0], parameters, strict=call.is_strict, base=call.base))

    async def _history(self, call: Call) -> Response:
        resource_type, identity = (*call.path[:-1], "", "")[:2]
        return call.answer(await self._store.history(resource_type, identity, call.parameters(), base=call.base))

    async def _read(self, call: Call) -> Response:
        stored = await self._store.read(*call.path)
        return _resource(call, stored.json, stored.version, stored.updated)

    async def _read_version(self, call: Call) -> Response:
        event = await self._store.read_version(call.path[0], call.path[1], call.path[3])
        return _resource(call, event.json or b"", event.version, event.updated)

    async def _create(self, call: Call) -> Response:
        resource = parse(await _body(call, _JSON_TYPES))
        criteria = call.header("if-none-exist")
        return _written(call, await self._store.create(call.path[0], resource, if_none_exist=criteria, base=call.base))

    async def _update(self, call: Call) -> Response:
        resource = parse(await _body(call, _JSON_TYPES))
        identity = call.path[1] if len(call.path) > 1 else ""
        written = await self._store.update(
            call.path[0],
            identity,
            resource,
            query="" if identity else _criteria(call),
            if_match=call.header("if-match"),
            base=call.base,
        )
        return _written(call, written)

    async def _delete(self, call: Call) -> Response:
        identity = call.path[1] if len(call.path) > 1 else ""
        written = await self._store.delete(
            call.path[0],
            identity,
            query="" if identity else _criteria(call),
            if_match=call.header("if-match"),
            base=call.base,
        )
        return Response(status_code=204, headers={"ETag": etag(written.version)} if written.version else {})

    async def _bundle(self, call: Call) -> Response:
        bundle = parse(await _body(call, _JSON_TYPES))
        caller_of(call.request).require(*_bundle_actions(bundle))
        with_resources = "return=representation" in call.preferences
        return call.answer(await self._store.bundle(bundle, with_resources=with_resources, base=call.base))


def _methods(path: tuple[str, ...]) -> dict[str, Handler]:
    """The interactions of a URL by method. Raises UnknownResource where there is nothing."""
    of = FhirApplication
    if not path:
        return {"POST": of._bundle}
    if path in (("metadata",), ("_history",)):
        return {"GET": of._metadata if path[0] == "metadata" else of._history}
    known_type(path[0])
    if len(path) == 1:
        return {"GET": of._search, "POST": of._create, "PUT": of._update, "DELETE": of._delete}
    if path[1:] == ("_search",):
        return {"POST": of._search_by_form}
    if path[-1] == "_history" and len(path) < 4:
        return {"GET": of._history}
    if len(path) == 2:
        return {"GET": of._read, "PUT": of._update, "DELETE": of._delete}
    if len(path) == 4 and path[2] == "_history":
        return {"GET": of._read_version}
    raise UnknownResource("There is nothing at this URL.")


def _criteria(call: Call) -> str:
    """The query string of a conditional interaction, without what only shapes the answer."""
    return "&".join(part for part in call.query.split("&") if not part.startswith(("_format=", "_pretty=")))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid("The parameters are not in UTF-8.", code="value") from error


async def _body(call: Call, types: frozenset[str]) -> bytes:
    """The request's body. Raises UnsupportedContent, TooLarge, and what request_body does."""
    media_type = call.header("content-type").partition(";")[0].strip().lower()
    if media_type and media_type not in types:
        raise UnsupportedContent("The content type of the body is not supported; the server takes FHIR as JSON.")
    body = bytearray()
    async for chunk in request_body(call.request):
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge(f"The body is larger than {MAX_BODY} bytes.")
    return bytes(body)


def _resource(call: Call, json: bytes, version: int, updated: int) -> Response:
    """One resource, or 304 where the client has this version (R4 §3.1.0.1.4)."""
    headers = {"ETag": etag(version), "Last-Modified": formatdate(updated // 1_000_000, usegmt=True)}
    known = call.header("if-none-match")
    if etag_matches(known, version) if known else updated // 1_000_000 <= _seconds(call.header("if-modified-since")):
        return Response(status_code=304, headers=headers)
    return call.answer(json, headers=headers)


def _seconds(http_date: str) -> float:
    """An HTTP date in seconds since 1970; one that cannot be read does not count (RFC 9110 §13.1.3)."""
    try:
        return parsedate_to_datetime(http_date).timestamp()
    except ValueError:
        return float("-inf")


def _written(call: Call, written: Written) -> Response:
    """The answer to a create or update, as long as ``Prefer: return=…`` wants it."""
    status = int(written.status[:3])
    headers = {
        "ETag": etag(written.version),
        "Last-Modified": formatdate(written.updated // 1_000_000, usegmt=True),
        "Location": f"{call.base}/{written.name}/_history/{written.version}",
    }
    if "return=minimal" in call.preferences:
        return Response(status_code=status, headers=headers)
    if "return=operationoutcome" in call.preferences:
        issue = Issue("informational", f"The resource is {written.name}.", severity="information")
        return call.answer(outcome(issue), status, headers)
    return call.answer(representation(written), status, headers)


def fhir_routes(store: FhirStore) -> list[ProtectedRoute]:
    """Routes of the store at ``/fhir``, for the root of the application."""
    application = FhirApplication(store)
    return [
        ProtectedRoute(path, application, name=f"FHIR {path}", audit_action=_audit_action, data_action=None)
        for path in ("/fhir", "/fhir/{path:path}")
    ]


def _path(request: Request) -> tuple[str, ...]:
    return tuple(part for part in request.path_params.get("path", "").split("/") if part)


def _audit_action(request: Request) -> str:
    """``fhir-`` and the interaction (R4 §3.1.0) a request is meant as."""
    path = _path(request)
    if not path:
        return "fhir-transaction"
    if path[-1] == "_search":
        return "fhir-search"
    if request.method not in ("GET", "HEAD"):
        return f"fhir-{_CHANGES.get(request.method, 'unknown')}"
    if path == ("metadata",):
        return "fhir-capabilities"
    if "_history" in path:
        return "fhir-history"
    return "fhir-search" if len(path) == 1 else "fhir-read"


def _data_action(method: str, path: tuple[str, ...]) -> DataAction:
    """What an interaction other than a Bundle must be permitted."""
    if method in ("GET", "HEAD") or path[-1:] == ("_search",):
        return DataAction.READ
    return DataAction.DELETE if method == "DELETE" else DataAction.WRITE


def _bundle_actions(bundle: Any) -> set[DataAction]:
    """What the entries of a Bundle must be permitted; one that cannot be understood counts as writing."""
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    found = set()
    for entry in entries if isinstance(entries, list) else ():
        asked = entry.get("request") if isinstance(entry, dict) else None
        method = asked.get("method") if isinstance(asked, dict) else None
        found.add(_data_action(str(method), ()))
    return found or {DataAction.READ}
