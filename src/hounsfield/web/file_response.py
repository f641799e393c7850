"""One file or frame as the body, with as little work as its place allows."""

from collections.abc import Sequence
from pathlib import Path

from starlette.types import Receive, Scope, Send

from hounsfield.storage.object_store import Buffer

CHUNK = 256 * 1024

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Further headers as ASGI has them, names in lower case."""


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


class LocalFileResponse:
    """ASGI response of a local file, sent by the server without passing through Python where it can."""

    def __init__(self, path: Path, size: int, content_type: str, headers: RawHeaders = ()) -> None:
        self._path = path
        self._size = size
        self._content_type = content_type
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(_start(self._size, self._content_type, self._headers))
        if "http.response.pathsend" in scope.get("extensions", {}):
            await send({"type": "http.response.pathsend", "path": str(self._path)})
            return
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _start(size: int, content_type: str, more: RawHeaders, status: int = 200) -> dict[str, object]:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(size).encode()), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}
