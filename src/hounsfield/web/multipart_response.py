"""multipart/related answers, streamed (retrieve.md §4)."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from hounsfield.storage.object_store import Buffer
from hounsfield.web.file_response import BytesResponse

JOIN_BYTES = 64 * 1024
"""A part's head travels with its first bytes unless copying them would cost more than another message."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content type and its bytes as they come."""

    content_type: str
    chunks: AsyncIterator[Buffer]


class MultipartResponse:
    """ASGI response of parts that are produced while they are sent.

    Has a Content-Length when the size of every part is known beforehand. A failure while streaming is raised, which
    ends the connection: never a short but well-formed body.
    """

    def __init__(self, parts: AsyncIterator[Part], *, sizes: list[tuple[str, int]] | None) -> None:
        """``sizes`` lists content type and size of every part, in order, or is None if any is not known."""
        self._parts = parts
        self._boundary = secrets.token_hex(16)
        self._length = None if sizes is None else self._total(sizes)

    def _head(self, content_type: str) -> bytes:
        return _head(self._boundary, content_type)

    def _tail(self) -> bytes:
        return _tail(self._boundary)

    def _total(self, sizes: list[tuple[str, int]]) -> int:
        heads: dict[str, int] = {}
        total = len(self._tail())
        for content_type, size in sizes:
            if content_type not in heads:
                heads[content_type] = len(self._head(content_type)) + len(b"\r\n")
            total += heads[content_type] + size
        return total

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", f"multipart/related; boundary={self._boundary}".encode())]
        if self._length is not None:
            headers.append((b"content-length", str(self._length).encode()))
        # Sent with the first bytes, so that what fails before them is still answered as an error.
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": headers}
        head = b""
        async for part in self._parts:
            head += self._head(part.content_type)
            async for chunk in part.chunks:
                if start is not None:
                    await send(start)
                    start = None
                if head and len(chunk) > JOIN_BYTES:
                    await send({"type": "http.response.body", "body": head, "more_body": True})
                    head = b""
                await send({"type": "http.response.body", "body": head + chunk if head else chunk, "more_body": True})
                head = b""
            head += b"\r\n"
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": head + self._tail(), "more_body": False})


def whole_multipart(bodies: Sequence[Buffer], content_type: str) -> BytesResponse:
    """The answer of a few small parts of one content type that are in memory: sent in one piece, with its length."""
    boundary = secrets.token_hex(16)
    head = _head(boundary, content_type)
    pieces: list[Buffer] = []
    for body in bodies:
        pieces += (head, body, b"\r\n")
    return BytesResponse(b"".join([*pieces, _tail(boundary)]), f"multipart/related; boundary={boundary}")


def _head(boundary: str, content_type: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()


def _tail(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()
