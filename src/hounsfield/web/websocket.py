"""WebSockets (RFC 6455) on connections that the server lets be upgraded; the frames are websockets' work."""

from collections.abc import AsyncIterator, Iterable

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from hounsfield.errors import BadRequest, HounsfieldError

MAX_MESSAGE_BYTES = 4096
"""Of what a client sends, which has nothing to say."""
NORMAL, GOING_AWAY, REPLACED = 1000, 1001, 4000
"""Why a connection is closed (RFC 6455 §7.4)."""
_UPGRADE = "hounsfield.upgrade"


class ForeignOrigin(HounsfieldError):
    """A page of another origin asks, which no policy lets in: browsers leave that to the server."""

    status = 403

    def __init__(self) -> None:
        super().__init__("Pages of this origin may not open connections here.")


def require_upgrade(request: Request) -> None:
    """Raise BadRequest unless the request opens a WebSocket (RFC 6455 §4.2.1)."""
    headers = request.headers
    if headers.get("upgrade", "").lower() != "websocket" or _UPGRADE not in request.scope.get("extensions", {}):
        raise BadRequest("A notification connection is a WebSocket: the request must ask for that upgrade.")
    if headers.get("sec-websocket-version") != "13" or len(headers.get("sec-websocket-key", "")) != 24:
        raise BadRequest("The request must have Sec-WebSocket-Version 13 and a Sec-WebSocket-Key.")


class WebSocket:
    """One WebSocket, the server's end. Sending raises OSError when the client has gone."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not before: it is loaded only where somebody listens.
        from websockets.protocol import Protocol, Side, State

        self._scope = scope
        self._receive = receive
        self._send = send
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_MESSAGE_BYTES)

    async def accept(self) -> None:
        """Switch protocols."""
        from websockets.utils import accept_key

        keys = [value for name, value in self._scope["headers"] if name == b"sec-websocket-key"]
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_key(keys[0].decode("latin-1")).encode()),
        ]
        await self._send({"type": "http.response.start", "status": 101, "headers": headers})
        await self._write(b"")

    @property
    def is_open(self) -> bool:
        """Whether neither side has said that it is over."""
        return self._protocol.state.name == "OPEN"

    async def send(self, texts: Iterable[str], ping: bytes | None = None) -> None:
        """Send messages, and ask for a pong with a payload, which says that all that was sent before has arrived."""
        if self.is_open:
            for text in texts:
                self._protocol.send_text(text.encode())
            if ping is not None:
                self._protocol.send_ping(ping)
        await self._flush()

    async def close(self, code: int) -> None:
        """Say that it is over, and end the connection."""
        if self.is_open:
            self._protocol.send_close(code)
        await self._flush()
        message: Message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def pongs(self) -> AsyncIterator[bytes]:
        """Payloads of the pongs that come; ends with the connection."""
        from websockets.frames import Frame, Opcode

        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return
            self._protocol.receive_data(message["body"])
            for frame in self._protocol.events_received():
                if isinstance(frame, Frame) and frame.opcode is Opcode.PONG:
                    yield bytes(frame.data)
            await self._flush()
            if not self.is_open:
                return

    async def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
