"""Rendering errors: text/plain with the message alone (server.md §3). The only place that turns errors into answers."""

import logging
import traceback

from starlette.responses import PlainTextResponse, Response

from hounsfield.errors import HounsfieldError

logger = logging.getLogger(__name__)

INTERNAL_ERROR = (
    "The server encountered an internal error. Please retry the request. If the issue persists, please contact support."
)


def render(error: Exception) -> Response:
    """The answer to a request that raised ``error``. What we did not expect is logged, without request content."""
    if isinstance(error, HounsfieldError) and error.status != 500:
        if not error.message:
            return Response(status_code=error.status)
        return PlainTextResponse(error.message, status_code=error.status)
    # Class and place, not the text: messages of libraries may quote values, and those may be patient data.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("Unexpected error: %s\n%s", type(error).__name__, place)
    return PlainTextResponse(INTERNAL_ERROR, status_code=500)
