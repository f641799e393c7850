"""How each status of the operations on cast's error tables is provoked, for the walk of the OpenAPI documents."""

from collections.abc import Callable, Mapping
from typing import Protocol

import httpx


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str


def _with(query: str) -> Callable[[Asked], httpx.Response]:
    def send(operation: Asked) -> httpx.Response:
        return operation.client.request(operation.method, f"{operation.path}{query}")

    return send


PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    ("EmptyCastErrors", "204"): _with("?table=TransientRetryExceptionTable"),
    ("EmptyCastErrors", "400"): _with(""),
    ("RetryCastErrors", "202"): _with("?study=1.2.3"),
    ("RetryCastErrors", "400"): _with("?table=InvalidDicomTagExceptionTable"),
}
