"""How each status of bulk update is provoked, for the walk of the OpenAPI documents."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import httpx

LARGE = b" " * 1_100_000
NAME = "BulkUpdateStudies"
_NOTHING = {"studyInstanceUids": ["1.2.3"], "changeDataset": {}}


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str
    partition: str


def _send(operation: Asked, body: object = None, **more: object) -> httpx.Response:
    url = operation.path.replace("{partitionName}", operation.partition)
    kind = {} if body is None else {"json": body}
    return operation.client.request(operation.method, url, **kind, **more)  # type: ignore[arg-type]


def all_well(operation: Asked) -> httpx.Response:
    """An update, begun once there is no other."""
    while (response := _send(operation, _NOTHING)).status_code == 409:
        time.sleep(0.05)
    return response


def _beside(operation: Asked) -> httpx.Response:
    all_well(operation)
    return _send(operation, _NOTHING)


PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    (NAME, "202"): all_well,
    (NAME, "400"): lambda operation: _send(operation, {"changeDataset": {}}),
    (NAME, "409"): _beside,
    (NAME, "413"): lambda operation: _send(operation, content=LARGE, headers={"content-type": "application/json"}),
    (NAME, "415"): lambda operation: _send(operation, content=b"{}", headers={"content-type": "text/plain"}),
}
