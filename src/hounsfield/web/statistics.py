"""GET /statistics: how much the archive holds (our own; the reference has no such route)."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.database.engine import Database
from hounsfield.index import statistics
from hounsfield.web.access import ProtectedRoute


def statistics_route(database: Database) -> Route:
    """The route, without a version: ``{"studies": n, "series": n, "instances": n, "bytes": n}``."""

    async def handle(request: Request) -> Response:
        return Response(msgspec.json.encode(await statistics.count(database)), media_type="application/json")

    return ProtectedRoute("/statistics", handle, methods=["GET"], name="statistics", audit_action="statistics")
