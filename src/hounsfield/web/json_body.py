"""Request bodies in JSON as the reference reads them: with comments and trailing commas (operations.md)."""

import re
from typing import Any

import msgspec
from starlette.requests import Request

from hounsfield.errors import BadRequest
from hounsfield.web.content_type import require_media_type
from hounsfield.web.request_body import small_body

MAX_BYTES = 1024 * 1024
"""Of such a body, unless more is said: thousands of entries of what we read, and no burden to parse."""

_STRING = r'"(?:[^"\\]|\\.)*+"'
_COMMENT = re.compile(rf"({_STRING})|/\*.*?\*/|//[^\r\n]*", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[\]}}])", re.DOTALL)


def require_json(request: Request) -> None:
    """Raise UnsupportedMediaType unless the body says that it is application/json."""
    require_media_type(request.headers.get("content-type"), "application/json")


async def json_body(request: Request, limit: int = MAX_BYTES) -> Any:
    """The value a request sends. Raises BadRequest if it is not JSON, PayloadTooLarge beyond ``limit`` bytes."""
    body = await small_body(request, limit)
    try:
        return parse(body.decode("utf-8-sig"))
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise BadRequest("The request body is not valid JSON.") from error


def parse(text: str) -> Any:
    """The value of a JSON text. Raises msgspec.DecodeError and RecursionError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # Only now, and not in large bodies, as it takes fifty times as long.
        if len(text) > MAX_BYTES:
            raise
        return msgspec.json.decode(_without_extras(text))


def _without_extras(text: str) -> str:
    bare = _COMMENT.sub(lambda found: found[1] or " ", text)
    return _TRAILING_COMMA.sub(lambda found: found[1] or "", bare)


def members(value: dict[str, Any]) -> dict[str, Any]:
    """The members of an object by their names in lower case; of several alike the last counts."""
    return {name.lower(): member for name, member in value.items()}
