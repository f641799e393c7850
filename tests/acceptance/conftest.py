"""Servers for the acceptance tests: the real command, one a module wherever tests can share it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.server import Server

QUIET = ("--no-cast", "--no-fhir")
"""Arguments of a server whose FHIR side does not matter to the test."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with an archive of its own; it must stop cleanly and have logged no surprise."""
    server = Server(tmp_path_factory.mktemp("server") / "data", QUIET)
    try:
        server.start()
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of :func:`server`."""
    with server.client() as client:
        yield client
