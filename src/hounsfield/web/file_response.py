"""A whole local file as the body, sent by the server without passing through Python where it can."""

from pathlib import Path

from starlette.types import Receive, Scope, Send

CHUNK = 256 * 1024


class WholeFileResponse:
    """ASGI response of one local file of known size; uses ``http.response.pathsend`` if the server offers it."""

    def __init__(self, path: Path, size: int, content_type: str) -> None:
        self._path = path
        self._size = size
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", self._content_type.encode()),
            (b"content-length", str(self._size).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if "http.response.pathsend" in scope.get("extensions", {}):
            await send({"type": "http.response.pathsend", "path": str(self._path)})
            return
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
