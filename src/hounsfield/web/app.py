"""The whole HTTP surface, put together."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hounsfield.archive.archive import Archive
from hounsfield.storage.spool import Spool
from hounsfield.web.access import Access
from hounsfield.web.capabilities import capability_routes
from hounsfield.web.cast import rebuild_kind
from hounsfield.web.change_feed import change_feed_routes
from hounsfield.web.cors import Cors, CorsPolicy
from hounsfield.web.delete import delete_routes
from hounsfield.web.export import Exports, export_kind, export_routes
from hounsfield.web.extended_query_tags import TagOptions, extended_query_tag_routes, reindex_kind
from hounsfield.web.forwarded import Forwarded
from hounsfield.web.health import HealthChecks, health_route
from hounsfield.web.hosts import AllowedHosts
from hounsfield.web.lifespan import lifespan
from hounsfield.web.notifications import Notifications
from hounsfield.web.operations import operation_routes
from hounsfield.web.partitions import Partitions, partition_routes
from hounsfield.web.rendered import rendered_routes
from hounsfield.web.retrieve import retrieve_routes
from hounsfield.web.search import search_routes
from hounsfield.web.statistics import statistics_route
from hounsfield.web.store import store_routes
from hounsfield.web.surface import Surface
from hounsfield.web.unversioned import is_answered
from hounsfield.web.update import UPDATE_KIND, update_routes
from hounsfield.web.versions import VersionedRoutes
from hounsfield.web.wado_uri import WADO_URI, wado_uri_route
from hounsfield.web.workitem_subscriptions import subscription_routes
from hounsfield.web.workitems import workitem_routes


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of; ``routes`` are further ones without a version (fhir, cast, OpenAPI)."""

    archive: Archive
    spool: Spool
    health: HealthChecks
    partitions: Partitions
    access: Access
    max_part_bytes: int
    exports: Exports
    tags: TagOptions = field(default_factory=TagOptions)
    routes: Sequence[Route] = ()
    cors: CorsPolicy | None = None
    allowed_hosts: Sequence[str] | None = None
    """None for every host."""
    behind_proxy: bool = False
    """Whether ``X-Forwarded-Proto`` and ``X-Forwarded-For`` are believed."""
    closing: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    """Called in order when the server stops."""


class Application:
    """ASGI application of one API process."""

    def __init__(self, parts: Parts) -> None:
        archive = parts.archive
        notifications = Notifications(archive.database)
        versioned = [
            *store_routes(archive, parts.spool, parts.max_part_bytes),
            *search_routes(archive),
            *retrieve_routes(archive),
            *rendered_routes(archive),
            wado_uri_route(archive),
            *update_routes(archive.database, disabled=parts.tags.disabled),
            *delete_routes(archive),
            *change_feed_routes(archive.database),
            *extended_query_tag_routes(archive.database, parts.tags),
            *export_routes(archive.database, parts.exports),
            *operation_routes(
                archive.database, [reindex_kind(archive.database), UPDATE_KIND, rebuild_kind(), export_kind()]
            ),
            *partition_routes(archive.database, parts.partitions),
            *workitem_routes(archive.database),
            *subscription_routes(archive.database, notifications, parts.cors),
        ]
        versioned += capability_routes(versioned, partitioned=parts.partitions.enabled)
        self._versioned = VersionedRoutes(versioned, parts.partitions, parts.access)
        unversioned = [health_route(parts.health), statistics_route(archive.database), *parts.routes]
        self._routes = _by_first_segment(unversioned)
        self.routes: Sequence[Route] = [*versioned, *unversioned]
        """All there are; those that are ApiRoutes stand below a version."""
        self._access = parts.access
        self._closing = [notifications.close, *parts.closing]
        app: ASGIApp = self._dispatch
        if parts.cors is not None:
            app = Cors(app, parts.cors)
        if parts.allowed_hosts is not None:
            app = AllowedHosts(app, parts.allowed_hosts)
        if parts.behind_proxy:
            app = Forwarded(app)
        self._surface = Surface(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.close)
        elif scope["type"] == "http":
            await self._surface(scope, receive, send)

    async def close(self) -> None:
        """Release what the parts hold."""
        for close in self._closing:
            await close()

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == WADO_URI:
            # Where clients look for it without being told, among them archives to be replaced by this one.
            await self._versioned({**scope, "path": f"/v2{path}"}, receive, send)
            return
        segment = path[1:].partition("/")[0]
        routes = self._routes.get(segment, ()) or self._routes.get(path.count("/"), ())
        if not routes or not await is_answered(routes, self._access, scope, receive, send):
            await self._versioned(scope, receive, send)


def _by_first_segment(routes: Sequence[Route]) -> dict[str | int, list[Route]]:
    """Routes by the first segment of their path, or by their number of segments where that one is a parameter.

    Most requests are for versioned routes; they should not be matched with all of these first.
    """
    found: dict[str | int, list[Route]] = {}
    for route in routes:
        segment = route.path[1:].partition("/")[0]
        found.setdefault(route.path.count("/") if segment.startswith("{") else segment, []).append(route)
    return found
