"""multipart/related answers, streamed (retrieve.md §4)."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content type and its bytes as they come."""

    content_type: str
    chunks: AsyncIterator[bytes]


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
        return f"--{self._boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()

    def _tail(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

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
                await send({"type": "http.response.body", "body": head + chunk if head else chunk, "more_body": True})
                head = b""
            head += b"\r\n"
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": head + self._tail(), "more_body": False})
