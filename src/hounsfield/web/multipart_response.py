"""multipart/related answers, streamed (retrieve.md §4)."""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from hounsfield.storage.descriptor import FileRange
from hounsfield.storage.object_store import Buffer
from hounsfield.web.file_response import BytesResponse, body_message

JOIN_BYTES = 64 * 1024
"""A part's head travels with its first bytes unless copying them would cost more than another message."""
PART_END = b"\r\n"
"""Follows the content of every part."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content type, its bytes as they come, and its own address."""

    content_type: str
    chunks: AsyncIterator[Buffer]
    location: str | None = None


class Framing:
    """What stands around the parts of one answer: each is ``head``, content, PART_END; ``end`` follows the last."""

    def __init__(self) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/related; boundary={boundary}"
        self.end = f"--{boundary}--\r\n".encode()
        self._boundary = boundary
        self._heads: dict[str, bytes] = {}

    def head(self, content_type: str, location: str | None = None) -> bytes:
        """What precedes the content of a part of this type."""
        if location is not None:
            return (
                f"--{self._boundary}\r\nContent-Type: {content_type}\r\nContent-Location: {location}\r\n\r\n".encode()
            )
        head = self._heads.get(content_type)
        if head is None:
            head = f"--{self._boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
            self._heads[content_type] = head
        return head

    def length(self, sizes: Iterable[tuple[str, int]]) -> int:
        """Bytes of an answer whose parts have these content types and sizes."""
        return len(self.end) + sum(len(self.head(kind)) + size + len(PART_END) for kind, size in sizes)

    async def around(self, parts: AsyncIterator[Part]) -> AsyncIterator[Buffer]:
        """The framed parts, without ``end``."""
        head = b""
        async for part in parts:
            head += self.head(part.content_type, part.location)
            async for chunk in part.chunks:
                if head and len(chunk) > JOIN_BYTES:
                    yield head
                    head = b""
                yield head + chunk if head else chunk
                head = b""
            head += PART_END
        if head:
            yield head


class MultipartResponse:
    """ASGI response of framed parts that are produced while they are sent.

    A failure while streaming is raised, which ends the connection: never a short but well-formed body.
    """

    def __init__(self, framing: Framing, pieces: AsyncIterator[Buffer | FileRange], *, length: int | None) -> None:
        """``pieces`` are parts framed by ``framing``; ``length`` is that of the whole body, None if not known."""
        self._framing = framing
        self._pieces = pieces
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._framing.content_type.encode())]
        if self._length is not None:
            headers.append((b"content-length", str(self._length).encode()))
        # Sent with the first bytes, so that what fails before them is still answered as an error.
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": headers}
        async for piece in self._pieces:
            if start is not None:
                await send(start)
                start = None
            await send(body_message(piece, more=True))
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": self._framing.end, "more_body": False})


def whole_multipart(bodies: Sequence[Buffer], content_type: str) -> BytesResponse:
    """The answer of a few small parts of one content type that are in memory: sent in one piece, with its length."""
    framing = Framing()
    pieces: list[Buffer] = []
    for body in bodies:
        pieces += (framing.head(content_type), body, PART_END)
    return BytesResponse(b"".join([*pieces, framing.end]), framing.content_type)
