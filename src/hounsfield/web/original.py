"""The header that asks for instances as they were before any bulk update (retrieve.md §9)."""

from starlette.requests import Request

ORIGINAL_HEADER = "msdicom-request-original"


def wants_original(request: Request) -> bool:
    """Whether the first value of the header is ``true``, in any case; anything else is as if it were not there."""
    return request.headers.get(ORIGINAL_HEADER, "").strip().lower() == "true"
