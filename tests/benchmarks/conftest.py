"""An HTTP server that answers as a test wants."""

import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.servers import Server
from benchmarks.wire import Base

Reply = Callable[[str, dict[str, str]], bytes]
Answering = Callable[[Reply], Server]


def http(status: int, body: bytes, *headers: str) -> bytes:
    """A response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts a server that answers every GET with what ``reply(path, headers)`` returns."""
    running: list[socketserver.ThreadingTCPServer] = []

    def start(reply: Reply) -> Server:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    headers = {}
                    while (header := self.rfile.readline().decode().strip()) != "":
                        name, _, value = header.partition(": ")
                        headers[name.lower()] = value
                    self.wfile.write(reply(line.split()[1].decode(), headers))

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return Server("fake", Base("127.0.0.1", server.server_address[1], ""), list, "made up")

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
