"""How each status of the operations on cast's error tables is provoked, for the walk of the OpenAPI documents."""

from collections.abc import Callable, Mapping
from typing import Protocol

import httpx

from tests.acceptance import query_tags


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str


def _with(query: str) -> Callable[[Asked], httpx.Response]:
    def send(operation: Asked) -> httpx.Response:
        return operation.client.request(operation.method, f"{operation.path}{query}")

    return send


def _rebuild(operation: Asked) -> httpx.Response:
    """Started, and seen to its end: there is one at a time."""
    response = operation.client.post(operation.path)
    if response.status_code == 202:
        query_tags.ended(operation.client, response.headers["location"])
    return response


def _rebuild_again(operation: Asked) -> httpx.Response:
    first = operation.client.post(operation.path)
    response = operation.client.post(operation.path)
    query_tags.ended(operation.client, first.headers["location"])
    return response


PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    ("EmptyCastErrors", "204"): _with("?table=TransientRetryExceptionTable"),
    ("EmptyCastErrors", "400"): _with(""),
    ("RebuildCast", "202"): _rebuild,
    ("RebuildCast", "400"): _with("?fromSequence=first"),
    ("RebuildCast", "409"): _rebuild_again,
    ("RetryCastErrors", "202"): _with("?study=1.2.3"),
    ("RetryCastErrors", "400"): _with("?table=InvalidDicomTagExceptionTable"),
}
