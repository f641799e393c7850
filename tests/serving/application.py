"""A small ASGI application that says what it was asked, and a server around it, for tests of the HTTP server."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from hounsfield.serving.process import MAX_DESCRIPTORS, Serving
from hounsfield.serving.supervisor import listen
from hounsfield.storage.descriptor import Descriptor, FileRange

PARTS = 40
"""Parts of the answer to ``/files``."""


class Echo:
    """Answers with the request's method, path, query, headers and body, unless the path asks for something else."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.opened = 0
        self.bodies: list[bytes] = []
        self.chunk_sizes: list[int] = []
        self.disconnects = 0
        self.cut_off = 0
        self.events: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{event}"
                self.events.append(event)
                await send({"type": f"lifespan.{event}.complete"})
            return
        path = scope["path"]
        action = getattr(self, "on_" + path[1:].split("/")[0], None)
        if action is not None:
            await action(scope, receive, send)
            return
        body = await self._body(receive)
        if body is None:
            self.cut_off += 1
            await answer(send, 400, b"cut off")
            return
        self.bodies.append(body)
        said = {
            "method": scope["method"],
            "path": path,
            "raw": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "version": scope["http_version"],
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode("latin-1"),
        }
        await answer(send, 200, json.dumps(said).encode())

    async def _body(self, receive: Any) -> bytes | None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            self.chunk_sizes.append(len(message["body"]))
            body += bytes(message["body"])
            if not message["more_body"]:
                return bytes(body)

    async def on_early(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers without having asked for the body."""
        await answer(send, 413, b"too large")

    async def on_chunks(self, scope: Any, receive: Any, send: Any) -> None:
        """An answer whose length is not announced."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"", b"two" * 10_000, b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def on_file(self, scope: Any, receive: Any, send: Any) -> None:
        """Parts of a file between other bytes; ``/file/length`` announces the length."""
        assert self.file is not None
        size = self.file.stat().st_size
        headers = [(b"content-length", b"%d" % (size + 10 + 4))] if scope["path"].endswith("length") else []
        file = Descriptor(os.open(self.file, os.O_RDONLY))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"head", "more_body": True})
        await send({"type": "hounsfield.files", "parts": [(b"", FileRange(file, 0, size))], "more_body": True})
        await send({"type": "hounsfield.files", "parts": [(b"", FileRange(file, size - 10, 10))], "more_body": False})

    async def on_files(self, scope: Any, receive: Any, send: Any) -> None:
        """The file PARTS times, each with a number before it; ``/files/length`` announces the length, and
        ``/files/gone`` finds no more when half of them are sent."""
        assert self.file is not None
        size, last = self.file.stat().st_size, scope["path"].split("/")[-1]
        self.opened = 0

        def parts() -> Iterator[tuple[bytes, FileRange]]:
            for number in range(PARTS):
                if last == "gone" and number == PARTS // 2:
                    raise FileNotFoundError
                self.opened += 1
                assert self.file is not None
                yield b"%03d" % number, FileRange(Descriptor(os.open(self.file, os.O_RDONLY)), 0, size)

        headers = [(b"content-length", b"%d" % (PARTS * (size + 3) + 3))] if last == "length" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "hounsfield.files", "parts": parts(), "after": b"end", "more_body": False})

    async def on_short(self, scope: Any, receive: Any, send: Any) -> None:
        """Less than was announced."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"short", "more_body": False})

    async def on_fail(self, scope: Any, receive: Any, send: Any) -> None:
        """Breaks before it has said anything, or, ``/fail/late``, afterwards."""
        if scope["path"].endswith("late"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 5000, "more_body": True})
        raise ValueError("secret")

    async def on_silent(self, scope: Any, receive: Any, send: Any) -> None:
        """Never answers."""

    async def on_injected(self, scope: Any, receive: Any, send: Any) -> None:
        """A header that would be two."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nset-cookie: b")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def on_watch(self, scope: Any, receive: Any, send: Any) -> None:
        """Waits for the client to go."""
        await self._body(receive)
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnects += 1

    async def on_wait(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers when released."""
        await self.release.wait()
        await answer(send, 200, b"released")

    async def on_endless(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends until the client has had enough."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        finally:
            self.disconnects += 1

    async def on_upgrade(self, scope: Any, receive: Any, send: Any) -> None:
        """Says back what comes, in another protocol, until ``end`` or until nothing comes any more."""
        if "hounsfield.upgrade" not in scope["extensions"]:
            await answer(send, 400, b"no upgrade")
            return
        await send({"type": "http.response.start", "status": 101, "headers": [(b"upgrade", b"echo")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        while (message := await receive())["type"] != "http.disconnect" and message["body"] != b"end":
            await send({"type": "http.response.body", "body": b"<%s>" % message["body"], "more_body": True})
        await send({"type": "http.response.body", "body": b"bye"})

    async def on_bodiless(self, scope: Any, receive: Any, send: Any) -> None:
        """204 with a body, which may not be sent."""
        await answer(send, 204, b"not to be seen")


async def answer(send: Any, status: int, body: bytes) -> None:
    """One whole answer."""
    headers = [(b"Content-Length", b"%d" % len(body))] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Running:
    """A server in this process and loop; ``wrap`` may take the place of its listener."""

    def __init__(
        self,
        application: Echo,
        max_descriptors: int = MAX_DESCRIPTORS,
        wrap: Callable[[socket.socket], Any] = lambda sock: sock,
    ) -> None:
        self.application = application
        self.listener = wrap(listen("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.serving = Serving(application, self.listener, [0], 0, max_descriptors)
        self.stop = asyncio.Event()
        self.drain_seconds = 5.0
        self.clients: list[Client] = []

    async def connect(self, local: str | None = None) -> "Client":
        """A new connection; ``local`` is the address it comes from."""
        origin = None if local is None else (local, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24, local_addr=origin)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def exchange(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """All that comes back on one connection for these bytes, until the server closes it."""
        client = await self.connect()
        try:
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(pause)
            return await client.rest()
        finally:
            await client.close()

    async def idle(self) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(10):
            while self.serving.connections:
                await asyncio.sleep(0.005)


class Client:
    """A connection of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def address(self) -> tuple[str, int]:
        """Where the connection comes from."""
        found: tuple[str, int] = self.writer.get_extra_info("sockname")
        return found

    async def send(self, data: bytes) -> None:
        """Send everything."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything until the end of the connection."""
        received = bytearray()
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(1 << 20):
                    received += piece
        return bytes(received)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines[1:] if line}
            status = int(lines[0].split(" ")[1])
            if headers.get("transfer-encoding") == "chunked":
                chunks = []
                while size := int(await self.reader.readline(), 16):
                    chunks.append(await self.reader.readexactly(size))
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
                body = b"".join(chunks)
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return status, headers, body

    async def close(self) -> None:
        """End the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """End it at once, as a client that crashes does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def running(application: Echo, **options: Any) -> AsyncIterator[Running]:
    """A server that serves ``application``; options as :class:`Running` has them."""
    server = Running(application, **options)
    task = asyncio.create_task(server.serving.run(server.stop, server.drain_seconds))
    try:
        yield server
    finally:
        for client in server.clients:
            await client.close()
        server.stop.set()
        await task
