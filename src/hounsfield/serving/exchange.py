"""One request and its answer, as ASGI messages."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from hounsfield.serving.head import RequestHead

if TYPE_CHECKING:
    from hounsfield.serving.connection import Connection

Message = dict[str, Any]
Bytes = bytes | bytearray | memoryview


class OpenFile(Protocol):
    """Holds a descriptor open."""

    @property
    def number(self) -> int:
        """The descriptor."""


class FilePart(Protocol):
    """Bytes of a file: ``length`` of them from ``offset``."""

    @property
    def file(self) -> OpenFile: ...

    @property
    def offset(self) -> int: ...

    @property
    def length(self) -> int: ...


JOIN_BYTES = 16 * 1024
"""A body up to this size is copied behind its head, which is cheaper than handing over two pieces."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_NO_BODY = (204, 304)


class ClientGone(OSError):
    """The client has closed the connection; whatever produces its answer can stop."""


class Exchange:
    """What the application is called with. ``receive`` and ``send`` are those of the ASGI HTTP specification 2.4.

    Chunks of the body are ``bytearray`` or ``bytes``, the receiver's to keep. ``send`` returns when the kernel has
    taken the bytes, and raises ClientGone when nobody is left to take them.

    Extension ``hounsfield.files``: a message of this type sends parts of files without their passing through Python.
    ``parts`` are pairs of bytes and the part of a file that follows them, at least one and at least a byte each, taken
    from the iterable as they are sent; ``after`` follows the last.

    Where the client asks for another protocol (RFC 9110 §7.8), extension ``hounsfield.upgrade`` lets the application
    answer 101: from then on ``receive`` hands over what comes, and ``send`` sends bodies, both as they are, until the
    last body. A process that is about to end disconnects, and what is then sent still arrives.
    """

    __slots__ = (
        "_broken",
        "_chunked",
        "_connection",
        "_continue",
        "_head",
        "_left",
        "_received",
        "_status",
        "_waiter",
        "body",
        "body_complete",
        "complete",
        "head",
        "keep_alive",
        "started",
        "upgraded",
    )

    def __init__(self, connection: "Connection", head: RequestHead) -> None:
        self.head = head
        self.body: deque[bytes | bytearray] = deque()
        """Received and not handed over yet."""
        self.body_complete = head.length == 0
        self.started = False
        """Whether anything of the answer has left."""
        self.complete = False
        """Whether all of it has."""
        self.upgraded = False
        """Whether another protocol than HTTP is spoken now."""
        self.keep_alive = head.keep_alive
        self._connection = connection
        self._continue = head.expects_continue and not self.body_complete
        self._broken = False
        self._received = False  # the last of the body has been handed over
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._head = b""
        self._chunked = False
        self._left = 0  # bytes of the announced length that are still to come

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client may still be waiting to be told to send its body."""
        return self._continue

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the end of the connection tells that the answer is whole (HTTP/1.0)."""
        return self._left < 0

    @property
    def is_waiting(self) -> bool:
        """Whether the application is waiting for more of the body, or for the end of the connection."""
        return self._waiter is not None

    def wake(self) -> None:
        """Something has changed that ``receive`` may be waiting for."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def break_body(self) -> None:
        """The rest of the body will not come; the application learns of it as of a client that has gone, and can still
        say what it thinks of that."""
        self._broken = True
        self.keep_alive = False
        self.wake()

    async def receive(self) -> Message:
        """See the class."""
        if self._continue:
            self._continue = False
            if not self.started:
                await self._connection.output.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
        while True:
            # What has come is handed over even if the client has gone since: the application may need no more.
            if self.body:
                chunk = self.body.popleft()
                self._connection.body_taken()
                more = bool(self.body) or not self.body_complete or self.upgraded
                self._received = not more
                return {"type": "http.request", "body": chunk, "more_body": more}
            if self._connection.lost or self.complete or self._broken:
                return {"type": "http.disconnect"}
            if self.body_complete and not self._received and not self.upgraded:
                self._received = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._waiter = self._connection.loop.create_future()
            self._connection.body_wanted()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def send(self, message: Message) -> None:
        """See the class."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._status:
                raise RuntimeError("The answer has been started already.")
            self._start(message["status"], message.get("headers", ()))
        elif not self._status or self.complete:
            raise RuntimeError(f"{kind} cannot be sent now.")
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), bool(message.get("more_body", False)))
        elif kind == "hounsfield.files":
            more = bool(message.get("more_body", False))
            await self._send_files(message["parts"], message.get("after", b""), more)
        else:
            raise RuntimeError(f"{kind} is not known here.")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        length: int | None = None
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._connection.date_line]
        headers = list(headers)
        text = b"".join([part for header in headers for part in header])
        if b"\n" in text or b"\r" in text or b"\0" in text:
            raise ValueError("A header of the answer holds a line break.")
        for name, value in headers:
            lowered = name.lower()
            if lowered == b"content-length":
                length = int(value)
            elif lowered == b"connection" and value.lower() == b"close":
                self.keep_alive = False
                continue
            elif lowered == b"transfer-encoding":
                continue
            lines += (name, b": ", value, b"\r\n")
        if status == 101:
            self._upgrade(lines)
            return
        self._status = status
        if self._has_no_body:
            self._left = 0
        elif length is not None:
            self._left = length
        elif self.head.old_client:
            self._left, self.keep_alive = -1, False  # the end of the connection is the end of the body
        else:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.body_complete and not self._connection.can_skip_body():
            self.keep_alive = False
        if not self.keep_alive or self._connection.is_draining:
            self.keep_alive = False
            lines.append(b"connection: close\r\n")
        elif self.head.old_client:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _upgrade(self, lines: list[bytes]) -> None:
        if not self.head.upgrades:
            raise RuntimeError("The client did not ask for another protocol.")
        self._status, self._head = 101, b"".join([*lines, b"\r\n"])
        # The end of the connection ends it, in good order as well.
        self._left, self.keep_alive, self.upgraded = -1, False, True
        self._connection.upgrade()

    async def _send_body(self, body: Bytes, more: bool) -> None:
        pieces: list[Bytes] = []
        if self._head:
            pieces.append(self._head)
            self._head = b""
        size = self._count(len(body))
        if size:
            if self._chunked:
                pieces += (b"%x\r\n" % size, body, b"\r\n")
            else:
                pieces.append(body)
        if not more:
            self._check_end()
            if self._chunked:
                pieces.append(b"0\r\n\r\n")
        if size <= JOIN_BYTES and len(pieces) > 1:
            pieces = [b"".join(pieces)]
        self.started = True
        if pieces:
            # Of another protocol nobody knows when more comes.
            await self._connection.output.write(pieces, more=more and not self.upgraded)
        if not more:
            self._finish()

    async def _send_files(self, parts: Iterable[tuple[bytes, FilePart]], after: bytes, more: bool) -> None:
        output = self._connection.output
        if self._has_no_body:
            await self._send_body(b"", more=True)
        else:
            output.fill_packets(True)
            try:
                await output.write_files(self._framed(parts))
                end = self._framed_end(after)
                if not more:
                    self._check_end()
                    end += b"0\r\n\r\n" if self._chunked else b""
                if end:
                    await output.write([end], more=more)
            finally:
                output.fill_packets(False)
        if not more:
            self._finish()

    def _framed(self, parts: Iterable[tuple[bytes, FilePart]]) -> Iterator[tuple[bytes, FilePart]]:
        """The parts behind the head of the answer, as chunks where its length is not known."""
        opening, self._head = self._head, b""
        for before, part in parts:
            size = len(before) + part.length
            if self._chunked:
                opening += b"%x\r\n" % size
            else:
                self._count(size)
            self.started = True
            yield opening + before, part
            opening = b"\r\n" if self._chunked else b""

    def _framed_end(self, after: bytes) -> bytes:
        """What follows the last part of a file."""
        size = self._count(len(after))
        if not self._chunked:
            return after
        return b"\r\n%x\r\n%b\r\n" % (size, after) if size else b"\r\n"

    @property
    def _has_no_body(self) -> bool:
        return self._status in _NO_BODY or self.head.scope["method"] == "HEAD"

    def _count(self, size: int) -> int:
        """How much of ``size`` bytes goes out: nothing where the answer has no body."""
        if self._chunked or self._left < 0:
            return size
        if size > self._left:
            if self._has_no_body:
                return 0
            raise RuntimeError("The body is longer than its Content-Length.")
        self._left -= size
        return size

    def _check_end(self) -> None:
        if self._left > 0:
            raise RuntimeError("The body is shorter than its Content-Length.")

    def _finish(self) -> None:
        self.complete = True
        self.wake()
