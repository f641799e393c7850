"""multipart/related answers, streamed (retrieve.md §4)."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hounsfield.storage.object_store import Buffer
from hounsfield.web.file_response import BytesResponse
from hounsfield.web.streamed_response import Pieces, StreamedResponse

JOIN_BYTES = 64 * 1024
"""A part's head travels with its first bytes unless copying them would cost more than another message."""
PART_END = b"\r\n"
"""Follows the content of every part."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content type, its bytes as they come, their number where it is known, and its own address."""

    content_type: str
    chunks: AsyncIterator[Buffer]
    size: int | None = None
    location: str | None = None


class Framing:
    """What stands around the parts of one answer: each is ``head``, content, PART_END; ``end`` follows the last."""

    def __init__(self, part_type: str | None = None) -> None:
        """``part_type``: the media type of all parts, where the answer is to name it."""
        boundary = os.urandom(16).hex()
        named = "" if part_type is None else f'type="{part_type}"; '
        self.content_type = f"multipart/related; {named}boundary={boundary}"
        self.end = f"--{boundary}--\r\n".encode()
        self._boundary = boundary
        self._openings: dict[str, bytes] = {}

    def head(self, content_type: str, size: int | None = None, location: str | None = None) -> bytes:
        """What precedes the content of a part of this type and size in bytes."""
        opening = self._openings.get(content_type)
        if opening is None:
            opening = f"--{self._boundary}\r\nContent-Type: {content_type}\r\n".encode()
            self._openings[content_type] = opening
        if location is not None:
            opening += b"Content-Location: %b\r\n" % location.encode()
        return opening + (b"\r\n" if size is None else b"Content-Length: %d\r\n\r\n" % size)

    def length(self, sizes: Mapping[tuple[str, int], int]) -> int:
        """Bytes of an answer whose parts have these content types and sizes, each as often as it says, no address."""
        return len(self.end) + sum(
            count * (len(self.head(kind, size)) + size + len(PART_END)) for (kind, size), count in sizes.items()
        )

    def length_of(self, parts: Iterable[Part]) -> int | None:
        """Bytes of an answer with these parts; None if the size of one is not known."""
        total = len(self.end)
        for part in parts:
            if part.size is None:
                return None
            total += len(self.head(part.content_type, part.size, part.location)) + part.size + len(PART_END)
        return total

    async def around(self, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[Buffer, None]:
        """The framed parts, without ``end``."""
        head = b""
        async with aclosing(parts):
            async for part in parts:
                head += self.head(part.content_type, part.size, part.location)
                async for chunk in part.chunks:
                    if head and len(chunk) > JOIN_BYTES:
                        yield head
                        head = b""
                    yield head + chunk if head else chunk
                    head = b""
                head += PART_END
        if head:
            yield head


class MultipartResponse(StreamedResponse):
    """ASGI response of framed parts that are produced while they are sent; see StreamedResponse."""

    def __init__(self, framing: Framing, pieces: Pieces, *, length: int | None) -> None:
        """``pieces`` are parts framed by ``framing``; ``length`` is that of the whole body, None if not known."""
        super().__init__(pieces, framing.content_type, end=framing.end, length=length)


def whole_multipart(bodies: Sequence[Buffer], content_type: str) -> BytesResponse:
    """The answer of a few small parts of one content type that are in memory: sent in one piece, with its length."""
    framing = Framing()
    pieces: list[Buffer] = []
    for body in bodies:
        pieces += (framing.head(content_type, len(body)), body, PART_END)
    return BytesResponse(b"".join([*pieces, framing.end]), framing.content_type)
