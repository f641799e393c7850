"""How each status of the operations on extended query tags is provoked, for the walk of the OpenAPI documents."""

from collections.abc import Callable, Mapping
from typing import Protocol

import httpx

from tests.acceptance import query_tags
from tests.acceptance.query_tags import entry

LARGE = b" " * 1_100_000


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str


def _send(operation: Asked, body: object = None, path: str = "StudyComments", **more: object) -> httpx.Response:
    url = operation.path.replace("{tagPath}", path)
    kind = {"json": body} if body is not None else {}
    return operation.client.request(operation.method, url, **kind, **more)  # type: ignore[arg-type]


def _there(client: httpx.Client) -> None:
    """Have the tag StudyComments be there and ready."""
    if client.get("/v2/extendedquerytags/PatientAge").status_code == 404:
        query_tags.added(client, entry("PatientAge", "Study"))


def _added(operation: Asked) -> httpx.Response:
    query_tags.delete_all(operation.client)
    response = _send(operation, [entry("PatientAge", "Study")])
    query_tags.ended(operation.client, response.headers["location"])
    return response


def _again(operation: Asked) -> httpx.Response:
    _there(operation.client)
    return _send(operation, [entry("PatientAge", "Study")])


def _on_it(operation: Asked) -> httpx.Response:
    _there(operation.client)
    body = {"queryStatus": "Enabled"} if operation.method == "patch" else None
    return _send(operation, body, "PatientAge")


def _missing(operation: Asked) -> httpx.Response:
    return _send(operation, {"queryStatus": "Enabled"} if operation.method == "patch" else None)


def _bad(operation: Asked) -> httpx.Response:
    if operation.method in ("post", "patch"):
        return _send(operation, [entry("no such attribute")])
    return _send(operation, path="no such attribute", params={"limit": "0"})


def _large(operation: Asked) -> httpx.Response:
    return _send(operation, content=LARGE, headers={"content-type": "application/json"})


def _other_type(operation: Asked) -> httpx.Response:
    return _send(operation, content=b"[]", headers={"content-type": "text/plain"})


def all_well(operation: Asked) -> httpx.Response:
    """What the operation is there for, on a server that does not get as far."""
    if operation.method == "post":
        return _send(operation, [entry("PatientAge", "Study")])
    return _send(operation, {"queryStatus": "Enabled"} if operation.method == "patch" else None, "PatientAge")


_COMMON: Mapping[str, Callable[[Asked], httpx.Response]] = {
    "200": _on_it,
    "202": _added,
    "204": _on_it,
    "400": _bad,
    "404": _missing,
    "409": _again,
    "413": _large,
    "415": _other_type,
}
PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    (name, status): provoke
    for name in (
        "AddExtendedQueryTags",
        "GetExtendedQueryTags",
        "GetExtendedQueryTag",
        "UpdateExtendedQueryTag",
        "DeleteExtendedQueryTag",
        "GetExtendedQueryTagErrors",
    )
    for status, provoke in _COMMON.items()
}
NAMES = frozenset(name for name, _ in PROVOKED)
