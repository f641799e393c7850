"""Beginning and end of an ASGI application (ASGI lifespan protocol 2.0)."""

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Send


async def lifespan(receive: Receive, send: Send, close: Callable[[], Awaitable[None]]) -> None:
    """Answer the server's two messages; ``close`` is awaited before the second."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await close()
            await send({"type": "lifespan.shutdown.complete"})
            return
