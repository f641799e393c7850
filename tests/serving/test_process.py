"""How connections are accepted."""

import contextlib
import os
import socket
import sys

import pytest

from tests.serving.application import Echo, running

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_CONGESTION and 127.0.0.2 are Linux's")


async def test_connections_within_this_machine_are_not_paced() -> None:
    async with running(Echo()) as server:
        near = await server.connect()
        far = await server.connect(local="127.0.0.2")  # another address: there might be a network between
        for client in (near, far):
            await client.send(GET)
            assert (await client.response())[0] == 200
        assert congestion_control(near.address) == "reno"
        assert congestion_control(far.address) == default_congestion_control()


def congestion_control(client: tuple[str, int]) -> str:
    """What the end of a client's connection that is in this process, too, is set to."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # a listener has no peer, and the listing itself is gone
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.getpeername() == client:
                        return _of(sock)
    raise AssertionError(f"nobody is connected to {client}")


def default_congestion_control() -> str:
    """What a new socket begins with."""
    with socket.socket() as sock:
        return _of(sock)


def _of(sock: socket.socket) -> str:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
