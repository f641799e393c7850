"""Connections when there is room for no more of them."""

import asyncio
import errno
import logging
import os
import socket
from typing import Any

import pytest

from tests.serving.application import Client, Echo, Running, running

DESCRIPTORS = 40
ROOM = DESCRIPTORS // 2
"""Connections; the rest is for files."""
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"


async def answered(client: Client, request: bytes = GET) -> None:
    await client.send(request)
    assert (await client.response())[0] == 200


async def full(server: Running, request: bytes = b"") -> list[Client]:
    """Clients that take all the room."""
    clients = []
    for _ in range(ROOM):
        clients.append(await server.connect())
        await clients[-1].send(request)
    async with asyncio.timeout(10):
        while len(server.serving.connections) < ROOM:
            await asyncio.sleep(0.005)
    return clients


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_unused_connections_make_room_oldest_first(begun: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with running(Echo(), max_descriptors=DESCRIPTORS) as server:
        clients = await full(server, begun)
        await answered(clients[0], GET if not begun else b"st: h\r\n\r\n")  # so it is the one that was used last
        async with asyncio.timeout(5):
            await answered(await server.connect())
            assert await clients[1].reader.read() == b""
        await answered(clients[0])
        assert ROOM * 15 // 16 <= len(server.serving.connections) <= ROOM
    assert [record.levelno for record in caplog.records if "No room" in record.message] == [logging.WARNING]


async def test_connections_in_use_are_left_alone() -> None:
    echo = Echo()
    async with running(echo, max_descriptors=DESCRIPTORS) as server:
        clients = await full(server, WAIT)
        late = await server.connect()
        await late.send(GET)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await late.response()
        assert len(server.serving.connections) == ROOM
        echo.release.set()
        for client in clients:
            assert (await client.response())[2] == b"released"
        # None of them has ended, they are unused now.
        assert (await late.response())[0] == 200


class Refusing:
    """A listener for whose connections the process has no descriptors left."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.refuses = False
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        if self.refuses:
            self.refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._sock.accept()


async def test_without_descriptors_it_is_quiet_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Echo(), wrap=Refusing) as server:
        listener: Any = server.listener
        clients = [await server.connect() for _ in range(40)]
        for client in clients:
            await answered(client)
        listener.refuses = True
        late = await server.connect()
        await late.send(GET)
        for client in clients[:20]:  # each that ends is no reason to try again at once
            await client.close()
            await asyncio.sleep(0.06)
        assert 1 <= listener.refused <= 4
        assert await clients[20].reader.read() == b""
        await answered(clients[39])
        listener.refuses = False
        assert (await late.response())[0] == 200
    assert sum("Too many open files" in record.message for record in caplog.records) == 1
