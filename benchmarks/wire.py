"""A lean HTTP/1.1 client: one connection, prebuilt bytes out, counted bytes in.

It exists because the load generator shares two cores with the server it measures: a general HTTP library costs more
per request than the servers do. It speaks what servers answer with (a length, chunks, or a body up to the end of the
connection) and nothing else: no redirects, no content codings, no TLS.
"""

import mmap
import re
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

RECEIVE_BYTES = 1 << 18
"""Fits a processor's cache beside what the server needs there."""
SAMPLE_BYTES = 1 << 12
"""How much of a body is kept when the caller does not ask for all of it: enough to tell what a server complains of."""
MAX_HEADER_BYTES = 1 << 16
"""Where the search for the end of a header ends."""
HEAD_BYTES = 1 << 12
"""What is received at a time where the end of a header is looked for."""
HEADER_WINDOW_BYTES = 1 << 10
"""How far to look for the end of a header line at first; chunk headers are short and many."""
BUFFERS_A_CALL = 512
"""Below IOV_MAX (1024) of Linux."""
TIMEOUT_SECONDS = 300
PASSED_BYTES = 1 << 20
"""Bytes that are passed over at a time; they wait in the kernel until they are all there."""
_NOWHERE = mmap.mmap(-1, PASSED_BYTES)
"""What the kernel is told to put bytes into that it does not: pages that are never touched are never there."""
_COUNT_ONLY = int(socket.MSG_TRUNC | socket.MSG_DONTWAIT)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*(?:\r\n|\Z)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r\n|\Z)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*(?:\r\n|\Z)", re.IGNORECASE)


class WireError(Exception):
    """The server broke the protocol or the connection in the middle of an answer."""


@dataclass(frozen=True)
class Base:
    """A base URL taken apart."""

    host: str
    port: int
    root: str

    @classmethod
    def parse(cls, url: str) -> "Base":
        """From ``http://host:port/root``; a trailing slash is dropped. Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"not a plain http:// base URL: {url}")
        return cls(parts.hostname, parts.port or 80, parts.path.rstrip("/"))

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}{self.root}"

    def get(self, path: str, accept: str, header: str = "") -> bytes:
        """A GET request for ``path`` below the base, with one more header line if given (without its end)."""
        more = f"{header}\r\n" if header else ""
        return (
            f"GET {self.root}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: {accept}\r\n{more}\r\n"
        ).encode()

    def post(self, path: str, content_type: str, accept: str, length: int) -> bytes:
        """The head of a POST request with a body of ``length`` bytes."""
        return (
            f"POST {self.root}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: {accept}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()


class Answer(NamedTuple):
    """A response: ``body`` is whole when it was asked for, else its first bytes; ``length`` counts all of it."""

    status: int
    head: bytes
    """Header lines, each behind the end of the one before."""
    body: bytes | bytearray
    length: int

    @property
    def headers(self) -> dict[str, str]:
        """By their names in lower case; taken apart here, as most answers are only counted."""
        lines = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip() for name, _, value in lines}


class Connection:
    """A persistent connection; opened on first use and again when the server closed it between requests."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._socket: socket.socket | None = None
        self._arrivals = select.poll()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._start = self._end = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops the connection."""
        if self._socket is not None:
            self._arrivals.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._start = self._end = 0

    def open(self) -> None:
        """Connects, unless a live connection is there."""
        if self._socket is not None and self._arrivals.poll(0):
            self.close()  # the server hung up, or sent bytes nobody asked for
        if self._socket is None:
            self._socket = socket.create_connection((self.base.host, self.base.port), TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._arrivals.register(self._socket, select.POLLIN)
            # A time limit of Python's own would cost a system call for every piece, and rule out MSG_WAITALL.
            self._socket.settimeout(None)
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", TIMEOUT_SECONDS, 0))

    def exchange(
        self, buffers: Sequence[bytes], whole: bool = False, begun: Callable[[], None] | None = None
    ) -> Answer:
        """Sends the buffers of one request and reads the answer to its end; ``begun`` is told of its body's first byte.

        Raises WireError when the answer is cut off or no HTTP, OSError when the connection fails.
        """
        self.open()
        self._send(buffers)
        status, head = self._read_head()
        body = _Body(whole)
        if begun is not None:
            if self._start == self._end:
                self._fill()
            begun()
        to_end = False
        if status in (204, 304):
            pass  # no body, whatever length a 304 says the body would have (RFC 9110 §15.4.5)
        elif _CHUNKED.search(head):
            self._read_chunks(body)
        elif length := _LENGTH.search(head):
            self._take(int(length[1]), body)
        else:
            to_end = True
            self._read_to_end(body)
        if to_end or _CLOSE.search(head):
            self.close()
        return Answer(status, head, body.kept, body.length)

    def _send(self, buffers: Sequence[bytes]) -> None:
        assert self._socket is not None
        waiting: list[bytes | memoryview] = list(buffers)
        at = 0
        while at < len(waiting):
            sent = self._socket.sendmsg(waiting[at : at + BUFFERS_A_CALL])
            while at < len(waiting) and sent >= len(waiting[at]):
                sent -= len(waiting[at])
                at += 1
            if sent:
                waiting[at] = memoryview(waiting[at])[sent:]

    def _fill(self, wanted: int = 1) -> bool:
        """Reads more bytes behind those not taken yet, ``wanted`` if they fit; False at the end of the connection.

        Waiting for them in the kernel spares a wake-up for every piece a server sends.
        """
        assert self._socket is not None
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == RECEIVE_BYTES:
            if self._start == 0:
                raise WireError("a header line longer than the receive buffer")
            left = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(left)] = left
            self._start, self._end = 0, len(left)
        if wanted > 1:
            space = self._buffer[self._end : self._end + wanted]
            count = self._socket.recv_into(space, flags=socket.MSG_WAITALL)
        else:
            # A head, and little of what follows it: that may be nothing anybody looks at.
            count = self._socket.recv_into(self._buffer[self._end : self._end + HEAD_BYTES])
        self._end += count
        return count > 0

    def _pass_over(self, count: int) -> None:
        """Takes bytes that nobody looks at: counted by the kernel, which need not copy them to us (Linux).

        Nor wake us for each piece a server sends: on two cores that would take the processor from the server.
        """
        assert self._socket is not None
        while count:
            step = min(count, PASSED_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, step)
            self._arrivals.poll(1000 * TIMEOUT_SECONDS)
            taken = self._socket.recv_into(_NOWHERE, step, _COUNT_ONLY)
            if not taken:
                raise WireError(f"the connection ended {count} bytes before the end of the body")
            count -= taken
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _read_to(self, mark: bytes) -> bytes:
        """Everything before ``mark``, which is skipped."""
        window = HEADER_WINDOW_BYTES
        while True:
            pending = bytes(self._buffer[self._start : min(self._end, self._start + window)])
            at = pending.find(mark)
            if at >= 0:
                self._start += at + len(mark)
                return pending[:at]
            if len(pending) == window:
                if window >= MAX_HEADER_BYTES:
                    raise WireError("no end of a header in sight")
                window *= 8
            elif not self._fill():
                raise WireError("the connection ended inside an answer's header")

    def _read_head(self) -> tuple[int, bytes]:
        """The status and the header lines, each behind the end of the one before."""
        while True:
            first, end, lines = self._read_to(b"\r\n\r\n").partition(b"\r\n")
            try:
                version, code = first.split(b" ")[:2]
                status = int(code)
            except ValueError as error:
                raise WireError(f"no HTTP status line: {first[:60]!r}") from error
            if not version.startswith(b"HTTP/1."):
                raise WireError(f"no HTTP status line: {first[:60]!r}")
            if status >= 200:
                return status, end + lines

    def _take(self, count: int, body: "_Body") -> None:
        if body.is_whole and not body.length:
            self._take_whole(count, body)
            return
        while count:
            if self._start == self._end and not (wanted := body.wanted(count)):
                self._pass_over(count)
                body.length += count
                return
            if self._start == self._end and not self._fill(wanted):
                raise WireError(f"the connection ended {count} bytes before the end of the body")
            step = min(count, self._end - self._start)
            body.add(self._buffer[self._start : self._start + step])
            self._start += step
            count -= step

    def _take_whole(self, count: int, body: "_Body") -> None:
        """A body in one piece, received where it stays."""
        assert self._socket is not None
        body.kept = bytearray(count)
        body.length = count
        place = memoryview(body.kept)
        there = min(count, self._end - self._start)
        place[:there] = self._buffer[self._start : self._start + there]
        self._start += there
        while there < count:
            received = self._socket.recv_into(place[there:], flags=socket.MSG_WAITALL)
            if not received:
                raise WireError(f"the connection ended {count - there} bytes before the end of the body")
            there += received

    def _read_chunks(self, body: "_Body") -> None:
        while True:
            line = self._read_to(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                while self._read_to(b"\r\n"):
                    pass  # trailers
                return
            self._take(size, body)
            if self._read_to(b"\r\n"):
                raise WireError("a chunk longer than it said")

    def _read_to_end(self, body: "_Body") -> None:
        while self._start < self._end or self._fill(RECEIVE_BYTES):
            body.add(self._buffer[self._start : self._end])
            self._start = self._end


class _Body:
    def __init__(self, whole: bool) -> None:
        self.kept = bytearray()
        self.length = 0
        self.is_whole = whole
        self._limit = None if whole else SAMPLE_BYTES

    def wanted(self, count: int) -> int:
        """How many of the next ``count`` bytes are kept; what follows them is only counted."""
        return count if self._limit is None else min(count, self._limit - len(self.kept))

    def add(self, piece: memoryview) -> None:
        if self._limit is None:
            self.kept += piece
        elif len(self.kept) < self._limit:
            self.kept += piece[: self._limit - len(self.kept)]
        self.length += len(piece)
