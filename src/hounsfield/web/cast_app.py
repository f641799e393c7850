"""What a DICOM Cast that runs alone answers over HTTP: status, errors, trying again, figures, health."""

from collections.abc import Collection, Sequence

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hounsfield.database.engine import Database
from hounsfield.web.access import Access
from hounsfield.web.cast import cast_routes
from hounsfield.web.cast_status import CastReport, Latest, cast_check
from hounsfield.web.forwarded import Forwarded
from hounsfield.web.health import HealthChecks, answers, health_route
from hounsfield.web.hosts import AllowedHosts
from hounsfield.web.lifespan import lifespan
from hounsfield.web.metrics import cast_metrics_route
from hounsfield.web.surface import Surface
from hounsfield.web.unversioned import is_answered


def routes(
    database: Database, latest: Latest, *, has_table_store: bool, workitem_partitions: Collection[str] | None = None
) -> list[Route]:
    """As those of a server, but for the rebuild, which here is asked for by command alone."""
    checks = {
        "IndexDatabase": answers(database.check, "The database answers."),
        "DicomCast": cast_check(database, latest, enabled=True),
    }
    report = CastReport(
        database,
        latest,
        enabled=True,
        has_table_store=has_table_store,
        workitem_partitions=workitem_partitions,
    )
    found = cast_routes(database, report, enabled=True, has_table_store=has_table_store)
    return [
        *(route for route in found if route.path != "/cast/rebuild"),
        cast_metrics_route(report),
        health_route(HealthChecks(checks, {"DicomCast"})),
    ]


class CastApplication:
    """ASGI application. ``allowed_hosts`` and ``behind_proxy`` are as in app.Parts."""

    def __init__(
        self,
        routes: Sequence[Route],
        access: Access,
        allowed_hosts: Sequence[str] | None = None,
        *,
        behind_proxy: bool = False,
    ) -> None:
        self._routes = routes
        self._access = access
        app: ASGIApp = self._dispatch
        if allowed_hosts is not None:
            app = AllowedHosts(app, allowed_hosts)
        if behind_proxy:
            app = Forwarded(app)
        self._surface = Surface(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self._access.close)
        elif scope["type"] == "http":
            await self._surface(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_answered(self._routes, self._access, scope, receive, send):
            await Response(status_code=404)(scope, receive, send)
