"""What holds for every request and response of the server: refused query strings, security headers."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "frame-src 'self';",
}
"""Sent on every response (server.md §2)."""
_RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Surface:
    """Outermost ASGI layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_RAW]
            await send(message)

        query: bytes = scope["query_string"]
        if query and (b"<" in query or b"%3c" in query.lower()):
            refusal = PlainTextResponse("The query string included invalid characters.", status_code=400)
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)
