"""DELETE of studies, series and instances (store.md §7)."""

from starlette.requests import Request
from starlette.responses import Response

from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import delete
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute
from hounsfield.web.uids import instance_path


def delete_routes(archive: Archive) -> list[ApiRoute]:
    """The three DELETE routes."""

    async def handle(request: Request) -> Response:
        await delete(archive, instance_path(request))
        return Response(status_code=204)

    paths = (
        "/studies/{study}",
        "/studies/{study}/series/{series}",
        "/studies/{study}/series/{series}/instances/{instance}",
    )
    return [
        ApiRoute(path, handle, "DELETE", f"delete {path}", data_action=DataAction.DELETE, audit_action="delete")
        for path in paths
    ]
