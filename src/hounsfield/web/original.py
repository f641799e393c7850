"""The header that asks for instances as they were before any bulk update (retrieve.md §9)."""

from starlette.requests import Request

HEADER = b"msdicom-request-original"


def wants_original(request: Request) -> bool:
    """Whether the first value of the header is ``true``, in any case; anything else is as if it were not there."""
    for name, value in request.scope["headers"]:
        if name == HEADER:
            return bool(value.strip().lower() == b"true")
    return False
