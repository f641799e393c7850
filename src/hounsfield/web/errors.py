"""Rendering errors: text/plain with the message alone (server.md §3). The only place that turns errors into answers."""

import logging
import traceback
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from hounsfield.errors import HounsfieldError, StoreUnavailable

logger = logging.getLogger(__name__)

DRAINED_BYTES = 16 * 1024 * 1024
"""How much of a refused request is read and thrown away; beyond it the connection is closed."""

INTERNAL_ERROR = (
    "The server encountered an internal error. Please retry the request. If the issue persists, please contact support."
)
UNAVAILABLE = "The data store operation failed."


def render(error: Exception) -> Response:
    """The answer to a request that raised ``error``. What we did not expect is logged, without request content."""
    if isinstance(error, HounsfieldError) and error.status != 500:
        if not error.message:
            return Response(status_code=error.status, headers=error.headers)
        text = f"{UNAVAILABLE} {error.message}" if isinstance(error, StoreUnavailable) else error.message
        return PlainTextResponse(text, status_code=error.status, headers=error.headers)
    # Class and place, not the text: messages of libraries may quote values, and those may be patient data.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("Unexpected error: %s\n%s", type(error).__name__, place)
    return PlainTextResponse(INTERNAL_ERROR, status_code=500)


async def drain(request: Request) -> None:
    """Read what a refused request still sends: a client that listens only afterwards would see a broken connection."""
    if request.method in ("GET", "HEAD", "DELETE") or "expect" in request.headers:
        return  # no body to speak of, or the client waits for leave to send it
    left = DRAINED_BYTES
    # RuntimeError: the body had been read to its end.
    with suppress(ClientDisconnect, RuntimeError):
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return
