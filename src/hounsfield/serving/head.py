"""Request heads (RFC 9112): what llhttp makes of them, and what this server refuses.

What it made of headers that come again is remembered, as parsing a head costs more than sending a small answer.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; tokens and long lists of accepted types included, real ones stay below 16 KB."""
MAX_HEADERS = 200

_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
"""A host and perhaps a port (RFC 9110 §7.2); addresses of ours in answers are made of it."""
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_OVERHEAD_BYTES = 1 << 20
"""Bytes of chunk sizes, extensions and trailers that may come with no data at all."""
_OVERHEAD_RATIO = 16
"""And such bytes for each byte of data: a chunk of one byte takes five."""
_PLAIN = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1\r\n")
"""A request line without anything to think about: method and target."""
_SECRET = frozenset((b"authorization", b"proxy-authorization", b"cookie"))
_REMEMBERED = 256
"""Header blocks kept per process: a client sends the same headers with nearly every request."""
_REMEMBERED_BYTES = 4096
"""Of the longest that is kept."""


class _Headers(NamedTuple):
    """What follows from the headers of a request with a plain line that asks for no other protocol."""

    fields: tuple[tuple[bytes, bytes], ...]
    length: int
    expects_continue: bool
    keep_alive: bool


_met: dict[bytes, _Headers] = {}


def end_of_head(received: bytearray, start: int) -> int:
    """Where what follows a head begins, whose end is behind ``start``; -1 if it is not there yet.

    A line may end without CR (RFC 9112 §2.2).
    """
    with_return = received.find(b"\n\r\n", start)
    without = received.find(b"\n\n", start, with_return + 1 if with_return >= 0 else len(received))
    if without >= 0:
        return without + 2
    return with_return + 3 if with_return >= 0 else -1


class RefusedHead(Exception):
    """A request nobody can answer; the connection ends with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class MalformedBody(Exception):
    """Chunked coding that is none."""


class RequestHead:
    """One request up to its body: ``scope`` as ASGI has it, and how its body comes.

    ``length`` is the Content-Length (0 where there is no body), None for a chunked body, which ``chunks`` decodes.
    """

    def __init__(self, head: bytes) -> None:
        """Raises RefusedHead."""
        self.length: int | None = 0
        self.expects_continue = False
        self.keep_alive = False
        """Whether the client wants to go on with this connection."""
        self.old_client = False
        """HTTP/1.0: no chunks, and connections end unless both sides say otherwise."""
        self.upgrades = False
        """Whether the client asks for another protocol (RFC 9110 §7.8)."""
        self.has_surplus = False
        """Whether something came in one piece with the end of a chunked body; it is lost."""
        self._version = "1.1"
        line = _PLAIN.match(head)
        block = head[line.end() :] if line is not None else b""
        met = _met.get(block)
        if line is not None and met is not None:
            self._method, self._url = line[1].decode("ascii"), line[2]
            self._headers = list(met.fields)
            self.length, self.expects_continue, self.keep_alive = met[1:]
        else:
            self._parse(head)
            if line is not None:
                self._remember(block)
        # With a body, the request is answered as it stands.
        self.upgrades = self.upgrades and self.length == 0 and self._version == "1.1"
        self.scope = self._scope()

    def _remember(self, block: bytes) -> None:
        """Keep what the headers mean, unless the parser is still needed. Tokens stay no longer than their request."""
        if self.length is None or self.upgrades or len(block) > _REMEMBERED_BYTES:
            return
        if any(name in _SECRET for name, _ in self._headers):
            return
        if len(_met) >= _REMEMBERED:
            _met.clear()
        _met[block] = _Headers(tuple(self._headers), self.length, self.expects_continue, self.keep_alive)

    def _parse(self, head: bytes) -> None:
        self._method = ""
        self._url = b""
        self._headers = []
        self._in_head = True
        self._complete = False
        self._data: list[bytes] = []
        self._overhead = 0
        self._parser = HttpRequestParser(self)
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            self.upgrades = True
        except HttpParserInvalidMethodError:
            raise RefusedHead(501, "This method is not known here.") from None
        except HttpParserError:
            raise RefusedHead(400, "The request is not valid HTTP.") from None
        if self._in_head:
            raise RefusedHead(400, "The request is not valid HTTP.")
        if self._version not in ("1.1", "1.0"):
            raise RefusedHead(505, "This server speaks HTTP/1.1.")
        self._look_at_headers()

    def chunks(self, data: memoryview) -> tuple[bytes, bool]:
        """What these bytes of a chunked body hold, and whether it is complete. Raises MalformedBody."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        except HttpParserError:
            # Whatever follows a complete body is another matter: the connection is not kept then.
            if not self._complete:
                raise MalformedBody from None
        body = b"".join(self._data) if len(self._data) != 1 else self._data[0]
        self._data = []
        self._overhead += len(data) - (1 + _OVERHEAD_RATIO) * len(body)
        if self._overhead > _OVERHEAD_BYTES:
            raise MalformedBody
        return body, self._complete

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser, which knows these things only now."""
        parser = self._parser
        self._in_head = False
        self._version = parser.get_http_version()
        self._method = parser.get_method().decode("ascii")
        self.old_client = self._version == "1.0"
        self.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.has_surplus = self._complete

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if not self._complete:
            self._data.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete = True

    def _look_at_headers(self) -> None:
        if len(self._headers) > MAX_HEADERS:
            raise RefusedHead(431, f"A request may have {MAX_HEADERS} headers.")
        hosts = 0
        for name, value in self._headers:
            if name == b"content-length":
                # The parser has seen that it is one number and comes once.
                self.length = int(value)
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise RefusedHead(501, "The only transfer coding supported is chunked.")
                self.length = None
            elif name == b"expect":
                self.expects_continue = value.lower() == b"100-continue"
            elif name == b"host":
                hosts += 1
                if _HOST.fullmatch(value.strip()) is None:
                    raise RefusedHead(400, "The Host header is not a host with or without a port.")
        if hosts > 1 or (hosts == 0 and self._version == "1.1"):
            raise RefusedHead(400, "A request needs one Host header.")

    def _scope(self) -> dict[str, Any]:
        target = _ORIGIN.sub(b"", self._url, count=1) if not self._url.startswith(b"/") else self._url
        raw_path, _, query = target.partition(b"#")[0].partition(b"?")
        if not raw_path.startswith(b"/"):
            if raw_path not in (b"", b"*"):
                raise RefusedHead(400, "The request target is not a path.")
            raw_path = raw_path or b"/"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._version,
            "method": self._method,
            "scheme": "http",
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
        }
