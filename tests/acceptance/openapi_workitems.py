"""How each status of the operations on workitems is provoked, for the walk of the OpenAPI documents."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from tests.worklist import make
from tests.worklist.make import new_uid, to_state

DICOM_JSON = "application/dicom+json"
LARGE = b" " * (16 * 1024 * 1024 + 1)


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str
    partition: str

    @property
    def name(self) -> str: ...


def _send(operation: Asked, body: Any = None, uid: str = "1.2", path: str = "", **more: Any) -> httpx.Response:
    path = (path or operation.path).replace("{partitionName}", operation.partition)
    content = more.pop("content", None if body is None else json.dumps([body]))
    method = more.pop("method", operation.method)
    headers = {"accept": DICOM_JSON, **({} if content is None else {"content-type": DICOM_JSON}), **more}
    url = path.replace("{workitemInstanceUid}", uid)
    return operation.client.request(method, url, content=content, headers=headers)


def _created(operation: Asked) -> str:
    uid = new_uid()
    path = operation.path.partition("/workitems")[0].replace("{partitionName}", operation.partition)
    content = json.dumps([make.workitem()])
    headers = {"accept": DICOM_JSON, "content-type": DICOM_JSON}
    answer = operation.client.post(f"{path}/workitems?{uid}", content=content, headers=headers)
    assert answer.status_code in (201, 401, 403, 503), answer.text
    return uid


def _body(operation: Asked) -> Any:
    """What makes the operation go well."""
    return {
        "AddWorkitem": make.workitem(t00080018=make.element("UI", new_uid())),
        "UpdateWorkitem": {"00741204": make.element("LO", "other")},
        "CancelWorkitem": {},
        "ChangeWorkitemState": to_state("IN PROGRESS", "1.2.3"),
    }.get(operation.name)


WORKLIST = "1.2.840.10008.5.1.4.34.5"
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def _subscribed(operation: Asked) -> str:
    """Have ME subscribe to the worklist; its UID."""
    root = operation.path.partition("/workitems")[0].partition("/subscribers")[0]
    path = root.replace("{partitionName}", operation.partition)
    _created(Rooted(operation, root))
    answer = operation.client.post(f"{path}/workitems/{WORKLIST}/subscribers/ME")
    assert answer.status_code in (201, 401, 403, 503), answer.text
    return WORKLIST


@dataclass
class Rooted:
    """An operation seen from a path above it."""

    operation: Asked
    path: str

    def __post_init__(self) -> None:
        self.client, self.partition = self.operation.client, self.operation.partition
        self.method, self.name = self.operation.method, self.operation.name


def _of_subscriber(operation: Asked, title: str = "ME", **headers: str) -> httpx.Response:
    uid = _subscribed(operation)
    upgrade = UPGRADE if operation.method == "get" else {}
    path = operation.path.replace("{aetitle}", title)
    return _send(operation, None, uid, path, **upgrade, **headers)


def all_well(operation: Asked) -> httpx.Response:
    """What the operation is there for."""
    if operation.name in SUBSCRIPTIONS:
        return _of_subscriber(operation)
    return _send(operation, _body(operation), _created(operation))


def _none(operation: Asked) -> httpx.Response:
    _created(operation)
    return _send(operation, path=f"{operation.path}?PatientID=nobody-is-called-so")


def _bad(operation: Asked) -> httpx.Response:
    if operation.name == "QueryWorkitems":
        return _send(operation, path=f"{operation.path}?Modality=CT")
    return _send(operation, {"00741200": make.element("CS")} if _body(operation) is not None else None, "1.x")


def _missing(operation: Asked) -> httpx.Response:
    return _send(operation, _body(operation), new_uid())


def _conflict(operation: Asked) -> httpx.Response:
    uid = _created(operation)
    if operation.name == "AddWorkitem":
        return _send(operation, make.workitem(t00080018=make.element("UI", uid)))
    path = operation.path.removesuffix("/cancelrequest") + "/cancelrequest"
    assert _send(operation, {}, uid, path, method="post").status_code == 202
    return _send(operation, _body(operation), uid)


PROVOKED: dict[tuple[str, str], Callable[[Any], httpx.Response]] = {
    (name, status): provoke
    for name in (
        "AddWorkitem",
        "QueryWorkitems",
        "RetrieveWorkitem",
        "UpdateWorkitem",
        "CancelWorkitem",
        "ChangeWorkitemState",
    )
    for status, provoke in {
        "200": all_well,
        "201": all_well,
        "202": all_well,
        "204": _none,
        "400": _bad,
        "404": _missing,
        "406": lambda operation: _send(operation, _body(operation), accept="text/html"),
        "409": _conflict,
        "413": lambda operation: _send(operation, content=LARGE),
        "415": lambda operation: _send(operation, _body(operation) or {}, **{"content-type": "text/plain"}),
    }.items()
}
SUBSCRIPTIONS = frozenset(
    (
        "SubscribeWorkitem",
        "UnsubscribeWorkitem",
        "OpenNotificationConnection",
        "OpenConnectionOfSubscriber",
        "SuspendWorklistSubscription",
    )
)
PROVOKED = PROVOKED | {
    (name, status): provoke
    for name in SUBSCRIPTIONS
    for status, provoke in {
        "101": all_well,
        "200": all_well,
        "201": all_well,
        "400": lambda operation: _of_subscriber(operation, "back%5Cslash"),
        "403": lambda operation: _of_subscriber(operation, origin="https://elsewhere.example.com"),
        "404": lambda operation: (
            _send(operation, None, new_uid(), operation.path.replace("{aetitle}", "ME"))
            if operation.name == "SubscribeWorkitem"
            else _of_subscriber(operation, "NOBODY")
        ),
    }.items()
}
NAMES = frozenset(name for name, _ in PROVOKED)
