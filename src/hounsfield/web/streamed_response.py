"""An answer that is produced while it is sent."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Message, Receive, Scope, Send

from hounsfield.storage.object_store import Buffer
from hounsfield.web.file_response import Piece, RawHeaders, body_message

Pieces = AsyncGenerator[Piece, None] | AsyncGenerator[Buffer, None]
"""What an answer is made of, in order."""

GATHERED_BYTES = 128 * 1024
"""Small pieces are sent together up to this size: a message costs as much as copying them."""


async def gathered(pieces: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    """The same bytes in fewer pieces."""
    waiting: list[Buffer] = []
    size = 0
    async with aclosing(pieces):
        async for piece in pieces:
            if waiting and size + len(piece) > GATHERED_BYTES:
                yield b"".join(waiting)
                waiting.clear()
                size = 0
            if len(piece) > GATHERED_BYTES:
                yield piece
            else:
                waiting.append(piece)
                size += len(piece)
    if waiting:
        yield b"".join(waiting)


class StreamedResponse:
    """ASGI response of pieces as they come.

    A failure while streaming is raised, which ends the connection: never a short but well-formed body. However it
    ends, ``pieces`` are closed, so that what they hold open does not wait for the garbage collector.
    """

    def __init__(
        self,
        pieces: Pieces,
        content_type: str,
        *,
        end: bytes = b"",
        length: int | None = None,
        status: int = 200,
        headers: RawHeaders = (),
    ) -> None:
        """``end`` follows the last piece; ``length`` is that of the whole body in bytes, None if it is not known."""
        self._pieces = pieces
        self._end = end
        self._status = status
        self._headers = [(b"content-type", content_type.encode())]
        if length is not None:
            self._headers.append((b"content-length", str(length).encode()))
        self._headers += headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Sent with the first bytes, so that what fails before them is still answered as an error.
        start: Message | None = {"type": "http.response.start", "status": self._status, "headers": self._headers}
        async with aclosing(self._pieces):
            async for piece in self._pieces:
                if start is not None:
                    await send(start)
                    start = None
                await send(body_message(piece, more=True))
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": self._end, "more_body": False})
