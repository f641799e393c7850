"""Subscriptions to workitems, and the connections by which subscribers are told (PS3.18 §11.10–11.13, §8.10)."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.security.roles import DataAction
from hounsfield.web import workitem_search
from hounsfield.web.api_route import ApiRoute, Handler, partition_of
from hounsfield.web.cors import CorsPolicy
from hounsfield.web.notifications import Notifications
from hounsfield.web.uids import uid_parameter
from hounsfield.web.versions import service_root
from hounsfield.web.websocket import ForeignOrigin, WebSocket, require_upgrade
from hounsfield.worklist import subscriptions
from hounsfield.worklist.search import Condition
from hounsfield.worklist.subscriptions import FILTERED_WORKLIST

_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
"""PS3.5 §6.2, AE."""


def subscription_routes(
    database: Database, notifications: Notifications, cors: CorsPolicy | None = None
) -> list[ApiRoute]:
    """Subscribe, unsubscribe, suspend, and open a notification connection."""

    async def subscribe(request: Request) -> Response:
        title = _ae_title(request)
        await subscriptions.subscribe(
            database,
            partition_of(request).key,
            title,
            _resource(request),
            deletion_lock=_deletion_lock(request),
            conditions=_conditions(request),
        )
        scheme, _, address = service_root(request).partition("://")
        url = f"{scheme.replace('http', 'ws', 1)}://{address}/subscribers/{quote(title, safe='')}"
        return Response(status_code=201, headers={"Content-Location": url})

    async def unsubscribe(request: Request) -> Response:
        await subscriptions.unsubscribe(database, partition_of(request).key, _ae_title(request), _resource(request))
        return Response()

    async def suspend(request: Request) -> Response:
        await subscriptions.suspend(database, partition_of(request).key, _ae_title(request), _resource(request))
        return Response()

    async def connect(request: Request) -> ASGIApp:
        title = _ae_title(request)
        require_upgrade(request)
        _require_own_origin(request, cors)
        subscriber, token = await notifications.admit(partition_of(request).key, title)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await notifications.serve(subscriber, token, WebSocket(scope, receive, send))

        return application

    def route(method: str, path: str, handle: Handler, name: str) -> ApiRoute:
        action = DataAction.READ if method == "GET" else DataAction.WRITE
        return ApiRoute(path, handle, method, name, data_action=action, audit_action=name)

    one = "/workitems/{workitem}/subscribers/{aetitle}"
    return [
        route("POST", one, subscribe, "subscribe-workitem"),
        route("DELETE", one, unsubscribe, "unsubscribe-workitem"),
        route("GET", one, connect, "open-notification-connection"),
        route("POST", f"{one}/suspend", suspend, "suspend-worklist-subscription"),
        route("GET", "/subscribers/{aetitle}", connect, "open-notification-connection"),
    ]


def _ae_title(request: Request) -> str:
    """The AE title of the path, without padding. Raises BadRequest."""
    title: str = request.path_params["aetitle"]
    if _AE_TITLE.fullmatch(title) is None or not title.strip():
        raise BadRequest("The AE title is invalid: it must be 1 to 16 printable ASCII characters, without a backslash.")
    return title.strip()


def _resource(request: Request) -> str:
    """The workitem or worklist of the path. Raises BadRequest."""
    uid = uid_parameter(request, "workitem")
    assert uid is not None
    return uid


def _deletion_lock(request: Request) -> bool:
    text = request.query_params.get("deletionlock", "false").lower()
    if text not in ("true", "false"):
        raise BadRequest("The query parameter 'deletionlock' is invalid. It must be true or false.")
    return text == "true"


def _conditions(request: Request) -> Sequence[Condition]:
    """What a filter asks for; none of what is not the filtered worklist. Raises BadRequest."""
    given = request.query_params.getlist("filter")
    if _resource(request) != FILTERED_WORKLIST:
        if given:
            raise BadRequest("The query parameter 'filter' is invalid. It is for the filtered worklist alone.")
        return ()
    filters: dict[str, tuple[str, str]] = {}
    for part in (part for text in given for part in text.split(",")):
        name, _, value = part.partition("=")
        path = workitem_search.filter_path(name.strip())
        if path in filters:
            raise BadRequest(f"The query parameter 'filter' is invalid. It names '{name.strip()[:100]}' twice.")
        filters[path] = name.strip(), value
    if not filters:
        raise BadRequest("The query parameter 'filter' is missing: say what to subscribe to, as attribute=value,….")
    return workitem_search.conditions(filters, fuzzy=False)


def _require_own_origin(request: Request, cors: CorsPolicy | None) -> None:
    """Raise ForeignOrigin for pages that may not read our answers: no browser asks a server before a WebSocket."""
    origin = request.headers.get("origin")
    if origin is None or origin.partition("://")[2] == request.headers.get("host"):
        return
    if cors is None or not cors.is_allowed(origin):
        raise ForeignOrigin
