"""One file or frame as the body, with as little work as its place allows."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

from hounsfield.storage.descriptor import Descriptor, FileRange
from hounsfield.storage.object_store import Buffer

SENT_BY_SERVER = 64 * 1024
"""Files from this size on are worth opening for the server to send; smaller ones are copied."""

CHUNK = 256 * 1024

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Further headers as ASGI has them, names in lower case."""


FramedRange = tuple[bytes, FileRange]
"""Bytes, and the part of a file that stands behind them."""


@dataclass(frozen=True, slots=True)
class FileRun:
    """Parts of files, one behind the other: at least one. They may be opened as they are sent."""

    parts: Iterable[FramedRange]


Piece = Buffer | FileRun
"""Of a body."""


class BytesResponse:
    """ASGI response of bytes that are already in memory."""

    def __init__(self, body: Buffer, content_type: str, headers: RawHeaders = (), *, status: int = 200) -> None:
        self._body = body
        self._content_type = content_type
        self._headers = headers
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(_start(len(self._body), self._content_type, self._headers, self._status))
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


class FileRangeResponse:
    """ASGI response of part of a file that the server sends without it passing through Python; see ``sends_files``."""

    def __init__(self, part: FileRange, content_type: str, headers: RawHeaders = (), *, status: int = 200) -> None:
        self._part = part
        self._content_type = content_type
        self._headers = headers
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(_start(self._part.length, self._content_type, self._headers, self._status))
        await send(body_message(FileRun([(b"", self._part)]), more=False))


class FilePartsResponse:
    """ASGI response of parts of files that the server sends, and of ``end``, which follows the last."""

    def __init__(self, parts: Sequence[FramedRange], end: bytes, content_type: str) -> None:
        """``parts``: at least one."""
        self._parts = parts
        self._end = end
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(before) + part.length for before, part in self._parts) + len(self._end)
        await send(_start(size, self._content_type, ()))
        await send(body_message(FileRun(self._parts), more=False, after=self._end))


class LocalFileResponse:
    """ASGI response of a whole local file of ``size`` bytes."""

    def __init__(self, path: Path, size: int, content_type: str) -> None:
        self._path = path
        self._size = size
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = Descriptor(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
        await send(_start(self._size, self._content_type, ()))
        if sends_files(scope):
            await send(body_message(FileRun([(b"", FileRange(file, 0, self._size))]), more=False))
            return
        for offset in range(0, self._size, CHUNK):
            await send(body_message(os.pread(file.number, CHUNK, offset), more=True))
        await send(body_message(b"", more=False))


def sends_files(scope: Scope) -> bool:
    """Whether the server can send parts of files by itself (extension ``hounsfield.files``; see serving.exchange)."""
    return "hounsfield.files" in scope.get("extensions", {})


def body_message(piece: Piece, *, more: bool, after: bytes = b"") -> Message:
    """The ASGI message of a piece of a body; ``after`` follows parts of files."""
    if isinstance(piece, FileRun):
        return {"type": "hounsfield.files", "parts": piece.parts, "after": after, "more_body": more}
    return {"type": "http.response.body", "body": piece, "more_body": more}


def _start(size: int, content_type: str, more: RawHeaders, status: int = 200) -> dict[str, object]:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(size).encode()), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}
