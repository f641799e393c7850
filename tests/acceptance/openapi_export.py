"""How each status of export is provoked, for the walk of the OpenAPI documents."""

import threading
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

import httpx

NAME = "Export"
LARGE = b" " * (4 * 1024 * 1024 + 1)


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str
    partition: str


class _Container(BaseHTTPRequestHandler):
    """Takes every blob, as a container does."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to tell."""


@cache
def _container() -> str:
    """The address of a container that takes everything, for as long as the tests run."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Container)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/account/container?sig=abc"


def _send(operation: Asked, uri: str, values: list[str]) -> httpx.Response:
    body = {
        "source": {"type": "identifiers", "settings": {"values": values}},
        "destination": {"type": "azureBlob", "settings": {"blobContainerUri": uri}},
    }
    return operation.client.post(operation.path.replace("{partitionName}", operation.partition), json=body)


def _content(operation: Asked, content: bytes, media_type: str) -> httpx.Response:
    path = operation.path.replace("{partitionName}", operation.partition)
    return operation.client.post(path, content=content, headers={"content-type": media_type})


def all_well(operation: Asked) -> httpx.Response:
    """A valid request."""
    return _send(operation, _container(), ["1.2.3"])


PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    (NAME, "202"): all_well,
    (NAME, "400"): lambda operation: _send(operation, _container(), []),
    (NAME, "413"): lambda operation: _content(operation, LARGE, "application/json"),
    (NAME, "415"): lambda operation: _content(operation, b"{}", "text/plain"),
}
