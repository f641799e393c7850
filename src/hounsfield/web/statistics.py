"""GET /statistics: how much the archive holds (our own; the reference has no such route)."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.database.engine import Database
from hounsfield.index import statistics
from hounsfield.web.access import ProtectedRoute


def statistics_route(database: Database) -> Route:
    """The route, without a version: studies, series, instances, bytes, and what recompression made of them."""

    async def handle(request: Request) -> Response:
        held = await statistics.count(database)
        figures = {
            "studies": held.studies,
            "series": held.series,
            "instances": held.instances,
            "bytes": held.bytes,
            "recompressedInstances": held.recompressed,
            "receivedBytes": held.received_bytes,
            "originalBytes": held.original_bytes,
            "updatedInstances": held.updated,
        }
        return Response(msgspec.json.encode(figures), media_type="application/json")

    return ProtectedRoute("/statistics", handle, methods=["GET"], name="statistics", audit_action="statistics")
