"""API versions as the first path segment, and the routes below them (server.md §1).

A supported version is stripped from the path and kept for the handlers; the routes are declared once, without it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hounsfield.dicom.dataset_reader import MAX_DEPTH
from hounsfield.errors import HounsfieldError
from hounsfield.security.roles import DataAction
from hounsfield.web.access import Access, end_audit
from hounsfield.web.api_route import ApiRoute
from hounsfield.web.errors import drain, render
from hounsfield.web.partitions import Partitions

SUPPORTED = "1.0-prerelease, 1, 2"
SINCE_1 = "1, 2"
"""The same for routes that the prerelease does not have."""

Headers = Sequence[tuple[bytes, bytes]]

_ANNOUNCED: dict[bool, Headers] = {
    in_prerelease: [(b"api-supported-versions", (SUPPORTED if in_prerelease else SINCE_1).encode())]
    for in_prerelease in (True, False)
}
"""By whether the prerelease has the route."""

DEEPEST = 2 * MAX_DEPTH + 2
"""Segments a ``{…:path}`` may have beyond its first: the way to a value in the deepest sequence, and frames."""

_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:-([A-Za-z][A-Za-z0-9]*))?")


@dataclass(frozen=True, slots=True)
class ApiVersion:
    """A version as requested: ``major`` decides behaviour, ``segment`` is repeated in generated URLs."""

    major: int
    segment: str


@lru_cache(maxsize=64)
def parse(segment: str) -> tuple[int, int, str] | None:
    """Major, minor (0 where missing) and status in lower case of a segment like ``v1.0-prerelease``, or None."""
    found = _VERSION.fullmatch(segment[1:]) if segment[:1] in ("v", "V") else None
    if found is None:
        return None
    return int(found[1]), int(found[2] or 0), (found[3] or "").lower()


_PRERELEASE = (1, 0, "prerelease")
_KNOWN = {_PRERELEASE: 1, (1, 0, ""): 1, (2, 0, ""): 2}


@lru_cache(maxsize=64)
def _api_version(known: tuple[int, int, str], segment: str) -> ApiVersion:
    return ApiVersion(_KNOWN[known], segment)


def api_version(request: Request) -> ApiVersion:
    """The version of the request being handled."""
    version: ApiVersion = request.scope["hounsfield.version"]
    return version


def version_root(request: Request) -> str:
    """Absolute URL of the service with the version as the request has it, without a trailing slash."""
    return f"{server_root(request)}/{api_version(request).segment}"


def server_root(request: Request) -> str:
    """Absolute URL of the server as the request has it, without a trailing slash."""
    # Not request.url: taking a whole URL apart costs as much as reading a small instance.
    host = request.headers.get("host")
    return f"{request.scope['scheme']}://{host}" if host else str(request.base_url).rstrip("/")


def service_root(request: Request) -> str:
    """:func:`version_root` with the partition as the request has it."""
    partition = request.scope["hounsfield.partition_name"]
    below = "" if partition is None else f"/partitions/{partition}"
    return f"{version_root(request)}{below}"


class VersionedRoutes:
    """ASGI application that answers ``/{version}/…`` and ``/{version}/partitions/{name}/…``.

    A slash at the end does not matter, as in the reference. Anything it does not know is 404 with an empty body.
    """

    def __init__(self, routes: Sequence[ApiRoute], partitions: Partitions, access: Access) -> None:
        # Matching is one regular expression a route, so only those with as many path segments are tried.
        self._routes: dict[int, list[tuple[ApiRoute, ASGIApp]]] = {}
        # What is a route's path by the letter means nothing else: studies/$bulkUpdate is no study.
        self._literal: dict[str, list[tuple[ApiRoute, ASGIApp]]] = {}
        for route in routes:
            application = _application(route, partitions, access)
            count = route.path.count("/")
            deepest = count + DEEPEST if ":path}" in route.path else count
            if "{" not in route.path:
                self._literal.setdefault(route.path.lower(), []).append((route, application))
            for depth in range(count, deepest + 1):
                self._routes.setdefault(depth, []).append((route, application))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        segment, _, rest = scope["path"].lstrip("/").partition("/")
        version = parse(segment)
        if version is None:
            await Response(status_code=404)(scope, receive, send)
            return
        partition, path = _split_partition(rest)
        methods: set[str] = set()
        for route, application in self._literal.get(path.lower()) or self._routes.get(path.count("/"), []):
            if partition is not None and not route.partitioned:
                continue
            if _KNOWN.get(version, route.since) < route.since:
                continue
            match = route.path_regex.match(path)
            if match is None:
                continue
            if version in _KNOWN and scope["method"] in route.accepted_methods:
                if version == _PRERELEASE and not route.in_prerelease:
                    await _unsupported(scope, segment, SINCE_1)(scope, receive, send)
                    return
                inner = {
                    **scope,
                    "path": path,
                    "path_params": match.groupdict(),
                    "hounsfield.partition_name": partition,
                    "hounsfield.version": _api_version(version, segment),
                }
                await answer(application, inner, receive, send, _ANNOUNCED[route.in_prerelease])
                return
            methods |= route.accepted_methods
        await _refusal(scope, version, segment, methods)(scope, receive, send)


def _refusal(scope: Scope, version: tuple[int, int, str], segment: str, methods: set[str]) -> Response:
    """The answer where no route fits; ``methods`` are those of the routes that fit but for version or method."""
    if not methods:
        return Response(status_code=404)
    if version not in _KNOWN:
        return _unsupported(scope, segment)
    return Response(status_code=405, headers={"Allow": ", ".join(sorted(methods))})


def _split_partition(rest: str) -> tuple[str | None, str]:
    """The partition a path names, if it does, and the path below it, without a slash at its end."""
    first, _, inner = rest.partition("/")
    if first.lower() == "partitions":
        name, slash, below = inner.partition("/")
        if slash:
            return name, _without_last_slash(below)
    return None, _without_last_slash(rest)


def _without_last_slash(path: str) -> str:
    return f"/{path.removesuffix('/') or path}"


def _application(route: ApiRoute, partitions: Partitions, access: Access) -> ASGIApp:
    # Starlette's own wrapping is for exception handlers, which answer() makes superfluous.
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            if route.check_content is not None:
                route.check_content(request)
            caller = await access.admit(request, route.audit_action)
            if route.check is not None:
                route.check(request)
            if route.partitioned:
                name = scope["hounsfield.partition_name"]
                if name is not None:
                    partitions.require_valid(name)
                    caller.require(DataAction.WRITE if route.creates_partition else DataAction.READ)
                scope["hounsfield.partition"] = await partitions.resolve(name, create=route.creates_partition)
            caller.require(route.data_action)
            response = await route.handle_request(request)
        except HounsfieldError:
            await drain(request)
            raise
        await response(scope, receive, send)

    return run


async def answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send, headers: Headers = ()) -> None:
    """Run ``app``, rendering what it raises; after the first byte the error ends the connection instead.

    ``headers`` are added to the answer, unless that is 401. An audited action ends here.
    """
    status: int | None = None

    async def watch(message: Message) -> None:
        nonlocal status
        if status is None:
            status = message["status"]
            if headers and status != 401:
                message["headers"] = [*message.get("headers", ()), *headers]
        elif not message.get("more_body", False):
            # Before the client can know: whoever has the whole answer finds it in the audit log.
            end_audit(scope, status)
        await send(message)

    try:
        await app(scope, receive, watch)
    except Exception as error:
        if status is not None:
            raise
        await render(error)(scope, receive, watch)
    finally:
        end_audit(scope, status)


def _unsupported(scope: Scope, segment: str, supported: str = SUPPORTED) -> Response:
    url = str(URL(scope=scope).replace(query=""))
    message = (
        f"The HTTP resource that matches the request URI '{url}' does not support the API version '{segment[1:]}'."
    )
    return JSONResponse(
        {"error": {"code": "UnsupportedApiVersion", "message": message}},
        status_code=400,
        headers={"api-supported-versions": supported},
    )
