"""A request body, or the parts of a multipart one, into the spool. Nothing is processed before the whole body is in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from hounsfield.errors import BadRequest, PayloadTooLarge
from hounsfield.storage.spool import Spool, Upload
from hounsfield.web.multipart import MultipartReader, PartData, PartEnd, PartStart
from hounsfield.web.request_body import MAX_BODY_BYTES, request_body

Admit = Callable[[Mapping[str, str], int], int]
"""(headers of a part, how many came before) → the bytes it may have; raises what refuses the request."""


@dataclass(frozen=True, slots=True)
class SpooledPart:
    """One complete part; ``headers`` as multipart.PartStart has them. The upload is the SpooledBody's to discard."""

    headers: Mapping[str, str]
    upload: Upload


class SpooledBody:
    """What was received of one body. Whoever makes it discards it.

    Reading raises BadRequest, PayloadTooLarge, UnsupportedMediaType, StoreUnavailable.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._current: Upload | None = None
        self._headers: Mapping[str, str] = {}
        self._max_bytes = 0
        self.parts: list[SpooledPart] = []

    async def read_single(self, request: Request, max_bytes: int) -> None:
        """Receive a body that is one part by itself."""
        self._begin({}, max_bytes)
        if _declared(request) > max_bytes:
            raise _too_large(max_bytes)
        try:
            async for chunk in request_body(request):
                await self._write(chunk)
        except ClientDisconnect as error:
            raise _cut_off() from error
        await self._end()

    async def read_multipart(self, request: Request, boundary: bytes, admit: Admit) -> None:
        """Receive all parts of a multipart body."""
        reader = MultipartReader(boundary)
        received = 0
        if _declared(request) > MAX_BODY_BYTES:
            raise _body_too_large()
        try:
            async for chunk in request_body(request):
                received += len(chunk)
                if received > MAX_BODY_BYTES:
                    raise _body_too_large()
                for event in reader.feed(chunk):
                    if isinstance(event, PartData):
                        await self._write(event.data)
                    elif isinstance(event, PartStart):
                        self._begin(event.headers, admit(event.headers, len(self.parts)))
                    elif isinstance(event, PartEnd):
                        await self._end()
        except ClientDisconnect as error:
            raise _cut_off() from error
        reader.finish()

    def discard(self) -> None:
        """Drop whatever was spooled and not stored."""
        for part in self.parts:
            part.upload.discard()
        if self._current is not None:
            self._current.discard()

    def _begin(self, headers: Mapping[str, str], max_bytes: int) -> None:
        self._headers, self._max_bytes = headers, max_bytes
        self._current = self._spool.receive()

    async def _write(self, chunk: bytes | memoryview) -> None:
        assert self._current is not None
        if self._current.size + len(chunk) > self._max_bytes:
            raise _too_large(self._max_bytes)
        await self._current.write(chunk)

    async def _end(self) -> None:
        assert self._current is not None
        await self._current.finish()
        self.parts.append(SpooledPart(self._headers, self._current))
        self._current = None


def _declared(request: Request) -> int:
    """How many bytes the client says it will send; 0 where it does not, or where they decode to another number.

    One that waits for leave to send gigabytes is told at once that they are too many.
    """
    headers = request.headers
    return 0 if "content-encoding" in headers else int(headers.get("content-length", 0))


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request exceeded the allowed limit of {max_bytes} bytes.")


def _body_too_large() -> BadRequest:
    return BadRequest(f"The request body exceeds the limit of {MAX_BODY_BYTES} bytes.")


def _cut_off() -> BadRequest:
    return BadRequest("The request body ended before it was complete.")
